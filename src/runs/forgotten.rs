//! Runs that are over and whose leads are to be forgotten after a time.

use sqlx::PgExecutor;

use crate::ids::{BusinessId, RunId};

/// Runs of a business that ended so many days ago and whose leads' variables are still kept, the oldest first.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn remembered(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    days: i32,
    most: i64,
) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run: RunId" FROM run
           WHERE business_id = $1 AND ended_at < statement_timestamp() - make_interval(days => $2) AND forgotten_at IS NULL
           ORDER BY ended_at LIMIT $3"#,
        business.0,
        days,
        most
    )
    .fetch_all(pg)
    .await
}

/// Says that nothing is left to be forgotten of a run.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn done(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<()> {
    sqlx::query!("UPDATE run SET forgotten_at = clock_timestamp() WHERE run_id = $1", run as RunId).execute(pg).await?;
    Ok(())
}
