//! The claim: from holders at the gate to attempts in the ledger, in one round trip.

use sqlx::PgPool;

use crate::{
    config::Times,
    ids::{AttemptId, BusinessId, Held, JobId, RunId},
};

/// An attempt that this process may send, and nobody else.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The attempt, an intent.
    pub attempt: AttemptId,
    /// Its job; none for a single call.
    pub job: Option<JobId>,
    /// Its run; none for a single call.
    pub run: Option<RunId>,
    /// The carrier's own name of the account.
    pub account: String,
    /// Caller id, E.164.
    pub from: String,
    /// Callee, E.164.
    pub to: String,
    /// Seconds that it may ring.
    pub ring_timeout_secs: i32,
    /// Seconds that it may last.
    pub call_time_limit_secs: i32,
}

/// Claims the single calls that wait, and due jobs for the given holders; holders without an answer are free to be given back.
///
/// # Errors
/// Where Postgres does not answer: then the commit may have happened all the same, and `attempts::ledger::intents_of`
/// says so.
pub async fn claim(
    pg: &PgPool,
    business: BusinessId,
    owner: &str,
    held: &[Held],
    times: &Times,
) -> sqlx::Result<Vec<Claimed>> {
    let attempts: Vec<_> = held.iter().map(|h| h.attempt.0).collect();
    let slots: Vec<_> = held.iter().map(|h| h.slot).collect();
    let lines: Vec<_> = held.iter().map(|h| h.line).collect();
    let rows = sqlx::query!(
        r#"SELECT attempt_id AS "attempt!: AttemptId", job_id AS "job: JobId", run_id AS "run: RunId", account AS "account!",
                  from_number AS "from!", to_number AS "to!", ring_timeout_secs AS "ring!", call_time_limit_secs AS "limit!"
           FROM claim_jobs($1, $2, $3, $4, $5, $6, $7)"#,
        business.0,
        owner,
        &attempts,
        &slots,
        &lines,
        i32::try_from(times.intent_grace_ms).unwrap_or(i32::MAX),
        i32::try_from(times.refused_retry_ms).unwrap_or(i32::MAX),
    )
    .fetch_all(pg)
    .await?;
    let claimed = rows.into_iter().map(|row| Claimed {
        attempt: row.attempt,
        job: row.job,
        run: row.run,
        account: row.account,
        from: row.from,
        to: row.to,
        ring_timeout_secs: row.ring,
        call_time_limit_secs: row.limit,
    });
    Ok(claimed.collect())
}

/// True where the business has a single call to dial or a queued job in a running run.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn has_due(pg: &PgPool, business: BusinessId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT (EXISTS (SELECT 1 FROM attempt WHERE business_id = $1 AND open AND owner IS NULL)
               OR EXISTS (SELECT 1 FROM run r WHERE r.business_id = $1 AND r.state = 'running'
                          AND has_queued(r.run_id))) AS "due!""#,
        business.0,
    )
    .fetch_one(pg)
    .await
}
