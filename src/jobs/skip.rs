//! Jobs that wait are ended without a dial, and jobs that are over lose who they were about.
//!
//! Not here: why (`dialing::suppress`, `dialing::numbers`).

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::ids::{BusinessId, JobId, RunId};

/// Jobs of a list that are looked at by one statement because of a prefix.
const PART_ROWS: i32 = 20_000;
/// The most of them that it ends.
const PART_ENDED: i32 = 500;

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

/// Notes that the lists that are not over, of one business or of all, are to be looked over for numbers with these beginnings: a prefix
/// has no index. Written with the entry itself, so that [`look_over`] ends the jobs whoever dies in between.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn note_prefixes(
    db: &mut PgConnection,
    business: Option<BusinessId>,
    prefixes: &[String],
) -> sqlx::Result<()> {
    if prefixes.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO suppression_pass (business_id, run_id, prefixes)
         SELECT business_id, run_id, $2 FROM run WHERE (business_id = $1 OR $1 IS NULL) AND name IS NOT NULL AND ended_at IS NULL",
        business as Option<BusinessId>,
        prefixes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Looks over the next part of a list of one business or of any, and ends what waits in it: so few jobs that nobody waits long for one
/// of them. False where there is nothing to look over, or only what others look over now.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn look_over(pg: impl PgExecutor<'_>, business: Option<BusinessId>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT look_over($1, $2, $3) AS "any!""#,
        business as Option<BusinessId>,
        PART_ROWS,
        PART_ENDED
    )
    .fetch_one(pg)
    .await
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
