//! What dialing learns about a carrier account: that it works, or must be left alone for a while.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

use crate::{
    businesses::store::Health,
    clock::Time,
    ids::{BusinessId, Carrier},
};

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

/// The carrier was too full for a call of this account that was sent so long ago: the account is left alone for a second, and for
/// twice as long each time that it happens again before a call came through, `longest` at most. What was sent before the last such
/// hold is no news.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn too_full(
    pg: &PgPool,
    business: BusinessId,
    account: &str,
    sent_ago: Duration,
    longest: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE carrier_account c SET turned_away = n.times, health_detail = 'the carrier is full', held_at = clock_timestamp(),
             -- Jittered, so that many businesses do not come back in the same moment.
             hold_until = greatest(c.hold_until, clock_timestamp() + make_interval(secs => least(2 ^ (n.times - 1), $4) * (1 + random() / 5)))
         FROM (SELECT reference, CASE WHEN EXISTS (SELECT 1 FROM attempt a
                       WHERE a.account = c.reference AND a.business_id = c.business_id AND a.intent_at > c.held_at
                           AND a.carrier_call_id IS NOT NULL AND a.direction = 'outbound'
                           AND (a.answered_at IS NOT NULL OR a.disposition IN ('busy', 'no_answer')))
                   THEN 1 ELSE least(c.turned_away + 1, 20) END AS times
               FROM carrier_account c WHERE business_id = $1 AND reference = $2) n
         WHERE c.business_id = $1 AND c.reference = n.reference
             AND (c.held_at IS NULL OR c.held_at < clock_timestamp() - make_interval(secs => $3))",
        business.0,
        account,
        sent_ago.as_secs_f64(),
        longest.as_secs_f64(),
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

/// Writes down that the account's calls could not be asked about, `refused` where its credentials are; returns since how many
/// seconds that is so.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn unreadable(pg: &PgPool, business: BusinessId, account: &str, refused: bool) -> sqlx::Result<i64> {
    let since = sqlx::query_scalar!(
        r#"UPDATE carrier_account SET unreadable_since = coalesce(unreadable_since, clock_timestamp()), unreadable_refused = $3
           WHERE business_id = $1 AND reference = $2
           RETURNING extract(epoch FROM clock_timestamp() - unreadable_since)::bigint AS "secs!""#,
        business.0,
        account,
        refused,
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

/// Accounts shown at most.
const MOST_SHOWN: i64 = 500;

/// An account that is not well, is held back now, or cannot be asked about its calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotOk {
    /// Whose.
    pub business_id: BusinessId,
    /// At which carrier.
    pub carrier: Carrier,
    /// Refused or down; anything where it is only held back, or cannot be asked.
    pub health: Health,
    /// What the carrier said, or what happened.
    pub detail: Option<String>,
    /// Nothing is sent before this time.
    pub hold_until: Option<Time>,
    /// Since when the carrier cannot be asked about its calls.
    pub unreadable_since: Option<Time>,
}

/// The accounts that are not well, at most 500 of them by business, and how many there are of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Troubles {
    /// The accounts.
    pub accounts: Vec<NotOk>,
    /// How many the carrier refuses.
    pub refused: i64,
    /// How many cannot be reached.
    pub down: i64,
    /// How many cannot be asked about their live calls, whatever else is known of them.
    pub unreadable: i64,
}

/// Reads what is wrong with accounts.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn troubles(pg: &PgPool) -> sqlx::Result<Troubles> {
    let counts = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE health = 'refused') AS "refused!", count(*) FILTER (WHERE health = 'down') AS "down!",
                  count(*) FILTER (WHERE unreadable_since IS NOT NULL) AS "unreadable!"
           FROM carrier_account"#
    )
    .fetch_one(pg)
    .await?;
    let accounts = sqlx::query_as!(
        NotOk,
        r#"SELECT business_id AS "business_id: BusinessId", carrier AS "carrier: Carrier", health AS "health: Health",
                  health_detail AS detail, hold_until AS "hold_until: Time", unreadable_since AS "unreadable_since: Time"
           FROM carrier_account
           WHERE health IN ('refused', 'down') OR hold_until > clock_timestamp() OR unreadable_since IS NOT NULL
           ORDER BY business_id, carrier LIMIT $1"#,
        MOST_SHOWN
    )
    .fetch_all(pg)
    .await?;
    Ok(Troubles { accounts, refused: counts.refused, down: counts.down, unreadable: counts.unreadable })
}
