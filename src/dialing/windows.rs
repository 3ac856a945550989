//! Works out when the jobs of runs may be dialed, and writes it where the claim reads it.
//!
//! I11: the claim compares the moment with these times in its own transaction. A window that was changed makes them void at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{
    businesses::calling_rules,
    config::Settings,
    ids::{BusinessId, RunId},
    policy::{Span, Window, window::next_span},
    runs::{
        redial::Redial,
        zones::{self, Stale},
    },
};

/// What passes between a claim and the carrier's acceptance, at most: a claim is sent within 5 s, its request ends within 10 s.
const UNTIL_ACCEPTED: Duration = Duration::from_secs(15);

/// Sets of zones that are asked when a run may be dialed again.
const MOST_ZONE_SETS: i64 = 100;

/// What passes between a claim and the first ring, at most: a carrier may keep the call in its queue.
pub(crate) fn until_rung(settings: &Settings) -> Duration {
    UNTIL_ACCEPTED + Duration::from_secs(settings.carrier_queue_limit_secs)
}

/// Works out the times of one run.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_run(pg: &mut PgConnection, run: RunId, queue_limit: Duration) -> sqlx::Result<()> {
    for one in zones::stale(pg, Some(run)).await? {
        work_out(pg, &one, queue_limit).await?;
    }
    Ok(())
}

/// Works out what is stale: the sweep's part.
///
/// # Errors
/// Where Postgres does not answer.
pub(crate) async fn refresh(pg: &PgPool, queue_limit: Duration) -> sqlx::Result<()> {
    let mut pg = pg.acquire().await?;
    for one in zones::stale(&mut pg, None).await? {
        work_out(&mut pg, &one, queue_limit).await?;
    }
    Ok(())
}

async fn work_out(pg: &mut PgConnection, one: &Stale, queue_limit: Duration) -> sqlx::Result<()> {
    let windows: Vec<_> = one.window.iter().chain(&one.home).map(|window| &window.0).collect();
    let span = span(one, &windows, queue_limit);
    let detail = match (lacking(&windows, &one.calendars), span) {
        (Some(name), _) => format!("The window names the calendar {name}, which the business does not have."),
        (None, Span::Never) => "No time to call suits every zone that the number may be in.".to_owned(),
        (None, Span::Always | Span::Within(..)) => "The calling window is closed.".to_owned(),
    };
    zones::keep(pg, one, span, &detail).await
}

/// When a number of this run may first be rung, by the windows, from a moment in the time to come on: in the zones where that is soonest.
/// None where no window opens any more.
///
/// # Errors
/// Where Postgres does not answer.
pub(crate) async fn first_open(
    pg: impl PgExecutor<'_>,
    run: RunId,
    from: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let mut first = None;
    for mut one in zones::of_run(pg, run, MOST_ZONE_SETS).await? {
        one.now = from;
        let windows: Vec<_> = one.window.iter().chain(&one.home).map(|window| &window.0).collect();
        let opens = match span(&one, &windows, Duration::ZERO) {
            Span::Always => from,
            Span::Within(opens, _) => opens.max(from),
            Span::Never => continue,
        };
        first = Some(first.map_or(opens, |first: DateTime<Utc>| first.min(opens)));
    }
    Ok(first)
}

/// The first calendar that a window names and the business does not have.
fn lacking<'a>(windows: &[&'a Window], calendars: &BTreeMap<String, BTreeSet<NaiveDate>>) -> Option<&'a str> {
    let mut names = windows.iter().flat_map(|window| &window.calendars);
    names.find(|name| !calendars.contains_key(*name)).map(String::as_str)
}

/// The present or the next time to call, without what a carrier's queue may take at its end.
fn span(one: &Stale, windows: &[&Window], queue_limit: Duration) -> Span {
    let zones = one.zones.iter().chain(one.home_zone.iter().filter(|_| one.zones.is_empty()));
    // A zone that this program does not know keeps the number from being called.
    let zones: Option<Vec<Tz>> = zones.map(|name| name.parse().ok()).collect();
    until_before(windows, &one.calendars, &zones.unwrap_or_default(), one.now, UNTIL_ACCEPTED + queue_limit)
}

/// The same, with `at_end` left out of it.
fn until_before(
    windows: &[&Window],
    calendars: &BTreeMap<String, BTreeSet<NaiveDate>>,
    zones: &[Tz],
    now: DateTime<Utc>,
    at_end: Duration,
) -> Span {
    // Nobody knows the days of a calendar that is gone: each may be one of them.
    if lacking(windows, calendars).is_some() {
        return Span::Never;
    }
    let days_of = |window: &Window| -> BTreeSet<NaiveDate> {
        window.calendars.iter().filter_map(|name| calendars.get(name)).flatten().copied().collect()
    };
    let windows: Vec<_> = windows.iter().map(|window| (*window, days_of(window))).collect();
    match next_span(&windows, zones, now + at_end) {
        Span::Within(opens, closes) => Span::Within(opens, closes - at_end),
        other => other,
    }
}

/// The time to call at `at` or the next one after it, by the windows of a job's run and business.
pub(crate) fn of_redial(rules: &Redial, at: DateTime<Utc>, until_rung: Duration) -> Span {
    let windows: Vec<_> = rules.window.iter().chain(&rules.home).map(|window| &window.0).collect();
    let zones = rules.zones.iter().chain(rules.home_zone.iter().filter(|_| rules.zones.is_empty()));
    let zones: Option<Vec<Tz>> = zones.map(|name| name.parse().ok()).collect();
    let rings = Duration::from_secs(rules.ring_timeout_secs.unsigned_abs().into());
    until_before(&windows, &rules.calendars, &zones.unwrap_or_default(), at, until_rung + rings)
}

/// When a number may be rung for a business.
pub struct Hours {
    /// The present or the next time.
    pub span: Span,
    /// The moment by Postgres.
    pub now: DateTime<Utc>,
    /// The version of the business's window that this comes from.
    pub version: i64,
}

/// When a number in one of these zones may be rung for a business, by its own window; `rings` is what passes until it has stopped
/// to ring, at most.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_number(pg: &PgPool, business: BusinessId, zones: &[Tz], rings: Duration) -> sqlx::Result<Hours> {
    let home = calling_rules::home(pg, business).await?;
    let own: Vec<Tz> = home.zone.iter().filter_map(|name| name.parse().ok()).collect();
    let zones = if zones.is_empty() { &own } else { zones };
    let windows: Vec<_> = home.window.iter().collect();
    let span = until_before(&windows, &home.calendars, zones, home.now, UNTIL_ACCEPTED + rings);
    Ok(Hours { span, now: home.now, version: home.version })
}
