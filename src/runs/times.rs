//! Runs that a time moves: one that was scheduled starts, one whose end has come dials nothing more.

use sqlx::PgPool;

use crate::ids::{BusinessId, RunId};

/// Starts scheduled runs whose time has come; returns them.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn start_scheduled(pg: &PgPool) -> sqlx::Result<Vec<(RunId, BusinessId)>> {
    let rows = sqlx::query!(
        r#"WITH started AS (
               UPDATE run SET state = 'running', started_at = coalesce(started_at, clock_timestamp())
               WHERE state = 'scheduled' AND start_at IS NOT NULL AND start_at <= (SELECT wall_clock()) RETURNING run_id, business_id
           )
           SELECT run_id AS "run: RunId", business_id AS "business: BusinessId", tally_changed(run_id) IS NULL AS told FROM started"#
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.run, row.business)).collect())
}

/// Pauses runs that have used their budget, or whose breaker or abandon guard says so; returns each with the reason.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pause_by_rule(pg: &PgPool) -> sqlx::Result<Vec<(RunId, String)>> {
    let rows = sqlx::query!(r#"SELECT run_id AS "run!: RunId", reason AS "reason!" FROM pause_by_rule()"#);
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.run, row.reason)).collect())
}

/// Runs whose end has come and that have jobs that nobody dials.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn over(pg: &PgPool) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run: RunId" FROM run
           WHERE state IN ('running', 'paused') AND business_id IS NOT NULL
               AND end_at <= wall_clock()
               AND EXISTS (SELECT 1 FROM tally_shard t WHERE t.run_id = run.run_id HAVING sum(queued + waiting) > 0)"#
    )
    .fetch_all(pg)
    .await
}

/// Sets of zones of running runs that do not open again before the run's end. Without an end a run waits for another window.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn asleep_for_good(pg: &PgPool) -> sqlx::Result<Vec<(RunId, i64)>> {
    let rows = sqlx::query!(
        r#"SELECT z.run_id AS "run: RunId", z.zone_set FROM run r JOIN business b USING (business_id) JOIN run_zone z USING (run_id)
           WHERE r.state = 'running' AND r.business_id IS NOT NULL
               AND r.window_version + b.window_version > 0 AND z.version = r.window_version + b.window_version
               AND z.opens_at > wall_clock() AND z.opens_at >= r.end_at"#
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.run, row.zone_set)).collect())
}
