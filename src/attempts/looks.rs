//! What the reconciler and the hang-up read of the ledger, and how far each look came.
//!
//! Every pick takes its rows' next time forward in the same statement with `SKIP LOCKED`: that is the lease. HTTP happens
//! after the commit, never inside a transaction.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{
    attempts::state::AttemptState,
    ids::{AttemptId, BusinessId},
};

/// An attempt in doubt: it may or may not be a call, and no call id is known.
#[derive(Debug, Clone)]
pub struct InDoubt {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// The carrier's own name of the account.
    pub account: String,
    /// Caller id, E.164.
    pub from: String,
    /// Callee, E.164.
    pub to: String,
    /// When it was written down.
    pub intent_at: DateTime<Utc>,
    /// Milliseconds since then, by Postgres.
    pub age_ms: i64,
    /// Looks so far that counted and found nothing.
    pub empty_looks: i16,
    /// Milliseconds since the first of them.
    pub since_empty_ms: Option<i64>,
    /// Seconds that the call may last.
    pub call_time_limit_secs: i32,
    /// Postgres' clock at the pick.
    pub now: DateTime<Utc>,
}

/// Picks attempts in doubt that are due for a look, but none of `full` accounts, each by its business and its name; the next look is
/// due after `lease_ms`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pick_in_doubt(pg: &PgPool, most: i64, lease_ms: i64, full: &[String]) -> sqlx::Result<Vec<InDoubt>> {
    sqlx::query_as!(
        InDoubt,
        r#"UPDATE attempt SET next_look_at = clock_timestamp() + make_interval(secs => $2::float8 / 1000)
           WHERE attempt_id IN (SELECT attempt_id FROM attempt WHERE open AND line IS NOT NULL AND next_look_at <= clock_timestamp()
                                    AND business_id::text || ' ' || account <> ALL($3)
                                ORDER BY next_look_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account, from_number AS "from",
               to_number AS "to", intent_at, call_time_limit_secs, empty_looks,
               (extract(epoch FROM clock_timestamp() - intent_at) * 1000)::bigint AS "age_ms!",
               (extract(epoch FROM clock_timestamp() - first_empty_at) * 1000)::bigint AS since_empty_ms,
               clock_timestamp() AS "now!""#,
        most,
        lease_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// One attempt in doubt; `None` where it is not.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn one_in_doubt(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<Option<InDoubt>> {
    sqlx::query_as!(
        InDoubt,
        r#"SELECT attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account, from_number AS "from",
               to_number AS "to", intent_at, call_time_limit_secs, empty_looks,
               (extract(epoch FROM clock_timestamp() - intent_at) * 1000)::bigint AS "age_ms!",
               (extract(epoch FROM clock_timestamp() - first_empty_at) * 1000)::bigint AS since_empty_ms,
               clock_timestamp() AS "now!"
           FROM attempt WHERE attempt_id = $1 AND rank < 2 AND owner IS NOT NULL"#,
        attempt.0
    )
    .fetch_optional(pg)
    .await
}

/// Takes one attempt in doubt for a look now, though its time has not come; the next look is due after `lease_ms`. `None`
/// where it is not in doubt, its owner may still be sending it (an intent younger than `grace_ms`), or somebody has it.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn take_in_doubt(
    pg: &PgPool,
    attempt: AttemptId,
    grace_ms: i64,
    lease_ms: i64,
) -> sqlx::Result<Option<InDoubt>> {
    sqlx::query_as!(
        InDoubt,
        r#"UPDATE attempt SET next_look_at = clock_timestamp() + make_interval(secs => $3::float8 / 1000)
           WHERE attempt_id IN (SELECT attempt_id FROM attempt
               WHERE attempt_id = $1 AND rank < 2 AND owner IS NOT NULL AND (state = 'unknown'
                   OR intent_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000))
               FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account, from_number AS "from",
               to_number AS "to", intent_at, call_time_limit_secs, empty_looks,
               (extract(epoch FROM clock_timestamp() - intent_at) * 1000)::bigint AS "age_ms!",
               (extract(epoch FROM clock_timestamp() - first_empty_at) * 1000)::bigint AS since_empty_ms,
               clock_timestamp() AS "now!""#,
        attempt.0,
        grace_ms as f64,
        lease_ms as f64,
    )
    .fetch_optional(pg)
    .await
}

