//! Speech by command: what was said to whom, and what is to be hung up because all is said. And what the ledger knows of an
//! answer where the carrier's word for the end leaves it open.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{
    attempts::{looks::LiveCall, state::AttemptState},
    ids::{AttemptId, BusinessId},
};

/// What is known of a call before it is spoken to.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The command to speak was taken before: a doubled answer says nothing twice.
    pub said: bool,
    /// Nothing is said before the carrier has told who picked up.
    pub listened_first: bool,
}

/// What is known of a call before it is spoken to.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn known(pg: &PgPool, (business, attempt): (BusinessId, AttemptId)) -> sqlx::Result<Known> {
    let known = sqlx::query_as!(
        Known,
        r#"SELECT a.said_at IS NOT NULL AS "said!", coalesce(d.rule ->> 'detect' = 'sync', false) AS "listened_first!"
           FROM attempt a LEFT JOIN detection d USING (attempt_id) WHERE a.attempt_id = $1 AND a.business_id = $2"#,
        attempt.0,
        business.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(known.unwrap_or_default())
}

/// Writes down that the carrier took the command to speak.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn said(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE attempt SET said_at = clock_timestamp(), heard_at = clock_timestamp() WHERE attempt_id = $1 AND said_at IS NULL",
        attempt.0
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Writes down that all is said; false where there is no open call of that attempt, or it was known.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn over(pg: &PgPool, (business, attempt): (BusinessId, AttemptId)) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE attempt SET speech_over_at = clock_timestamp(), heard_at = clock_timestamp()
         WHERE attempt_id = $1 AND business_id = $2 AND open AND speech_over_at IS NULL",
        attempt.0,
        business.0
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Calls in which all is said and that are not over, asked to end every `again_ms`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pick_over(pg: &PgPool, most: i64, again_ms: i64, full: &[String]) -> sqlx::Result<Vec<LiveCall>> {
    sqlx::query_as!(
        LiveCall,
        r#"UPDATE attempt SET hangup_asked_at = clock_timestamp()
           WHERE attempt_id IN (SELECT attempt_id FROM attempt
               WHERE open AND line IS NOT NULL AND rank >= 2 AND carrier_call_id IS NOT NULL
                   AND greatest(speech_over_at, hangup_asked_at) < clock_timestamp() - make_interval(secs => $2::float8 / 1000)
                   AND speech_over_at IS NOT NULL AND business_id::text || ' ' || account <> ALL($3)
               ORDER BY speech_over_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account,
               carrier_call_id AS "call_id!", state AS "state: AttemptState", 0::bigint AS "silent_ms!""#,
        most,
        again_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// What is known of the answer to a call.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Seconds since then.
    pub secs: i32,
    /// Who it was, in our word.
    pub by: Option<String>,
}

/// The answer to an open call, where there was one as far as known.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn answered(
    pg: &PgPool,
    (business, attempt): (BusinessId, AttemptId),
    ended_at: Option<DateTime<Utc>>,
) -> sqlx::Result<Option<Answered>> {
    sqlx::query_as!(
        Answered,
        r#"SELECT greatest(round(extract(epoch FROM happened_at($3, clock_timestamp()) - answered_at)), 0)::int AS "secs!", answered_by AS by
           FROM attempt WHERE attempt_id = $1 AND business_id = $2 AND open AND answered_at IS NOT NULL"#,
        attempt.0,
        business.0,
        ended_at
    )
    .fetch_optional(pg)
    .await
}

/// The number that was called, which is ours where somebody rang it, and the call's id as far as known.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn whom(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<Option<(String, Option<String>)>> {
    let row = sqlx::query!(
        r#"SELECT CASE direction WHEN 'inbound' THEN from_number ELSE to_number END AS "called!", carrier_call_id
           FROM attempt WHERE attempt_id = $1"#,
        attempt.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| (row.called, row.carrier_call_id)))
}

/// A call that the carrier was too full to make.
#[derive(Debug, Clone)]
pub struct TurnedAway {
    /// The account, the carrier's own name of it.
    pub account: String,
    /// Milliseconds since it was sent.
    pub sent_ms_ago: i64,
}

/// Whoever picked up heard nothing, for a fault of ours: the call will end as `abandoned`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn nothing_was_heard(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE attempt SET fenced = true WHERE attempt_id = $1 AND open AND direction = 'outbound'",
        attempt.0
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Lets the job of a call that the carrier was too full to make go back to the queue, uncharged, when its end is applied as a
/// cancel. `None` where that happened to it `most` times: then it is no passing trouble.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn turned_away(
    pg: &PgPool,
    (business, attempt): (BusinessId, AttemptId),
    most: i64,
) -> sqlx::Result<Option<TurnedAway>> {
    sqlx::query_as!(
        TurnedAway,
        r#"UPDATE attempt a SET queue_cancelled_at = clock_timestamp()
           WHERE attempt_id = $1 AND business_id = $2 AND open AND answered_at IS NULL AND job_id IS NOT NULL
               AND (SELECT count(*) FROM attempt o WHERE o.job_id = a.job_id
                        AND rang_nobody(o.state, o.disposition, o.queue_cancelled_at)) < $3
           RETURNING account, (extract(epoch FROM clock_timestamp() - coalesce(sent_at, intent_at)) * 1000)::bigint AS "sent_ms_ago!""#,
        attempt.0,
        business.0,
        most
    )
    .fetch_optional(pg)
    .await
}

/// Keeps the time at which the callee wants to be called again; the end of the call makes its job wait for it. False where that time
/// is past, more than 60 days away, or the call over.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn call_back(pg: &PgPool, attempt: AttemptId, at: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE attempt SET call_back_at = $2 WHERE attempt_id = $1 AND open AND $2 > wall_clock() AND $2 < wall_clock() + interval '60 days'",
        attempt as AttemptId,
        at
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}
