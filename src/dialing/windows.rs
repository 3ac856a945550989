//! Works out when the jobs of runs may be dialed, and writes it where the claim reads it.
//!
//! I11: the claim compares the moment with these times in its own transaction. A window that was changed makes them void at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::{PgConnection, PgPool};

use crate::{
    businesses::calling_rules,
    config::Settings,
    ids::{BusinessId, RunId},
    policy::{Span, Window, window::next_span},
    runs::zones::{self, Stale},
};

/// What passes between a claim and the carrier's acceptance, at most: a claim is sent within 5 s, its request ends within 10 s.
const UNTIL_ACCEPTED: Duration = Duration::from_secs(15);

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
        let span = span(&one, queue_limit);
        zones::keep(pg, &one, span).await?;
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
        let span = span(&one, queue_limit);
        zones::keep(&mut pg, &one, span).await?;
    }
    Ok(())
}

/// The present or the next time to call, without what a carrier's queue may take at its end.
fn span(one: &Stale, queue_limit: Duration) -> Span {
    let zones = one.zones.iter().chain(one.home_zone.iter().filter(|_| one.zones.is_empty()));
    // A zone that this program does not know keeps the number from being called.
    let zones: Option<Vec<Tz>> = zones.map(|name| name.parse().ok()).collect();
    let windows = one.window.iter().chain(&one.home).map(|window| &window.0);
    until_before(windows, &one.calendars, &zones.unwrap_or_default(), one.now, UNTIL_ACCEPTED + queue_limit)
}

/// The same, with `at_end` left out of it.
fn until_before<'a>(
    windows: impl Iterator<Item = &'a Window>,
    calendars: &BTreeMap<String, BTreeSet<NaiveDate>>,
    zones: &[Tz],
    now: DateTime<Utc>,
    at_end: Duration,
) -> Span {
    let days_of = |window: &Window| -> BTreeSet<NaiveDate> {
        window.calendars.iter().filter_map(|name| calendars.get(name)).flatten().copied().collect()
    };
    let windows: Vec<_> = windows.map(|window| (window, days_of(window))).collect();
    match next_span(&windows, zones, now + at_end) {
        Span::Within(opens, closes) => Span::Within(opens, closes - at_end),
        other => other,
    }
}

/// When a number in one of these zones may be rung for a business, by its own window; `rings` is what passes until it has stopped
/// to ring, at most. Also the moment by Postgres.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_number(
    pg: &PgPool,
    business: BusinessId,
    zones: &[Tz],
    rings: Duration,
) -> sqlx::Result<(Span, DateTime<Utc>)> {
    let home = calling_rules::home(pg, business).await?;
    let own: Vec<Tz> = home.zone.iter().filter_map(|name| name.parse().ok()).collect();
    let zones = if zones.is_empty() { &own } else { zones };
    let span = until_before(home.window.iter(), &home.calendars, zones, home.now, UNTIL_ACCEPTED + rings);
    Ok((span, home.now))
}
