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
             held_at = clock_timestamp(),
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

/// The account placed a call that was sent so long ago: no hold from before that stands any more. A hold that came since
/// does: it is news.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn works(pg: &PgPool, business: BusinessId, account: &str, sent_ago: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE carrier_account SET health = 'ok', health_detail = NULL, hold_until = NULL
         WHERE business_id = $1 AND reference = $2 AND health <> 'ok'
             AND (held_at IS NULL OR held_at < clock_timestamp() - make_interval(secs => $3))",
        business.0,
        account,
        sent_ago.as_secs_f64(),
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Writes down that the account's calls could not be asked about; returns since how many seconds that is so.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn unreadable(pg: &PgPool, business: BusinessId, account: &str) -> sqlx::Result<i64> {
    let since = sqlx::query_scalar!(
        r#"UPDATE carrier_account SET unreadable_since = coalesce(unreadable_since, clock_timestamp())
           WHERE business_id = $1 AND reference = $2
           RETURNING extract(epoch FROM clock_timestamp() - unreadable_since)::bigint AS "secs!""#,
        business.0,
        account,
    )
    .fetch_optional(pg)
    .await?;
    Ok(since.unwrap_or(0))
}

/// Writes down that the account's calls can be asked about.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn readable(pg: &PgPool, business: BusinessId, account: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE carrier_account SET unreadable_since = NULL
         WHERE business_id = $1 AND reference = $2 AND unreadable_since IS NOT NULL",
        business.0,
        account,
    )
    .execute(pg)
    .await?;
    Ok(())
}
