//! When a run will be over: its rest at the pace of its last calls, within the hours that it dials in.
//!
//! Invariant: what waits or sleeps is never said to be over before it may be dialed. Where nothing may be dialed nothing is said.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::progress::StateCounts;
use crate::{
    clock::Time,
    policy::{Calendars, Openings, Window},
};

/// Calls that have ended before a pace is believed.
const BELIEVED_AFTER: i64 = 10;

/// How fast a run dials, and when it may: what `pace_of_run` says.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pace {
    /// Calls that ended.
    ends: i64,
    /// In so many seconds.
    secs: f64,
    /// The moment by the clock of the windows.
    now: DateTime<Utc>,
    /// Of the zones that are open longest; none where it has no window.
    hours: Option<Hours>,
    /// When the last of what sleeps may be dialed.
    sleeps_until: Option<DateTime<Utc>>,
    /// Until when the last of what waits is held.
    waits_until: Option<DateTime<Utc>>,
}

/// All that decides when numbers may be dialed.
#[derive(Debug, Clone, Default, Deserialize)]
struct Hours {
    zones: Vec<String>,
    home: Option<String>,
    windows: Vec<Window>,
    calendars: Calendars,
}

impl Pace {
    /// When these jobs will be over, of which `attempts` were dialed, a number no oftener than `most`; no later than the run's end.
    pub(super) fn eta(self, states: &StateCounts, (attempts, most): (i64, i64), end_at: Option<Time>) -> Option<Time> {
        let left = states.queued + states.waiting + states.dialing;
        if self.ends < BELIEVED_AFTER || states.queued + states.dialing == 0 {
            return None;
        }
        // A number that is tried again takes several calls.
        let dialed = (states.completed + states.unreached + states.failed).max(1);
        let each = (attempts as f64 / dialed as f64).clamp(1.0, most.max(1) as f64);
        let secs = self.secs * left as f64 * each / self.ends as f64;
        let over = self.over(TimeDelta::try_seconds(secs.ceil() as i64)?);
        over.map(Time).into_iter().chain(end_at).min()
    }

    /// When calls are over that take so long; none where that is beyond what can be told.
    fn over(self, needed: TimeDelta) -> Option<DateTime<Utc>> {
        let hours = self.hours.unwrap_or_default();
        let openings = Openings::new(&hours.windows, &hours.calendars, &hours.zones, hours.home.as_ref());
        let waits_until = self.waits_until.map_or(self.now, |until| until.max(self.now));
        let at_pace = openings.over_at(needed, self.now)?;
        Some(at_pace.max(openings.first(waits_until)?).max(self.sleeps_until.unwrap_or(self.now)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(secs)
    }

    fn pace() -> Pace {
        Pace { ends: 10, secs: 100.0, now: at(1_000), hours: None, sleeps_until: None, waits_until: None }
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
    fn what_is_beyond_the_closing_goes_on_at_the_next_opening_and_what_begins_late_ends_no_earlier() {
        // The first day of Unix time was a Thursday.
        let hours = json!({"hours": [{"days": ["thu", "sat"], "from": "00:00", "to": "00:20"}], "zone": "UTC"});
        let hours = Hours { windows: vec![serde_json::from_value(hours).unwrap()], ..Hours::default() };
        let hours = Pace { hours: Some(hours), ..pace() };
        assert_eq!(hours.clone().eta(&left(10), (10, 1), None), Some(Time(at(1_100))));
        assert_eq!(hours.clone().eta(&left(30), (10, 1), None), Some(Time(at(2 * 86_400 + 100))));
        let waits = Pace { waits_until: Some(at(1_300)), ..hours };
        assert_eq!(waits.eta(&left(10), (10, 1), None), Some(Time(at(2 * 86_400))), "it waits until the next opening");
        let late = Pace { sleeps_until: Some(at(5_000)), ..pace() };
        assert_eq!(late.eta(&left(30), (10, 1), None), Some(Time(at(5_000))));
    }
}
