//! Finds runs of any business, for the command line, and the names of some; the API asks for those of one business.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::RunState;
use crate::ids::{BusinessId, RunId};

/// Runs by business and state, newest first, made before `before`, at most `limit`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn list(
    pg: impl PgExecutor<'_>,
    business: Option<BusinessId>,
    state: Option<RunState>,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<(BusinessId, RunId)>> {
    let rows = sqlx::query!(
        r#"SELECT business_id AS "business!: BusinessId", run_id AS "run!: RunId" FROM (
               (SELECT business_id, run_id FROM run WHERE $1::uuid IS NULL AND run_id < $3 AND ($2::text IS NULL OR state = $2)
                ORDER BY run_id DESC LIMIT $4)
               UNION ALL
               (SELECT business_id, run_id FROM run
                WHERE business_id = $1 AND name IS NOT NULL AND run_id < $3 AND ($2::text IS NULL OR state = $2)
                ORDER BY run_id DESC LIMIT $4)
           ) r ORDER BY run_id DESC LIMIT $4"#,
        business.map(|business| business.0),
        state.map(RunState::as_str),
        before.unwrap_or(Uuid::max()),
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.business, row.run)).collect())
}

/// Whose run this is.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn business_of(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<Option<BusinessId>> {
    sqlx::query_scalar!(r#"SELECT business_id AS "business: BusinessId" FROM run WHERE run_id = $1"#, run as RunId)
        .fetch_optional(pg)
        .await
}

/// The names of these runs of a business.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn names(pg: impl PgExecutor<'_>, business: BusinessId, runs: &[Uuid]) -> sqlx::Result<Vec<(RunId, String)>> {
    let rows = sqlx::query!(
        r#"SELECT run_id AS "run: RunId", name FROM run WHERE business_id = $1 AND run_id = ANY ($2)"#,
        business.0,
        runs
    );
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.run, row.name)).collect())
}
