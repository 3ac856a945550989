//! Numbers that a business does not call.
//!
//! Invariant: once a suppression is acknowledged, no claim takes the number, because both hold the business's lock.
//! Not here: how a number is spelled by people (`leads`).

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::{businesses::store, ids::BusinessId};

/// A number that is not called.
#[derive(Debug, Clone)]
pub struct Suppression {
    /// E.164.
    pub number: String,
    /// Where the wish came from, e.g. `api`.
    pub source: String,
    /// Anything people want to remember.
    pub note: Option<String>,
    /// After this the number may be called again; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was first suppressed.
    pub created_at: DateTime<Utc>,
}

/// Whether a number was new to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was.
    Added,
    /// It was there, and now has these terms.
    Changed,
}

/// Suppresses a number and ends its jobs that wait to be dialed, in one transaction. A run whose last job this was ends
/// with it. None where there is no such business.
///
/// # Errors
/// Where Postgres does.
pub async fn put(
    pg: &PgPool,
    business: BusinessId,
    number: &str,
    source: &str,
    note: Option<&str>,
    expires_at: Option<DateTime<Utc>>,
) -> sqlx::Result<Option<(Suppression, Put)>> {
    let mut tx = pg.begin().await?;
    if !store::lock(&mut *tx, business).await? {
        return Ok(None);
    }
    let row = sqlx::query!(
        r#"INSERT INTO suppression AS s (business_id, number, source, note, expires_at, created_at)
           VALUES ($1, $2, $3, $4, $5, clock_timestamp())
           ON CONFLICT (business_id, number) DO UPDATE SET source = excluded.source, note = excluded.note,
               expires_at = excluded.expires_at
           RETURNING number, source, note, expires_at, created_at, (xmax = 0) AS "added!""#,
        business.0,
        number,
        source,
        note,
        expires_at
    )
    .fetch_one(&mut *tx)
    .await?;
    let skipped = sqlx::query!(
        r#"WITH picked AS (
               SELECT job_id, state AS was FROM job
               WHERE business_id = $1 AND to_number = $2 AND state IN ('queued', 'waiting')
                   AND ($3::timestamptz IS NULL OR $3 > clock_timestamp())
               ORDER BY run_id FOR NO KEY UPDATE
           ), skipped AS (
               UPDATE job SET state = 'skipped', reason = 'suppressed', finished_at = clock_timestamp(), next_at = NULL
               FROM picked WHERE job.job_id = picked.job_id RETURNING run_id, was
           )
           SELECT run_id, tally_moved(run_id, was, 'skipped', NULL, 1, 0) IS NULL AS told FROM skipped"#,
        business.0,
        number,
        expires_at
    )
    .fetch_all(&mut *tx)
    .await?;
    let runs: Vec<Uuid> = skipped.into_iter().map(|job| job.run_id).collect();
    end_runs(&mut tx, &runs).await?;
    tx.commit().await?;
    let put = if row.added { Put::Added } else { Put::Changed };
    let suppression = Suppression {
        number: row.number,
        source: row.source,
        note: row.note,
        expires_at: row.expires_at,
        created_at: row.created_at,
    };
    Ok(Some((suppression, put)))
}

/// A run whose last job was just skipped is over. A statement of its own, so that it sees the jobs as they are now.
async fn end_runs(db: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<()> {
    if !runs.is_empty() {
        sqlx::query_scalar!("SELECT end_run_if_done(run) FROM unnest($1::uuid[]) AS run ORDER BY run", runs)
            .fetch_all(db)
            .await?;
    }
    Ok(())
}

/// One suppression, expired or not.
///
/// # Errors
/// Where Postgres does.
pub async fn get(db: impl PgExecutor<'_>, business: BusinessId, number: &str) -> sqlx::Result<Option<Suppression>> {
    sqlx::query_as!(
        Suppression,
        "SELECT number, source, note, expires_at, created_at FROM suppression WHERE business_id = $1 AND number = $2",
        business.0,
        number
    )
    .fetch_optional(db)
    .await
}

/// Up to `limit` suppressions in the order of their numbers, after the number `after`.
///
/// # Errors
/// Where Postgres does.
pub async fn list(
    db: impl PgExecutor<'_>,
    business: BusinessId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Suppression>> {
    sqlx::query_as!(
        Suppression,
        "SELECT number, source, note, expires_at, created_at FROM suppression
         WHERE business_id = $1 AND number > coalesce($2, '') ORDER BY number LIMIT $3",
        business.0,
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// Lets a number be called again. Jobs that were skipped stay skipped. False where it was not suppressed.
///
/// # Errors
/// Where Postgres does.
pub async fn delete(db: impl PgExecutor<'_>, business: BusinessId, number: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM suppression WHERE business_id = $1 AND number = $2", business.0, number)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}
