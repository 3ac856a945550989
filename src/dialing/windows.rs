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

/// When a number of this run may first be dialed, by the windows, from a moment in the time to come on, or from now on: in the zones where
/// that is soonest. None where no window opens any more.
///
/// # Errors
/// Where Postgres does not answer.
pub(crate) async fn first_open(
    pg: impl PgExecutor<'_>,
    run: RunId,
    from: Option<DateTime<Utc>>,
    until_rung: Duration,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let mut first = None;
    for one in zones::of_run(pg, run, MOST_ZONE_SETS).await? {
        let from = from.unwrap_or(one.now);
        let windows: Vec<_> = one.window.iter().chain(&one.home).map(|window| &window.0).collect();
        let at_end = until_rung + rings(one.ring_timeout_secs);
        let opens = match until_before(
            &windows,
            &one.calendars,
            &known(&one.zones, one.home_zone.as_ref()),
            from,
            (at_end, at_end),
        ) {
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

/// The present or the next time to call, without what a carrier's queue may take at its end. One that is too short to ring in is none.
fn span(one: &Stale, windows: &[&Window], queue_limit: Duration) -> Span {
    let at_end = UNTIL_ACCEPTED + queue_limit;
    let at_least = at_end + rings(one.ring_timeout_secs);
    until_before(windows, &one.calendars, &known(&one.zones, one.home_zone.as_ref()), one.now, (at_end, at_least))
}

/// The zones that a number may be in: where nobody knows any, that of its business. None where this program does not know one of them,
/// which keeps the number from being called.
fn known(zones: &[String], home: Option<&String>) -> Vec<Tz> {
    let names = zones.iter().chain(home.into_iter().filter(|_| zones.is_empty()));
    names.map(|name| name.parse().ok()).collect::<Option<Vec<Tz>>>().unwrap_or_default()
}

fn rings(ring_timeout_secs: i32) -> Duration {
    Duration::from_secs(ring_timeout_secs.unsigned_abs().into())
}

/// The same, with the first of `at_end` left out of it; and it is longer than the second.
fn until_before(
    windows: &[&Window],
    calendars: &BTreeMap<String, BTreeSet<NaiveDate>>,
    zones: &[Tz],
    now: DateTime<Utc>,
    (at_end, at_least): (Duration, Duration),
) -> Span {
    // Nobody knows the days of a calendar that is gone: each may be one of them.
    if lacking(windows, calendars).is_some() {
        return Span::Never;
    }
    let days_of = |window: &Window| -> BTreeSet<NaiveDate> {
        window.calendars.iter().filter_map(|name| calendars.get(name)).flatten().copied().collect()
    };
    let windows: Vec<_> = windows.iter().map(|window| (*window, days_of(window))).collect();
    match next_span(&windows, zones, now + at_end, at_least) {
        Span::Within(opens, closes) => Span::Within(opens, closes - at_end),
        other => other,
    }
}

/// The time to call at `at` or the next one after it, by the windows of a job's run and business.
pub(crate) fn of_redial(rules: &Redial, at: DateTime<Utc>, until_rung: Duration) -> Span {
    let windows: Vec<_> = rules.window.iter().chain(&rules.home).map(|window| &window.0).collect();
    let at_end = until_rung + rings(rules.ring_timeout_secs);
    until_before(&windows, &rules.calendars, &known(&rules.zones, rules.home_zone.as_ref()), at, (at_end, at_end))
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
    let at_end = UNTIL_ACCEPTED + rings;
    let span = until_before(&windows, &home.calendars, zones, home.now, (at_end, at_end));
    Ok(Hours { span, now: home.now, version: home.version })
}
