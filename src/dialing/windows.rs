//! Works out when the jobs of runs may be dialed, and writes it where the claim reads it.
//!
//! I11: the claim compares the moment with these times in its own transaction. A window that was changed makes them void at once.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveDate;
use chrono_tz::Tz;
use sqlx::{PgConnection, PgPool};

use crate::{
    ids::RunId,
    policy::{Span, Window, window::next_span},
    runs::zones::{self, Stale},
};

/// What passes between a claim and the carrier's acceptance, at most: a claim is sent within 5 s, its request ends within 10 s.
const UNTIL_ACCEPTED: Duration = Duration::from_secs(15);

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
    let at_end = UNTIL_ACCEPTED + queue_limit;
    let days_of = |window: &Window| -> BTreeSet<NaiveDate> {
        window.calendars.iter().filter_map(|name| one.calendars.0.get(name)).flatten().copied().collect()
    };
    let windows: Vec<_> =
        [&one.window, &one.home].into_iter().flatten().map(|window| (&window.0, days_of(&window.0))).collect();
    let zones: Option<Vec<Tz>> = one
        .zones
        .iter()
        .chain(one.home_zone.iter().filter(|_| one.zones.is_empty()))
        .map(|name| name.parse().ok())
        .collect();
    // A zone that this program does not know keeps the number from being called.
    let zones = zones.unwrap_or_default();
    match next_span(&windows, &zones, one.now + at_end) {
        Span::Within(opens, closes) => Span::Within(opens, closes - at_end),
        other => other,
    }
}
