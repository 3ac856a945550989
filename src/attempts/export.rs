//! The ledger of a run as it is exported: every attempt of its jobs, with its transitions as they were written.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgPool, PgTransaction};
use uuid::Uuid;

use crate::{
    attempts::state::AttemptState,
    ids::{AttemptId, BusinessId, JobId, RunId},
};

/// One attempt of the run.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are columns of the ledger under their own names")]
pub struct Exported {
    pub attempt_id: AttemptId,
    pub job_id: JobId,
    pub n: i32,
    pub carrier: String,
    pub account: String,
    pub carrier_call_id: Option<String>,
    pub from_number: String,
    pub to_number: String,
    pub slot: i32,
    pub line: i32,
    pub state: AttemptState,
    pub disposition: Option<String>,
    pub reason: Option<String>,
    pub intent_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// Every transition: `{seq, at, source, from, to}`.
    pub events: Value,
}

/// Begins a transaction that sees one moment of the ledger however long it is read, and gives that moment. Its limits are those
/// of a reader that writes a file meanwhile.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn moment(pg: &PgPool) -> sqlx::Result<(PgTransaction<'static>, DateTime<Utc>)> {
    let mut tx = pg.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let now = sqlx::query_scalar!(
        r#"SELECT clock_timestamp() AS "now!" FROM (SELECT set_config('statement_timeout', '60s', true),
                  set_config('idle_in_transaction_session_timeout', '600s', true)) AS limits"#
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok((tx, now))
}

/// Attempts of the run's jobs after this job and attempt number, in the order of the list, at most `limit`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn page(
    tx: &mut PgTransaction<'_>,
    run: RunId,
    after: Option<(JobId, i32)>,
    limit: i64,
) -> sqlx::Result<Vec<Exported>> {
    let (job, n) = after.map_or((Uuid::nil(), 0), |(job, n)| (job.0, n));
    sqlx::query_as!(
        Exported,
        r#"SELECT a.attempt_id AS "attempt_id: AttemptId", j.job_id AS "job_id: JobId", a.n, a.carrier AS "carrier: String", a.account,
                  a.carrier_call_id, a.from_number, a.to_number, a.slot AS "slot: i32", a.line AS "line: i32",
                  a.state AS "state: AttemptState", a.disposition AS "disposition: String", a.reason, a.intent_at, a.ended_at,
                  transitions(a.events) AS "events!"
           FROM job j JOIN attempt a ON a.job_id = j.job_id
           WHERE j.run_id = $1 AND j.job_id >= $2 AND (j.job_id, a.n) > ($2, $3) ORDER BY j.job_id, a.n LIMIT $4"#,
        run.0,
        job,
        n,
        limit
    )
    .fetch_all(&mut **tx)
    .await
}

/// Between whom each attempt of the run is, the numbers whole. All of them at once: in a transaction of [`moment`], whose
/// limits are made for it.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn dialed(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<Vec<(AttemptId, String, String)>> {
    let rows = sqlx::query!(
        r#"SELECT a.attempt_id AS "attempt: AttemptId", a.from_number, a.to_number
           FROM job j JOIN attempt a ON a.job_id = j.job_id WHERE j.run_id = $1"#,
        run.0
    );
    let rows = rows.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.attempt, row.from_number, row.to_number)).collect())
}

/// Which of these calls of the account somebody answers for: an attempt of whatever run, or a stray that was written down.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn known(pg: &PgPool, business: BusinessId, account: &str, call_ids: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT carrier_call_id AS "call_id!" FROM attempt WHERE account = $2 AND carrier_call_id = ANY ($3) AND business_id = $1
           UNION SELECT call_id FROM stray_call WHERE account = $2 AND call_id = ANY ($3) AND business_id = $1"#,
        business.0,
        account,
        call_ids
    )
    .fetch_all(pg)
    .await
}
