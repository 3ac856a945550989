//! When a list would be dialed once: an estimate.

use chrono::{DateTime, TimeDelta, Utc};

use super::facts::{Limits, Zone};
use crate::clock::Time;

/// When so many calls are over, `able` of which have not begun: if the zones with the most jobs are dialed whenever they are open, each
/// other one from its next opening on, what is held from its time on, and what the numbers to call from have no room for on other
/// days. No later than the run's end. None where nothing is to be dialed, or a time is beyond what can be told.
pub(super) fn all_dialed(zones: &[Zone], able: i64, all: i64, limits: &Limits) -> Option<Time> {
    let each = limits.secs_each()?;
    let dialed: Vec<_> = zones.iter().filter(|zone| zone.shut.is_none()).collect();
    let (first, others) = dialed.split_first().filter(|_| all > 0)?;
    let last = last_dialed((first, others), (able, all), each, limits);
    let end = limits.end_at.map(|end| end.max(limits.at));
    last.map(Time).into_iter().chain(end).min()
}

fn last_dialed(
    (first, others): (&Zone, &[&Zone]),
    (able, all): (i64, i64),
    each: f64,
    limits: &Limits,
) -> Option<DateTime<Utc>> {
    let from = limits.start_at.unwrap_or(limits.at).max(limits.at).0;
    let mut last = first.openings.over_at(lasts(all, each)?, from)?;
    for zone in others {
        last = last.max(zone.openings.over_at(lasts(zone.able(), each)?, from)?);
    }
    // What is held comes last.
    let held = able - (first.free + others.iter().map(|zone| zone.free).sum::<i64>());
    for zone in others.iter().chain([&first]).filter(|_| held > 0) {
        for later in &zone.held {
            last = last.max(zone.openings.over_at(lasts(later.jobs.min(held), each)?, later.first.0.max(from))?);
            last = last.max(zone.openings.over_at(lasts(1, each)?, later.last.0.max(from))?);
        }
    }
    if let (Some(left), Some(per_day)) = (limits.left_today, limits.per_day) {
        last = last.max(first.openings.over_by_days((able, each), (left, per_day), limits.next_day.0, from)?);
    }
    Some(last)
}

fn lasts(jobs: i64, secs_per_job: f64) -> Option<TimeDelta> {
    TimeDelta::try_seconds((secs_per_job * jobs as f64).ceil() as i64)
}