/// Writes down a look that counted and found nothing.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn found_nothing(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE attempt SET empty_looks = least(empty_looks + 1, 100), first_empty_at = coalesce(first_empty_at, clock_timestamp())
         WHERE attempt_id = $1 AND rank < 2",
        attempt.0
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Writes down that only a person can tell which call this attempt is, and looks again after `again_ms`. Its slot stays held.
/// Returns for how long that is known, in seconds.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn needs_person(pg: &PgPool, attempt: AttemptId, again_ms: i64) -> sqlx::Result<i64> {
    let since = sqlx::query_scalar!(
        r#"UPDATE attempt SET needs_person = true, needs_person_since = coalesce(needs_person_since, clock_timestamp()),
               next_look_at = clock_timestamp() + make_interval(secs => $2::float8 / 1000)
           WHERE attempt_id = $1 AND rank < 2
           RETURNING extract(epoch FROM clock_timestamp() - needs_person_since)::bigint AS "secs!""#,
        attempt.0,
        again_ms as f64,
    )
    .fetch_optional(pg)
    .await?;
    Ok(since.unwrap_or(0))
}

/// Of these call ids of an account, those that an attempt has already.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn bound(pg: &PgPool, account: &str, call_ids: &[String]) -> sqlx::Result<Vec<String>> {
    if call_ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        r#"SELECT carrier_call_id AS "call_id!" FROM attempt WHERE account = $1 AND carrier_call_id = ANY($2)"#,
        account,
        call_ids
    )
    .fetch_all(pg)
    .await
}

/// The oldest call of the account whose intent is younger than `after` and that was dialed: its number and call id. If the
/// carrier lists that one, its list is fresh enough to show an older one.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn newer_call(pg: &PgPool, account: &str, after: DateTime<Utc>) -> sqlx::Result<Option<(String, String)>> {
    let row = sqlx::query!(
        r#"SELECT to_number, carrier_call_id AS "call_id!" FROM attempt
           WHERE account = $1 AND intent_at > $2 AND carrier_call_id IS NOT NULL AND NOT is_erased(to_number) AND direction = 'outbound'
               AND (initiated_at IS NOT NULL OR answered_at IS NOT NULL OR ended_at IS NOT NULL)
           ORDER BY intent_at LIMIT 1"#,
        account,
        after
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| (row.to_number, row.call_id)))
}

/// An account whose live list is due.
#[derive(Debug, Clone)]
pub struct DueAccount {
    /// Whose.
    pub business: BusinessId,
    /// The carrier's own name of the account.
    pub account: String,
    /// True where it could not be asked when it was last tried.
    pub unreadable: bool,
}

/// Picks accounts with live calls, or that could not be asked, whose list is due, but none that are `full`; it is due again after
/// `lease_ms`. One that cannot be asked is tried more and more rarely: after a tenth of the time for which that is so, six leases at
/// most, so that many of them keep little busy.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pick_accounts(pg: &PgPool, most: i64, lease_ms: i64, full: &[String]) -> sqlx::Result<Vec<DueAccount>> {
    sqlx::query_as!(
        DueAccount,
        r#"UPDATE carrier_account c SET live_look_at = clock_timestamp() + least(6 * lease.time,
               greatest(lease.time, (clock_timestamp() - unreadable_since) / 10))
           FROM (SELECT business_id, carrier FROM carrier_account d WHERE live_look_at <= clock_timestamp()
                     AND business_id::text || ' ' || reference <> ALL($3)
                     AND (unreadable_since IS NOT NULL OR EXISTS (SELECT 1 FROM attempt a
                         WHERE a.business_id = d.business_id AND a.account = d.reference AND a.open AND a.rank >= 2))
                 ORDER BY live_look_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) due,
               make_interval(secs => $2::float8 / 1000) AS lease (time)
           WHERE c.business_id = due.business_id AND c.carrier = due.carrier
           RETURNING c.business_id AS "business: BusinessId", c.reference AS account, unreadable_since IS NOT NULL AS "unreadable!""#,
        most,
        lease_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// Makes the account's live list due sooner than the pick said.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn look_again_after(pg: &PgPool, account: &DueAccount, ms: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE carrier_account SET live_look_at = clock_timestamp() + make_interval(secs => $3::float8 / 1000)
         WHERE business_id = $1 AND reference = $2",
        account.business.0,
        account.account,
        ms as f64,
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// An open attempt with a call id.
#[derive(Debug, Clone)]
pub struct LiveCall {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call.
    pub call_id: String,
    /// How far it is known to be.
    pub state: AttemptState,
    /// Milliseconds since the carrier was last heard about it.
    pub silent_ms: i64,
}

