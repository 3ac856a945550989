//! Jobs that a time moves: those that waited are queued again, or are over where their run is.

use sqlx::PgPool;

use crate::ids::{BusinessId, RunId};

/// What was queued again.
#[derive(Debug, Clone, Default)]
pub struct Woken {
    /// Whose, each once.
    pub businesses: Vec<BusinessId>,
    /// How many.
    pub jobs: i64,
}

/// Queues jobs whose `next_at` has come, at most `most`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn wake(pg: &PgPool, most: i32) -> sqlx::Result<Woken> {
    let rows = sqlx::query!(r#"SELECT business_id AS "business!: BusinessId", n AS "n!" FROM wake_jobs($1)"#, most)
        .fetch_all(pg)
        .await?;
    let mut woken = Woken::default();
    for row in rows {
        woken.jobs += row.n;
        if !woken.businesses.contains(&row.business) {
            woken.businesses.push(row.business);
        }
    }
    Ok(woken)
}

/// Has jobs wait no longer that a limit held which is another now: about `most` of them are looked at. Returns how many were.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn review_caps(pg: &PgPool, most: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT review_caps($1) AS "seen!""#, most).fetch_one(pg).await
}

/// Ends jobs whose `not_after` has passed, at most `most`. Returns how many.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn expire(pg: &PgPool, most: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT expire_jobs($1) AS "jobs!""#, most).fetch_one(pg).await
}

/// Ends jobs of a run whose end has come, at most `most` of each state. Returns how many.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn end_waiting(pg: &PgPool, run: RunId, most: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"WITH picked AS (
               (SELECT job_id FROM job WHERE run_id = $1 AND state = 'queued' LIMIT $2)
               UNION ALL
               (SELECT job_id FROM job WHERE run_id = $1 AND state = 'waiting' LIMIT $2)
           )
           SELECT coalesce(sum(n), 0)::bigint AS "n!"
           FROM skip_jobs(ARRAY (SELECT job_id FROM picked), 'run_ended', 'The run''s end_at has come.')"#,
        run as RunId,
        i64::from(most)
    )
    .fetch_one(pg)
    .await
}

/// Ends queued jobs of a run whose zones never open again, at most `most`. Returns how many.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn end_asleep(pg: &PgPool, run: RunId, zone_set: i64, most: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"WITH picked AS (SELECT job_id FROM job WHERE run_id = $1 AND zone_set = $2 AND state = 'queued' LIMIT $3)
           SELECT coalesce(sum(n), 0)::bigint AS "n!"
           FROM skip_jobs(ARRAY (SELECT job_id FROM picked), 'window_ended', 'Its calling window does not open again before the run ends.')"#,
        run as RunId,
        zone_set,
        i64::from(most)
    )
    .fetch_one(pg)
    .await
}
