//! When a list would be dialed once: an estimate.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    ZoneTimes,
    facts::{Figures, Limits, Zone},
};
use crate::{clock::Time, policy::window::over_at};

/// When so many calls are over, `able` of which have not begun: if the zones with the most jobs are dialed whenever they are open, each
/// other one from its next opening on, what is held from its time on, and what the numbers to call from have no room for on other
/// days. None where nothing is to be dialed, or a time is beyond what can be told.
pub(super) fn all_dialed(zones: &[Zone], able: i64, all: i64, limits: &Limits) -> Option<Time> {
    let each = limits.secs_each()?;
    let (now, end) = (limits.at.0, limits.end_at.map(|end| end.0));
    let from = limits.start_at.map_or(now, |start| start.0.max(now));
    let mut dialed = zones.iter().filter(|zone| zone.shut.is_none());
    let first = &dialed.next().filter(|_| all > 0)?.times;
    let mut last = over(first, lasts(all, each)?, from)?;
    for zone in dialed {
        last = last.max(over(&zone.times, lasts(zone.able(), each)?, from)?);
    }
    // What is held comes last.
    let held = able - Figures::of(zones).free;
    for zone in zones.iter().filter(|zone| held > 0 && zone.shut.is_none()) {
        for later in &zone.held {
            last = last.max(over(&zone.times, lasts(later.jobs.min(held), each)?, later.first.0.max(from))?);
            last = last.max(over(&zone.times, lasts(1, each)?, later.last.0.max(from))?);
        }
    }
    if let (Some(left), Some(per_day)) = (limits.left_today, limits.per_day) {
        let rest = able - left;
        if rest > 0 && per_day > 0 {
            let days = (rest - 1) / per_day;
            let begins = limits.next_day.0.checked_add_signed(TimeDelta::try_days(days)?)?;
            last = last.max(over(first, lasts(rest - days * per_day, each)?, begins.max(from))?);
        }
    }
    Some(Time(end.map_or(last, |end| last.min(end.max(now)))))
}

fn lasts(jobs: i64, secs_per_job: f64) -> Option<TimeDelta> {
    TimeDelta::try_seconds((secs_per_job * jobs as f64).ceil() as i64)
}

fn over(zone: &ZoneTimes, needed: TimeDelta, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let hours = zone.opens_at.zip(zone.closes_at).map(|(opens, closes)| (opens.0, closes.0));
    over_at(hours, needed, from)
}
