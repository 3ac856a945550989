//! When a run will be over: its rest at the pace of its last calls, within the hours that it dials in.
//!
//! Invariant: what waits or sleeps is never said to be over before it may be dialed. Where nothing may be dialed nothing is said.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::progress::StateCounts;
use crate::{clock::Time, policy::window::over_at};

/// Calls that have ended before a pace is believed.
const BELIEVED_AFTER: i64 = 10;

/// How fast a run dials, and when it may: what `pace_of_run` says.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Pace {
    /// Calls that ended.
    ends: i64,
    /// In so many seconds.
    secs: f64,
    /// The moment by the clock of the windows.
    now: DateTime<Utc>,
    /// When its window opened, where it has one.
    opens: Option<DateTime<Utc>>,
    closes: Option<DateTime<Utc>>,
    /// When the last of what sleeps or waits may be dialed.
    last_begins: Option<DateTime<Utc>>,
}

impl Pace {
    /// When these jobs will be over, of which `attempts` were dialed, a number no oftener than `most`; no later than the run's end.
    pub(super) fn eta(&self, states: &StateCounts, (attempts, most): (i64, i64), end_at: Option<Time>) -> Option<Time> {
        let left = states.queued + states.waiting + states.dialing;
        if self.ends < BELIEVED_AFTER || states.queued + states.dialing == 0 {
            return None;
        }
        // A number that is tried again takes several calls.
        let dialed = (states.completed + states.unreached + states.failed).max(1);
        let each = (attempts as f64 / dialed as f64).clamp(1.0, most.max(1) as f64);
        let secs = self.secs * left as f64 * each / self.ends as f64;
        let at_pace = over_at(self.opens.zip(self.closes), TimeDelta::try_seconds(secs.ceil() as i64)?, self.now)?;
        let over = self.last_begins.map_or(at_pace, |begins| at_pace.max(begins));
        Some(Time(end_at.map_or(over, |end| over.min(end.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(secs)
    }

    fn pace() -> Pace {
        Pace { ends: 10, secs: 100.0, now: at(1_000), opens: None, closes: None, last_begins: None }
    }

    fn left(queued: i64) -> StateCounts {
        StateCounts { queued, completed: 8, unreached: 2, ..StateCounts::default() }
    }

    #[test]
    fn the_rest_takes_as_long_as_the_last_calls_took_and_longer_where_numbers_are_tried_again() {
        assert_eq!(pace().eta(&left(30), (10, 1), None), Some(Time(at(1_300))));
        assert_eq!(pace().eta(&left(30), (20, 5), None), Some(Time(at(1_600))));
        assert_eq!(pace().eta(&left(30), (90, 3), None), Some(Time(at(1_900))));
        assert_eq!(pace().eta(&left(30), (10, 1), Some(Time(at(1_200)))), Some(Time(at(1_200))), "its end comes first");
    }

    #[test]
    fn nothing_is_said_after_a_handful_of_calls_or_where_all_that_is_left_waits() {
        assert_eq!(Pace { ends: 9, ..pace() }.eta(&left(30), (9, 1), None), None);
        assert_eq!(pace().eta(&StateCounts { waiting: 3, ..left(0) }, (10, 2), None), None);
        assert_eq!(pace().eta(&left(0), (10, 1), None), None);
    }

    #[test]
    fn what_is_beyond_the_closing_goes_on_the_next_day_and_what_begins_late_ends_no_earlier() {
        let hours = Pace { opens: Some(at(0)), closes: Some(at(1_100)), ..pace() };
        assert_eq!(hours.eta(&left(10), (10, 1), None), Some(Time(at(1_100))));
        assert_eq!(hours.eta(&left(30), (10, 1), None), Some(Time(at(86_400 + 200))));
        let late = Pace { last_begins: Some(at(5_000)), ..pace() };
        assert_eq!(late.eta(&left(30), (10, 1), None), Some(Time(at(5_000))));
    }
}
