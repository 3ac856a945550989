//! What dialing learns about a carrier account: that it works, or must be left alone for a while.

use std::time::Duration;

use sqlx::PgPool;

use crate::ids::BusinessId;

/// Why an account is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Too many calls or requests at once; the carrier said so.
    BackOff,
    /// The carrier refuses these credentials: one call at a time tries again.
    Refused,
    /// The carrier cannot be reached.
    Down,
}

/// Leaves an account alone for `time`. A refused account stays refused until a call is placed with it.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn hold(
    pg: &PgPool,
    business: BusinessId,
    account: &str,
    hold: Hold,
    time: Duration,
    detail: &str,
) -> sqlx::Result<()> {
    let health = match hold {
        Hold::BackOff => None,
        Hold::Refused => Some("refused"),
        Hold::Down => Some("down"),
    };
    sqlx::query!(
        "UPDATE carrier_account SET
             health = CASE WHEN health = 'refused' THEN health ELSE coalesce($3, health) END,
             health_detail = $4,
             hold_until = greatest(hold_until, clock_timestamp() + make_interval(secs => $5))
         WHERE business_id = $1 AND reference = $2",
        business.0,
        account,
        health,
        detail,
        time.as_secs_f64(),
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// The account placed a call: nothing holds it any more.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn works(pg: &PgPool, business: BusinessId, account: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE carrier_account SET health = 'ok', health_detail = NULL, hold_until = NULL
         WHERE business_id = $1 AND reference = $2 AND health <> 'ok'",
        business.0,
        account,
    )
    .execute(pg)
    .await?;
    Ok(())
}
