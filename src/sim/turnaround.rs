//! How long a place stands free: from an end that was told to the next create, of an account or of a caller id.
//!
//! Invariant: places are taken in the order in which creates come, however long each is thought about.

use std::{collections::VecDeque, time::Instant};

use hdrhistogram::Histogram;

use super::figures::{Quantiles, quantiles};

/// The free places of an account or a caller id, and how long others stood free.
#[derive(Debug, Default)]
pub(crate) struct Turnaround {
    /// Ends whose place nobody has taken again yet, the oldest first.
    freed: VecDeque<Instant>,
    /// µs; made at the first sample.
    waits: Option<Histogram<u64>>,
}

/// What a create took: when it came, and since when its place was free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) received: Instant,
    pub(crate) of_from: Option<Instant>,
    pub(crate) of_account: Option<Instant>,
}

impl Place {
    /// How long a place stood free that was free from then on.
    pub(crate) fn waited_us(&self, freed: Option<Instant>) -> Option<u64> {
        freed.map(|freed| u64::try_from(self.received.duration_since(freed).as_micros()).unwrap_or(u64::MAX))
    }
}

impl Turnaround {
    /// One more place is free from now on.
    pub(crate) fn freed(&mut self, now: Instant) {
        self.freed.push_back(now);
    }

    /// Takes the place that is free for longest; says since when.
    pub(crate) fn take(&mut self) -> Option<Instant> {
        self.freed.pop_front()
    }

    /// A place that was taken by mistake: those that are free for longer are still taken first.
    pub(crate) fn free_again(&mut self, since: Option<Instant>) {
        if let Some(since) = since {
            let at = self.freed.partition_point(|freed| *freed < since);
            self.freed.insert(at, since);
        }
    }

    pub(crate) fn sample(&mut self, us: u64) {
        if self.waits.is_none() {
            // 1 µs to 1 h at three digits are legal bounds, so that this cannot fail. Bounds, because a histogram without
            // them clips what `saturating_record` is given.
            self.waits = Histogram::new_with_bounds(1, 3_600_000_000, 3).ok();
        }
        if let Some(histogram) = &mut self.waits {
            histogram.saturating_record(us);
        }
    }

    pub(crate) fn read(&self) -> Quantiles {
        self.waits.as_ref().map(quantiles).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::figures::{Tally, Whose};

    #[test]
    fn a_wait_is_shown_as_long_as_it_was() {
        let mut turnaround = Turnaround::default();
        for ms in [5, 50, 5_000] {
            turnaround.sample(ms * 1_000);
        }
        let shown = turnaround.read();
        assert_eq!((shown.count, shown.p50.round(), (shown.max / 10.0).round()), (3, 50.0, 500.0));
    }

    #[test]
    fn places_go_in_the_order_in_which_creates_come_and_not_in_that_of_their_answers() {
        let (mut tally, whose) = (Tally::new(), Whose { account: "AC1", from: "+12025550100" });
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let come = |tally: &mut Tally, ms| Place { received: at(ms), ..tally.place(whose) };
        tally.end_told(whose, at(0));
        tally.end_told(whose, at(50));
        let turned_away = come(&mut tally, 1);
        tally.give_back(whose, turned_away);
        let (first, second) = (come(&mut tally, 4), come(&mut tally, 54));
        tally.accepted(whose, "+12025550101", None, (second, at(100)));
        tally.accepted(whose, "+12025550102", None, (first, at(200)));
        for waited in [tally.figures().total, tally.figures().accounts["AC1"].clone()] {
            assert_eq!((waited.turnaround_ms.count, waited.turnaround_ms.max.round()), (2, 4.0));
        }
    }
}
