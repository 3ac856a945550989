//! Works out when the jobs of runs may be dialed, and writes it where the claim reads it.
//!
//! I11: the claim compares the moment with these times in its own transaction. A window that was changed makes them void at once.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::{
    businesses::calling_rules,
    clock::Time,
    config::Settings,
    ids::{BusinessId, RunId},
    jobs::Job,
    policy::{Openings, Span},
    runs::{
        redial::Redial,
        zones::{self, Stale},
    },
};

/// What passes between a claim and the carrier's acceptance, at most: a claim is sent within 5 s, its request ends within 10 s.
const UNTIL_ACCEPTED: Duration = Duration::from_secs(15);

/// Sets of zones that are asked when a run may be dialed again.
const MOST_ZONE_SETS: i64 = 500;

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
    // One that is too short to ring in is none.
    let openings = one.openings().without(UNTIL_ACCEPTED + queue_limit).longer_than(rings(one.ring_timeout_secs));
    let span = openings.span(one.now);
    let detail = match (lacking(one), span) {
        (Some(name), _) => format!("The window names the calendar {name}, which the business does not have."),
        (None, Span::Never) => "No time to call suits every zone that the number may be in.".to_owned(),
        (None, Span::Always | Span::Within(..)) => "The calling window is closed.".to_owned(),
    };
    zones::keep(pg, one, span, &detail).await
}

/// The first calendar that a window names and the business does not have.
fn lacking(one: &Stale) -> Option<&str> {
    let mut names = one.windows().flat_map(|window| &window.calendars);
    names.find(|name| !one.calendars.contains_key(*name)).map(String::as_str)
}

/// When calls to numbers that may be in the same zones may be begun: so long before the end of each opening that they have stopped to
/// ring by then.
pub(crate) fn to_dial(one: &Stale, until_rung: Duration) -> Openings {
    one.openings().without(until_rung + rings(one.ring_timeout_secs))
}

fn rings(ring_timeout_secs: i32) -> Duration {
    Duration::from_secs(ring_timeout_secs.unsigned_abs().into())
}

/// The same of a run, by its sets of zones.
///
/// # Errors
/// Where Postgres does not answer.
pub(crate) async fn all_to_dial(
    pg: impl PgExecutor<'_>,
    run: RunId,
    until_rung: Duration,
) -> sqlx::Result<HashMap<i64, Openings>> {
    let sets = zones::of_run(pg, run, MOST_ZONE_SETS).await?;
    Ok(sets.iter().map(|one| (one.zone_set, to_dial(one, until_rung))).collect())
}

/// Puts in the place of the time that is kept of a job that waits the first one at which it may be dialed: none where no window opens
/// any more. What is kept is when its rule holds it no longer, which the window does not change.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn tell_open(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    jobs: &mut [Job],
    settings: &Settings,
) -> sqlx::Result<()> {
    let waiting: Vec<Uuid> = jobs.iter().filter(|job| job.next_at.is_some()).map(|job| job.id.0).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let sets = zones::of_jobs(pg, business, &waiting).await?;
    let openings: HashMap<_, _> =
        sets.iter().map(|one| ((one.run, &one.zones), to_dial(one, until_rung(settings)))).collect();
    for job in jobs {
        if let Some(openings) = openings.get(&(job.run_id, &job.time_zones)) {
            job.next_at = job.next_at.and_then(|at| openings.first(at.0)).map(Time);
        }
    }
    Ok(())
}

/// The time to call at `at` or the next one after it, by the windows of a job's run and business.
pub(crate) fn of_redial(rules: &Redial, at: DateTime<Utc>, until_rung: Duration) -> Span {
    let windows = rules.window.iter().chain(&rules.home).map(|window| &window.0);
    let openings = Openings::new(windows, &rules.calendars, &rules.zones, rules.home_zone.as_ref());
    openings.without(until_rung + rings(rules.ring_timeout_secs)).span(at)
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
    let zones: Vec<String> = zones.iter().map(|zone| zone.name().to_owned()).collect();
    let openings = Openings::new(&home.window, &home.calendars, &zones, home.zone.as_ref());
    let span = openings.without(UNTIL_ACCEPTED + rings).span(home.now);
    Ok(Hours { span, now: home.now, version: home.version })
}
