//! Reads jobs for people, and cancels those that are not being dialed.

use sqlx::{PgExecutor, PgTransaction, types::Json};
use uuid::Uuid;

use super::{Job, JobState};
use crate::{
    clock::Time,
    ids::{BusinessId, JobId, RunId},
};

struct Row {
    job_id: JobId,
    run_id: RunId,
    business_id: BusinessId,
    to_number: String,
    external_id: Option<String>,
    variables: Json<serde_json::Value>,
    time_zones: Vec<String>,
    state: JobState,
    disposition: Option<String>,
    reason: Option<String>,
    attempt_count: i32,
    next_at: Option<Time>,
    priority: i16,
    created_at: Time,
    finished_at: Option<Time>,
}

impl From<Row> for Job {
    fn from(row: Row) -> Self {
        Self {
            id: row.job_id,
            run_id: row.run_id,
            business_id: row.business_id,
            to: row.to_number,
            external_id: row.external_id,
            variables: row.variables.0,
            time_zones: row.time_zones,
            state: row.state,
            disposition: row.disposition,
            reason: row.reason,
            attempt_count: row.attempt_count,
            next_at: row.next_at,
            priority: row.priority,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

/// Which jobs of a business are listed; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<JobState>,
    /// To this number (E.164).
    pub to: Option<String>,
    /// With this name of the caller's own.
    pub external_id: Option<String>,
}

/// Jobs of one run in the order of its list, after `after`, at most `limit`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of_run(
    pg: impl PgExecutor<'_>,
    run: RunId,
    state: Option<JobState>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT job_id AS "job_id: JobId", run_id AS "run_id: RunId", business_id AS "business_id: BusinessId", to_number,
                  external_id, variables AS "variables: Json<serde_json::Value>", time_zones, state AS "state: JobState",
                  disposition, reason, attempt_count, next_at AS "next_at: Time", priority,
                  created_at AS "created_at: Time", finished_at AS "finished_at: Time"
           FROM job WHERE run_id = $1 AND job_id > $2 AND ($3::text IS NULL OR state = $3) ORDER BY job_id LIMIT $4"#,
        run as RunId,
        after.unwrap_or_default(),
        state.map(JobState::as_str),
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Job::from).collect())
}

/// Jobs of a business by number or own name, newest first, made before `before`, at most `limit`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn find(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT job_id AS "job_id: JobId", run_id AS "run_id: RunId", business_id AS "business_id: BusinessId", to_number,
                  external_id, variables AS "variables: Json<serde_json::Value>", time_zones, state AS "state: JobState",
                  disposition, reason, attempt_count, next_at AS "next_at: Time", priority,
                  created_at AS "created_at: Time", finished_at AS "finished_at: Time"
           FROM job WHERE business_id = $1 AND job_id < $2 AND ($3::text IS NULL OR to_number = $3)
               AND ($4::text IS NULL OR external_id = $4) AND ($5::text IS NULL OR state = $5)
           ORDER BY job_id DESC LIMIT $6"#,
        business as BusinessId,
        before.unwrap_or(Uuid::max()),
        filter.to.as_deref(),
        filter.external_id.as_deref(),
        filter.state.map(JobState::as_str),
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Job::from).collect())
}

/// One job of a business.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn one(pg: impl PgExecutor<'_>, business: BusinessId, job: JobId) -> sqlx::Result<Option<Job>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT job_id AS "job_id: JobId", run_id AS "run_id: RunId", business_id AS "business_id: BusinessId", to_number,
                  external_id, variables AS "variables: Json<serde_json::Value>", time_zones, state AS "state: JobState",
                  disposition, reason, attempt_count, next_at AS "next_at: Time", priority,
                  created_at AS "created_at: Time", finished_at AS "finished_at: Time"
           FROM job WHERE business_id = $1 AND job_id = $2"#,
        business as BusinessId,
        job as JobId
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(Job::from))
}

/// Whose job this is.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn business_of(pg: impl PgExecutor<'_>, job: JobId) -> sqlx::Result<Option<BusinessId>> {
    sqlx::query_scalar!(r#"SELECT business_id AS "business: BusinessId" FROM job WHERE job_id = $1"#, job as JobId)
        .fetch_optional(pg)
        .await
}

/// True where the run has a job that a start would dial.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn any_queued(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM job WHERE run_id = $1 AND state = 'queued') AS "any!""#,
        run as RunId
    )
    .fetch_one(pg)
    .await
}

/// What is to be cancelled.
#[derive(Debug, Clone, Copy)]
pub enum Cancelled {
    /// Jobs of a run that are not being dialed, at most [`CANCEL_BATCH`].
    Run(RunId),
    /// One job, unless it is being dialed.
    Job(JobId),
}

/// The most jobs that one statement cancels, so that it ends long before its time limit.
pub const CANCEL_BATCH: u64 = 5000;

/// Ends jobs that nobody dials. The caller sees to it that none is claimed meanwhile: by the lock of the business, or because
/// the run is not running any more. Returns how many.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn cancel_queued(pg: impl PgExecutor<'_>, what: Cancelled) -> sqlx::Result<u64> {
    let (run, job) = match what {
        Cancelled::Run(run) => (Some(run), None),
        Cancelled::Job(job) => (None, Some(job)),
    };
    let done = sqlx::query!(
        r#"WITH picked AS (
               SELECT job_id, run_id, state AS was FROM job
               WHERE (run_id = $1 OR job_id = $2) AND state IN ('queued', 'waiting') LIMIT $3 FOR NO KEY UPDATE
           ), cancelled AS (
               UPDATE job SET state = 'cancelled', disposition = 'cancelled', reason = 'cancelled', next_at = NULL,
                              finished_at = clock_timestamp()
               FROM picked WHERE job.job_id = picked.job_id
               RETURNING picked.run_id, picked.was
           ), moved AS (
               SELECT run_id, was, count(*) AS n FROM cancelled GROUP BY run_id, was ORDER BY run_id
           )
           SELECT n AS "n!", tally_moved(run_id, was, 'cancelled', 'cancelled', n, 0) IS NULL AS told FROM moved"#,
        run as Option<RunId>,
        job as Option<JobId>,
        CANCEL_BATCH.cast_signed()
    )
    .fetch_all(pg)
    .await?;
    Ok(done.iter().map(|moved| moved.n.unsigned_abs()).sum())
}

/// Removes every job of a run that was never started, and its tally.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn delete(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM job WHERE run_id = $1", run as RunId).execute(&mut **tx).await?;
    sqlx::query!("DELETE FROM tally_shard WHERE run_id = $1", run as RunId).execute(&mut **tx).await?;
    Ok(())
}

/// Lines of the upload whose lead lacks `variable`: how many there are, and the first `shown` of them.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn lines_without(
    pg: impl PgExecutor<'_>,
    run: RunId,
    variable: &str,
    shown: i64,
) -> sqlx::Result<(i64, Vec<i64>)> {
    let rows = sqlx::query!(
        r#"SELECT line, count(*) OVER () AS "count!" FROM job
           WHERE run_id = $1 AND state = 'queued' AND variables ->> $2 IS NULL ORDER BY line NULLS LAST, job_id LIMIT $3"#,
        run as RunId,
        variable,
        shown
    )
    .fetch_all(pg)
    .await?;
    let count = rows.first().map_or(0, |row| row.count);
    Ok((count, rows.into_iter().filter_map(|row| row.line).collect()))
}
