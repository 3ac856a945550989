//! Single calls that no worker has taken yet: which of them must not be dialed any more.
//!
//! I11: a claim takes none whose number was suppressed since it was admitted, nor one for which a window was looked at that the business
//! has no more. What is here ends those, and says of the others that their window is open all the same.

use sqlx::PgPool;

use crate::{
    attempts::ledger::{Change, Row, told},
    ids::{AttemptId, BusinessId},
};

/// Those whose time is over, and those whose number was suppressed.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn unwanted(pg: &PgPool, most: i64) -> sqlx::Result<Vec<AttemptId>> {
    sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt
           WHERE open AND owner IS NULL AND dial_by IS NOT NULL
               AND (dial_by < clock_timestamp() OR is_suppressed(business_id, to_number)) LIMIT $1"#,
        most
    )
    .fetch_all(pg)
    .await
}

/// Those of a business whose time is over.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn overdue(pg: &PgPool, business: BusinessId) -> sqlx::Result<Vec<AttemptId>> {
    sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt
           WHERE business_id = $1 AND open AND owner IS NULL AND dial_by < clock_timestamp()"#,
        business.0
    )
    .fetch_all(pg)
    .await
}

/// One for which a window was looked at that is another by now.
#[derive(Debug, Clone)]
pub struct Unlooked {
    /// Which.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// The zones that its number may be in.
    pub zones: Vec<String>,
    /// Until when it may still ring, seconds from now: its waiting and its ringing together.
    pub rings_secs: f64,
}

/// Those for which a window was looked at that is another by now.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn unlooked(pg: &PgPool, most: i64) -> sqlx::Result<Vec<Unlooked>> {
    sqlx::query_as!(
        Unlooked,
        r#"SELECT a.attempt_id AS "attempt: AttemptId", a.business_id AS "business: BusinessId", a.time_zones AS "zones!",
               (extract(epoch FROM greatest(a.dial_by - clock_timestamp(), '0')) + a.ring_timeout_secs)::float8 AS "rings_secs!"
           FROM attempt a JOIN business b USING (business_id)
           WHERE a.open AND a.owner IS NULL AND a.window_version <> b.window_version LIMIT $1"#,
        most
    )
    .fetch_all(pg)
    .await
}

/// The window of this version is open for it: it may be taken.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn looked(pg: &PgPool, attempt: AttemptId, version: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE attempt SET window_version = $2 WHERE attempt_id = $1 AND state = 'intent' AND owner IS NULL",
        attempt.0,
        version
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Closes one that must not be dialed any more: `shut` is the version of the business's window that is closed for it, if any. `None`
/// where a worker has it after all, or where it may be dialed.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn end(pg: &PgPool, attempt: AttemptId, shut: Option<i64>) -> sqlx::Result<Option<Change>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT verdict AS "verdict!", closed, run_ended, business_id, run_id, job_id, account, carrier_call_id, hangup_wanted
           FROM expire_call($1, $2)"#,
        attempt.0,
        shut
    )
    .fetch_one(pg)
    .await?;
    Ok(told(attempt, row.change(), "expired"))
}
