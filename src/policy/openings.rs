//! When a number may be rung from any moment on: the windows that hold for it, without the days of their calendars, in the zones that
//! it may be in.
//!
//! Invariant: nothing is told of more openings than four hundred; what lies beyond them nobody knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{
    hours::{Stretch, both},
    window::{Span, Window},
};

/// Days looked at in one go.
const CHUNK_DAYS: u64 = 10;
/// So many times in vain; then the windows count as ones that do not open any more.
const CHUNKS: u64 = 40;
/// Openings that are looked at for one answer.
const MOST: usize = 400;

/// The days of each of a business's calendars.
pub type Calendars = BTreeMap<String, BTreeSet<NaiveDate>>;

/// The times to call of numbers that may be in the same zones.
#[derive(Debug, Clone)]
pub struct Openings {
    /// Each with the days of its calendars. None where one of those is gone: nobody knows its days, and each may be one of them.
    windows: Option<Vec<(Window, BTreeSet<NaiveDate>)>>,
    zones: Vec<Tz>,
    at_end: TimeDelta,
    at_least: TimeDelta,
}

impl Openings {
    /// Those that all of `windows` allow in all of `zones`, or in `home` where no zone is known.
    #[must_use]
    pub fn new<'a>(
        windows: impl IntoIterator<Item = &'a Window>,
        calendars: &Calendars,
        zones: &[String],
        home: Option<&String>,
    ) -> Self {
        let with_days = |window: &Window| {
            let days: Option<Vec<_>> = window.calendars.iter().map(|name| calendars.get(name)).collect();
            Some((window.clone(), days?.into_iter().flatten().copied().collect()))
        };
        let zones = zones.iter().chain(home.filter(|_| zones.is_empty()));
        // A zone that this program does not know keeps the number from being called.
        let zones: Option<Vec<Tz>> = zones.map(|name| name.parse().ok()).collect();
        Self {
            windows: windows.into_iter().map(with_days).collect(),
            zones: zones.unwrap_or_default(),
            at_end: TimeDelta::zero(),
            at_least: TimeDelta::zero(),
        }
    }

    /// The same, each over so much earlier; without those that are no longer than that.
    #[must_use]
    pub fn without(self, at_end: Duration) -> Self {
        Self { at_end: TimeDelta::from_std(at_end).unwrap_or(TimeDelta::MAX), ..self }
    }

    /// Without those that are then no longer than this.
    #[must_use]
    pub fn longer_than(self, at_least: Duration) -> Self {
        Self { at_least: TimeDelta::from_std(at_least).unwrap_or(TimeDelta::MAX), ..self }
    }

    /// The opening at a moment, or the next one after it.
    #[must_use]
    pub fn span(&self, at: DateTime<Utc>) -> Span {
        match self.ahead(at).next() {
            Some((opens, closes)) if self.is_limited() => Span::Within(opens, closes),
            Some(_) => Span::Always,
            None => Span::Never,
        }
    }

    /// The first time from a moment on that is within an opening.
    #[must_use]
    pub fn first(&self, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.ahead(from).next().map(|(opens, _)| opens.max(from))
    }

    /// When calls that take so long together are over, if they are made within the openings from a moment on.
    #[must_use]
    pub fn over_at(&self, needed: TimeDelta, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut left = needed;
        for (opens, closes) in self.ahead(from).take(MOST) {
            let begins = opens.max(from);
            let open = closes - begins;
            if left <= open {
                return begins.checked_add_signed(left);
            }
            left -= open.max(TimeDelta::zero());
        }
        None
    }

    /// When calls are over that take so many seconds each, of which no more than `left` can be made until `day_ends`, and no more than
    /// `per_day` in each day after it.
    #[must_use]
    pub fn over_by_days(
        &self,
        (calls, secs_each): (i64, f64),
        (mut left, per_day): (i64, i64),
        mut day_ends: DateTime<Utc>,
        from: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let (mut calls, mut at) = (calls, from);
        for _ in 0..MOST {
            let begins = self.first(at)?;
            if begins >= day_ends {
                let days = (begins - day_ends).num_days() + 1;
                (left, day_ends) = (per_day, day_ends.checked_add_signed(TimeDelta::try_days(days)?)?);
            }
            if calls <= left {
                return self.over_at(TimeDelta::try_seconds((secs_each * calls as f64).ceil() as i64)?, begins);
            }
            (calls, at) = (calls - left, day_ends);
        }
        None
    }

    fn is_limited(&self) -> bool {
        self.windows.as_ref().is_none_or(|windows| !windows.is_empty())
    }

    /// The openings from a moment on; the first of them may have begun before it. There is no more where none is found for a year.
    fn ahead(&self, at: DateTime<Utc>) -> impl Iterator<Item = Stretch> + '_ {
        let always = (!self.is_limited()).then_some((at, DateTime::<Utc>::MAX_UTC));
        let at = at.checked_add_signed(self.at_end).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let days = (0..).map_while(move |n: u64| at.date_naive().checked_add_days(Days::new(n * CHUNK_DAYS)));
        let (mut in_vain, mut told) = (0, at);
        let chunks = days.map(|day| self.chunk(day)).take_while(move |found| {
            in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
            in_vain < CHUNKS
        });
        // The days of two chunks overlap.
        let within = chunks.flatten().filter_map(move |(opens, closes)| {
            let begins = if told > at { opens.max(told) } else { opens };
            let is_new = closes > told;
            told = told.max(closes);
            is_new.then(|| (begins, closes - self.at_end))
        });
        always.into_iter().chain(within)
    }

    /// What all windows allow in some days that is long enough.
    fn chunk(&self, first: NaiveDate) -> Vec<Stretch> {
        let mut each = self.windows.iter().flatten().map(|(window, days)| {
            let closed = days.iter().chain(&window.blackout_dates).copied().collect();
            window.stretches(&closed, &self.zones, (first, CHUNK_DAYS))
        });
        let found = each.next().unwrap_or_default();
        let mut found = each.fold(found, |found, other| both(&found, &other));
        let too_short = self.at_end.checked_add(&self.at_least).unwrap_or(TimeDelta::MAX);
        found.retain(|(opens, closes)| *closes - *opens > too_short);
        found
    }
}
