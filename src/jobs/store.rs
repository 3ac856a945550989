//! Cancels jobs that are not being dialed, removes those of drafts, and answers what a move of a run has to know.

use sqlx::{PgExecutor, PgTransaction};

use crate::ids::{BusinessId, JobId, RunId};

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
    sqlx::query_scalar!(r#"SELECT has_queued($1) AS "any!""#, run as RunId).fetch_one(pg).await
}

/// True where the run has a job that is not over.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn any_unfinished(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT has_queued($1) OR EXISTS (SELECT 1 FROM job WHERE run_id = $1 AND state IN ('waiting', 'dialing')) AS "any!""#,
        run as RunId
    )
    .fetch_one(pg)
    .await
}

/// What is to be cancelled.
#[derive(Debug, Clone, Copy)]
pub enum Cancelled {
    /// Jobs of a run that are not being dialed, at most [`CANCEL_BATCH`] of each state. Those that somebody else has locked, who
    /// may be ending many, are left for the next time.
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
    // Each kind by the index that holds nothing else: what finds all jobs of a run would look at those that are over too, and
    // what finds those that are not over holds a dead entry of each that was dialed.
    let done = sqlx::query!(
        r#"WITH queued AS (
               SELECT job_id, run_id, state AS was FROM job WHERE run_id = $1 AND state = 'queued'
               LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
           ), waiting AS (
               SELECT job_id, run_id, state AS was FROM job WHERE run_id IS NOT DISTINCT FROM $1 AND state = 'waiting'
                   AND next_at BETWEEN '-infinity' AND 'infinity' LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
           ), single AS (
               SELECT job_id, run_id, state AS was FROM job WHERE job_id = $2 AND state IN ('queued', 'waiting') FOR NO KEY UPDATE
           ), picked AS (
               SELECT * FROM queued UNION ALL SELECT * FROM waiting UNION ALL SELECT * FROM single
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
    sqlx::query!("DELETE FROM run_zone WHERE run_id = $1", run as RunId).execute(&mut **tx).await?;
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