/// The live calls of one business at one account.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn live_calls(pg: &PgPool, account: &DueAccount) -> sqlx::Result<Vec<LiveCall>> {
    sqlx::query_as!(
        LiveCall,
        r#"SELECT attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account,
               carrier_call_id AS "call_id!", state AS "state: AttemptState",
               (extract(epoch FROM clock_timestamp() - heard_at) * 1000)::bigint AS "silent_ms!"
           FROM attempt WHERE business_id = $1 AND account = $2 AND open AND rank >= 2 AND carrier_call_id IS NOT NULL"#,
        account.business.0,
        account.account,
    )
    .fetch_all(pg)
    .await
}

/// Live calls that somebody wants hung up, but none of `full` accounts, asked for again every `again_ms`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pick_hangups(pg: &PgPool, most: i64, again_ms: i64, full: &[String]) -> sqlx::Result<Vec<LiveCall>> {
    sqlx::query_as!(
        LiveCall,
        r#"UPDATE attempt SET hangup_asked_at = clock_timestamp()
           WHERE attempt_id IN (SELECT attempt_id FROM attempt
               WHERE open AND line IS NOT NULL AND rank >= 2 AND hangup_wanted AND carrier_call_id IS NOT NULL
                   AND (hangup_asked_at IS NULL OR hangup_asked_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000))
                   AND business_id::text || ' ' || account <> ALL($3)
               ORDER BY hangup_asked_at NULLS FIRST LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account,
               carrier_call_id AS "call_id!", state AS "state: AttemptState", 0::bigint AS "silent_ms!""#,
        most,
        again_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// An attempt as the gate must know it.
#[derive(Debug, Clone, Copy)]
pub struct OnTheLine {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// Which slot.
    pub slot: i32,
    /// Which line.
    pub line: i32,
    /// True where it still holds them.
    pub open: bool,
}

/// Every open attempt, and those of `known` that are closed. One of `known` that is in neither has no row.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn on_the_line(pg: &PgPool, known: &[AttemptId]) -> sqlx::Result<Vec<OnTheLine>> {
    let known: Vec<_> = known.iter().map(|a| a.0).collect();
    sqlx::query_as!(
        OnTheLine,
        r#"SELECT attempt_id AS "attempt!: AttemptId", business_id AS "business!: BusinessId", slot AS "slot!", line AS "line!",
               true AS "open!"
           FROM attempt WHERE open AND line IS NOT NULL
           UNION ALL
           SELECT attempt_id, business_id, slot, line, false FROM attempt WHERE attempt_id = ANY($1) AND NOT open"#,
        &known
    )
    .fetch_all(pg)
    .await
}

/// Attempts in doubt or silent for so long that they are given up, each with its call id where one is known.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn expired(
    pg: &PgPool,
    most: i64,
    expire_after_ms: i64,
) -> sqlx::Result<Vec<(AttemptId, BusinessId, Option<String>)>> {
    let rows = sqlx::query!(
        r#"SELECT attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", carrier_call_id FROM attempt
           WHERE open AND line IS NOT NULL AND owner IS NOT NULL
               AND intent_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000 + call_time_limit_secs)
           LIMIT $1"#,
        most,
        expire_after_ms as f64,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.attempt, row.business, row.carrier_call_id)).collect())
}
