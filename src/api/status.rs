//! The state of the installation in figures, read from the stores.
//!
//! Invariant: the figures speak for all processes together, whichever is asked.
//! Not here: counters of one process (`/metrics`), and the routes (`api::admin`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use redis::AsyncCommands;
use serde::Serialize;

use crate::{
    businesses::store::Health,
    clock::Time,
    context::Context,
    error::ApiError,
    heartbeats::{self, Seen},
    ids::{BusinessId, Carrier},
};

/// Calls that were turned away because nothing was free: kept in Redis by whoever turns one away.
pub const REJECTED: &str = "metrics:calls_rejected_max_concurrent";

/// `/metrics.json`.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Attempts that are open: each holds a slot and a line.
    calls_active: i64,
    /// Attempts that a carrier took.
    calls_started: i64,
    /// Single calls that were turned away because no slot or line was free.
    calls_rejected_max_concurrent: i64,
    /// Most calls at once.
    max_concurrent_calls: Option<i32>,
}

/// Reads the figures.
///
/// # Errors
/// 503 where a store is away.
pub async fn figures(ctx: &Context) -> Result<Figures, ApiError> {
    let row = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM attempt WHERE rank < 9) AS "active!",
                  (SELECT coalesce(sum(n), 0)::bigint FROM tally
                   WHERE run_id = '00000000-0000-0000-0000-000000000000' AND key = 'calls_started') AS "started!",
                  (SELECT max_lines FROM installation) AS max_lines"#
    )
    .fetch_one(&ctx.stores.pg)
    .await?;
    let mut redis = ctx.stores.redis.clone();
    let rejected: Option<i64> = redis.get(ctx.stores.keys.key(REJECTED)).await?;
    Ok(Figures {
        calls_active: row.active,
        calls_started: row.started,
        calls_rejected_max_concurrent: rejected.unwrap_or(0),
        max_concurrent_calls: row.max_lines,
    })
}

/// `/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    at: Time,
    lines: Lines,
    businesses_with_work: i64,
    runs: BTreeMap<String, i64>,
    attempts_unknown: i64,
    needs_person: i64,
    accounts_not_ok: Vec<AccountNotOk>,
    workers: Vec<Seen>,
}

#[derive(Debug, Serialize)]
struct Lines {
    open: i64,
    limit: Option<i32>,
}

#[derive(Debug, Serialize)]
struct AccountNotOk {
    business_id: BusinessId,
    carrier: Carrier,
    health: Health,
    detail: Option<String>,
    hold_until: Option<Time>,
}

/// Reads the state of the installation. Workers that have died show as `stale` for ten minutes.
///
/// # Errors
/// 503 where a store is away.
pub async fn status(ctx: &Context) -> Result<Status, ApiError> {
    let pg = &ctx.stores.pg;
    let counts = sqlx::query!(
        r#"SELECT clock_timestamp() AS "at!: DateTime<Utc>", (SELECT max_lines FROM installation) AS max_lines,
                  count(*) AS "open!", count(*) FILTER (WHERE state = 'unknown') AS "unknown!",
                  count(*) FILTER (WHERE needs_person) AS "needs_person!",
                  (SELECT count(DISTINCT business_id) FROM run WHERE state IN ('running', 'cancelling')) AS "with_work!"
           FROM attempt WHERE rank < 9"#
    )
    .fetch_one(pg)
    .await?;
    let runs = sqlx::query!(r#"SELECT state, count(*) AS "n!" FROM run GROUP BY state"#).fetch_all(pg).await?;
    let accounts = sqlx::query!(
        r#"SELECT business_id AS "business_id: BusinessId", carrier AS "carrier: Carrier", health AS "health: Health",
                  health_detail, hold_until
           FROM carrier_account WHERE health IN ('refused', 'down') ORDER BY business_id, carrier LIMIT 500"#
    )
    .fetch_all(pg)
    .await?;
    Ok(Status {
        at: counts.at.into(),
        lines: Lines { open: counts.open, limit: counts.max_lines },
        businesses_with_work: counts.with_work,
        runs: runs.into_iter().map(|row| (row.state, row.n)).collect(),
        attempts_unknown: counts.unknown,
        needs_person: counts.needs_person,
        accounts_not_ok: accounts
            .into_iter()
            .map(|row| AccountNotOk {
                business_id: row.business_id,
                carrier: row.carrier,
                health: row.health,
                detail: row.health_detail,
                hold_until: row.hold_until.map(Into::into),
            })
            .collect(),
        workers: workers(ctx).await?,
    })
}

/// Every worker that beats, and those that went silent within ten minutes.
///
/// # Errors
/// 503 where Redis is away.
pub async fn workers(ctx: &Context) -> Result<Vec<Seen>, ApiError> {
    Ok(heartbeats::workers(&ctx.stores).await?)
}
