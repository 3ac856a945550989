//! A run that the carrier's refusals stop: its caller id cannot be used.

use sqlx::PgPool;

use crate::ids::AttemptId;

/// Pauses the run of an attempt whose caller id the carrier refused; true if it was running. The business is locked first,
/// as by every pause, so that no claim is under way when this returns.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pause_run_of(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<bool> {
    let mut tx = pg.begin().await?;
    sqlx::query!(
        "SELECT 1 AS locked FROM business WHERE business_id = (SELECT business_id FROM attempt WHERE attempt_id = $1) FOR NO KEY UPDATE",
        attempt.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let paused = sqlx::query!(
        "WITH paused AS (
         UPDATE run SET state = 'paused', pause_reason = 'caller_id_refused', paused_by = 'carrier', paused_at = clock_timestamp()
         WHERE run_id = (SELECT run_id FROM attempt WHERE attempt_id = $1) AND state = 'running' RETURNING run_id)
         SELECT run_id, tally_changed(run_id) IS NULL AS told FROM paused",
        attempt.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(paused.is_some())
}
