//! Jobs that wait are ended because they may not be dialed, without a dial.
//!
//! Not here: why (`dialing::suppress`, `dialing::numbers`).

use sqlx::PgConnection;
use uuid::Uuid;

use crate::ids::{BusinessId, RunId};

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
               SELECT job_id, state AS was FROM job
               WHERE business_id = $1 AND to_number = ANY ($2) AND state IN ('queued', 'waiting')
               ORDER BY run_id, job_id FOR NO KEY UPDATE
           ), skipped AS (
               UPDATE job SET state = 'skipped', reason = $3, finished_at = clock_timestamp(), next_at = NULL
               FROM picked WHERE job.job_id = picked.job_id RETURNING run_id, was
           ), moved AS (
               SELECT run_id, was, count(*) AS n FROM skipped GROUP BY run_id, was ORDER BY run_id
           )
           SELECT run_id AS "run: RunId", n AS "n!", tally_moved(run_id, was, 'skipped', NULL, n, 0) IS NULL AS told FROM moved"#,
        business.0,
        numbers,
        why.as_str()
    )
    .fetch_all(db)
    .await?;
    let mut runs: Vec<RunId> = moved.iter().map(|row| row.run).collect();
    runs.dedup();
    Ok((moved.iter().map(|row| row.n.unsigned_abs()).sum(), runs))
}

/// The runs of a business that have jobs which may still be dialed.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn unfinished_runs(db: &mut PgConnection, business: BusinessId) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run: RunId" FROM run WHERE business_id = $1 AND ended_at IS NULL ORDER BY run_id"#,
        business.0
    )
    .fetch_all(db)
    .await
}

/// How far a list has been looked through: after this place of the queue.
#[derive(Debug, Clone, Copy)]
pub struct After {
    place: i16,
    job: Uuid,
}

impl Default for After {
    fn default() -> Self {
        Self { place: i16::MIN, job: Uuid::nil() }
    }
}

/// Ends jobs of a run to numbers with one of these beginnings, at most `most` of those that are queued and of those that wait;
/// where to go on, or nothing where there are no more. A prefix has no index, so this reads the list once, in parts; what is
/// locked just now is being dialed since before the prefix was written, or is ended by somebody else.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn prefixes(
    db: &mut PgConnection,
    run: RunId,
    prefixes: &[String],
    after: After,
    most: i64,
) -> sqlx::Result<Option<After>> {
    sqlx::query!("SELECT set_config('statement_timeout', '60s', true)").fetch_one(&mut *db).await?;
    let rows = sqlx::query!(
        r#"WITH queued AS (
               SELECT job_id, run_id, state AS was, (- priority) AS place FROM job
               WHERE run_id = $1 AND state = 'queued' AND ((- priority), job_id) > ($2::smallint, $3::uuid) AND to_number ^@ ANY ($4)
               ORDER BY (- priority), job_id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
           ), waiting AS (
               SELECT job_id, run_id, state AS was, NULL::smallint AS place FROM job
               WHERE run_id = $1 AND state = 'waiting' AND to_number ^@ ANY ($4) LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
           ), picked AS (
               SELECT * FROM queued UNION ALL SELECT * FROM waiting
           ), skipped AS (
               UPDATE job SET state = 'skipped', reason = 'suppressed', finished_at = clock_timestamp(), next_at = NULL
               FROM picked WHERE job.job_id = picked.job_id RETURNING job.job_id, picked.run_id, was, place
           ), moved AS (
               SELECT run_id, was, count(*) AS n, max(place) AS place FROM skipped GROUP BY run_id, was
           )
           SELECT n AS "n!", place, (SELECT job_id FROM queued ORDER BY place DESC, job_id DESC LIMIT 1) AS last,
                  tally_moved(run_id, was, 'skipped', NULL, n, 0) IS NULL AS told FROM moved"#,
        run as RunId,
        after.place,
        after.job,
        prefixes,
        most
    )
    .fetch_all(db)
    .await?;
    let full = rows.iter().any(|row| row.n >= most);
    let queued = rows.iter().find_map(|row| Some(After { place: row.place?, job: row.last? }));
    Ok(full.then(|| queued.unwrap_or(after)))
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
