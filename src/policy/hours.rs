//! Sets of time as lists of stretches, and the stretches that the hours of a week allow in one zone.

use std::collections::BTreeSet;

use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc, Weekday,
};
use chrono_tz::Tz;

/// From a moment on, until before another.
pub type Stretch = (DateTime<Utc>, DateTime<Utc>);

/// Minutes of a day that are allowed on some days of the week: from the first on, until before the second (at most 1,440).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daily {
    /// On which days.
    pub days: Vec<Weekday>,
    /// First minute of the day.
    pub from: u32,
    /// Minute that is not allowed any more.
    pub to: u32,
}

/// The moments of the local days from `first` on, `days` of them, that `daily` allows in `zone`, without the dates in `closed`.
/// Sorted, and apart from each other.
///
/// Where clocks are put back a time of day comes twice: a stretch begins with its second and ends before its first coming. Where
/// they are put forward some times never come: then it begins or ends where the clocks jump.
#[must_use]
pub fn stretches(daily: &[Daily], closed: &BTreeSet<NaiveDate>, zone: Tz, first: NaiveDate, days: u64) -> Vec<Stretch> {
    let dates = (0..days).filter_map(|n| first.checked_add_days(Days::new(n))).filter(|date| !closed.contains(date));
    let mut found: Vec<Stretch> = dates
        .flat_map(|date| daily.iter().filter(move |one| one.days.contains(&date.weekday())).map(move |one| (date, one)))
        .filter_map(|(date, one)| {
            let (from, to) = (moment(zone, date, one.from, true)?, moment(zone, date, one.to, false)?);
            (from < to).then_some((from, to))
        })
        .collect();
    found.sort_unstable();
    merged(found)
}

/// The moment at which a minute of a local day comes.
fn moment(zone: Tz, date: NaiveDate, minute: u32, begins: bool) -> Option<DateTime<Utc>> {
    let date = if minute == 1_440 { date.checked_add_days(Days::new(1))? } else { date };
    let time = NaiveTime::from_num_seconds_from_midnight_opt((minute % 1_440) * 60, 0)?;
    let local = NaiveDateTime::new(date, time);
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Some(at.to_utc()),
        LocalResult::Ambiguous(earlier, later) => Some(if begins { later } else { earlier }.to_utc()),
        // The jump lies within these hours: its end is the first moment whose local time is later.
        LocalResult::None => (1..=24 * 60).find_map(|minutes| {
            zone.from_local_datetime(&(local + TimeDelta::minutes(minutes))).earliest().map(|at| at.to_utc())
        }),
    }
}

fn merged(sorted: Vec<Stretch>) -> Vec<Stretch> {
    let mut whole: Vec<Stretch> = Vec::with_capacity(sorted.len());
    for (from, to) in sorted {
        match whole.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => whole.push((from, to)),
        }
    }
    whole
}

/// What lies in both sets; each sorted and apart.
#[must_use]
pub fn both(one: &[Stretch], other: &[Stretch]) -> Vec<Stretch> {
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        let (from, to) = (a.0.max(b.0), a.1.min(b.1));
        if from < to {
            found.push((from, to));
        }
        if a.1 < b.1 { i += 1 } else { j += 1 }
    }
    found
}
