//! Jobs that wait are ended without a dial, and jobs that are over lose who they were about.
//!
//! Not here: why (`dialing::suppress`, `dialing::numbers`).

use sqlx::PgConnection;
use uuid::Uuid;

use crate::ids::{BusinessId, JobId, RunId};

/// Why a job is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Its number is on a suppression list.
    Suppressed,
    /// Its number is to be forgotten.
    Erased,
}

impl Skipped {
    fn as_str(self) -> &'static str {
        match self {
            Self::Suppressed => "suppressed",
            Self::Erased => "erased",
        }
    }

    /// What the job's decisions say of it.
    fn detail(self) -> &'static str {
        match self {
            Self::Suppressed => "The number is on the suppression list.",
            Self::Erased => "The number was to be forgotten.",
        }
    }
}

/// Ends every job of a business to one of these numbers that waits to be dialed: how many, and of which runs. The caller holds
/// the business's lock, and ends the runs ([`end_runs`]) when it has done all.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn numbers(
    db: &mut PgConnection,
    business: BusinessId,
    numbers: &[String],
    why: Skipped,
) -> sqlx::Result<(u64, Vec<RunId>)> {
    let moved = sqlx::query!(
        r#"WITH picked AS (
               SELECT job_id FROM job WHERE business_id = $1 AND to_number = ANY ($2) AND state IN ('queued', 'waiting')
               ORDER BY run_id, job_id FOR NO KEY UPDATE
           )
           SELECT run_id AS "run!: RunId", n AS "n!" FROM skip_jobs(ARRAY (SELECT job_id FROM picked), $3, $4)"#,
        business.0,
        numbers,
        why.as_str(),
        why.detail()
    )
    .fetch_all(db)
    .await?;
    let mut runs: Vec<RunId> = moved.iter().map(|row| row.run).collect();
    runs.sort_unstable();
    runs.dedup();
    Ok((moved.iter().map(|row| row.n.unsigned_abs()).sum(), runs))
}

/// The runs of a business that have jobs which may still be dialed.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn unfinished_runs(db: &mut PgConnection, business: BusinessId) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run: RunId" FROM run WHERE business_id = $1 AND name IS NOT NULL AND ended_at IS NULL ORDER BY run_id"#,
        business.0
    )
    .fetch_all(db)
    .await
}

/// Ends jobs of a run to numbers with one of these beginnings, at most `most`, of those after this one in its list; the last that
/// was ended where there may be more. A prefix has no index, so this reads the list once, in parts; what is locked just now is being
/// dialed since before the prefix was written, or is ended by somebody else.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn prefixes(
    db: &mut PgConnection,
    run: RunId,
    prefixes: &[String],
    after: JobId,
    most: i64,
) -> sqlx::Result<Option<JobId>> {
    sqlx::query!("SELECT set_config('statement_timeout', '60s', true)").fetch_one(&mut *db).await?;
    let rows = sqlx::query!(
        r#"WITH picked AS (
               SELECT job_id FROM job WHERE run_id = $1 AND job_id > $2 AND state IN ('queued', 'waiting') AND to_number ^@ ANY ($3)
               ORDER BY job_id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
           )
           SELECT n AS "n!", (SELECT job_id FROM picked ORDER BY job_id DESC LIMIT 1) AS "last!: JobId"
           FROM skip_jobs(ARRAY (SELECT job_id FROM picked), 'suppressed', $5)"#,
        run as RunId,
        after as JobId,
        prefixes,
        most,
        Skipped::Suppressed.detail()
    )
    .fetch_all(db)
    .await?;
    let ended: i64 = rows.iter().map(|row| row.n).sum();
    Ok(rows.first().filter(|_| ended >= most).map(|row| row.last))
}

/// Runs whose last job was just skipped are over. A statement of its own, so that it sees the jobs as they are now.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn end_runs(db: &mut PgConnection, runs: &[RunId]) -> sqlx::Result<()> {
    let runs: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    if !runs.is_empty() {
        sqlx::query_scalar!("SELECT end_run_if_done(run) FROM unnest($1::uuid[]) AS run ORDER BY run", &runs)
            .fetch_all(db)
            .await?;
    }
    Ok(())
}

/// Takes out of the jobs of a business to this number, none of which may be dialed any more, who it was; how many there are.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn erase(
    db: &mut PgConnection,
    business: BusinessId,
    number: &str,
    placeholder: &str,
) -> sqlx::Result<Vec<JobId>> {
    sqlx::query_scalar!(
        r#"UPDATE job SET to_number = $3, external_id = NULL, variables = '{}', line = NULL, time_zone = NULL, time_zones = '{}'
           WHERE business_id = $1 AND to_number = $2 AND finished_at IS NOT NULL RETURNING job_id AS "job: JobId""#,
        business.0,
        number,
        placeholder
    )
    .fetch_all(db)
    .await
}

/// Takes the variables out of jobs of a run that is over, at most `most` of those after `run.forgotten_to`. True where there may
/// be more.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn forget_variables(db: &mut PgConnection, run: RunId, most: i64) -> sqlx::Result<bool> {
    let gone = sqlx::query!(
        r#"WITH part AS (
               SELECT job_id FROM job WHERE run_id = $1 AND job_id > (SELECT forgotten_to FROM run WHERE run_id = $1)
               ORDER BY job_id LIMIT $2
           ), gone AS (
               UPDATE job SET variables = '{}' FROM part WHERE job.job_id = part.job_id AND job.variables <> '{}'
           )
           UPDATE run SET forgotten_to = coalesce((SELECT job_id FROM part ORDER BY job_id DESC LIMIT 1), forgotten_to)
           WHERE run_id = $1 RETURNING (SELECT count(*) FROM part) >= $2 AS "more!""#,
        run as RunId,
        most
    )
    .fetch_optional(db)
    .await?;
    Ok(gone.is_some_and(|gone| gone.more))
}
