//! Calls whose carrier listens for who picks up: what is to happen with a machine, and how far it has come.
//!
//! A call has a row here only where it is listened to. All of it is written before or after a call's own state and never decides
//! over it, but for one thing: a message that was left makes the call's end `voicemail_left`.

use serde_json::{Map, Value};
use sqlx::{PgExecutor, PgPool};

use crate::{
    attempts::{looks::LiveCall, state::AttemptState},
    ids::{AttemptId, BusinessId},
};

/// A call that is listened to, as it is now.
#[derive(Debug, Clone)]
pub struct Listened {
    /// `{detect, then, message}`, as it was dialed.
    pub rule: Value,
    /// True where it may be spoken to: open, and nobody wants it ended.
    pub open: bool,
    /// The carrier's id of the call.
    pub call_id: Option<String>,
    /// Who picked up, in our word.
    pub by: Option<String>,
    /// Seconds since somebody or something did.
    pub answered_secs: Option<i32>,
    /// The carrier that is told what to say took it.
    pub said: bool,
    /// All was said that is said to a person.
    pub spoken: bool,
    /// The machine's greeting is over.
    pub greeting_over: bool,
    /// Milliseconds since somebody began to leave the message.
    pub leaving_ms: Option<i64>,
    /// The message was said to its end.
    pub left: bool,
    /// What is said to a person: `{text, language, voice}`; nothing where an agent talks.
    pub message: Option<Value>,
    /// The callee's variables.
    pub variables: Map<String, Value>,
}

/// Writes down that a call is listened to, before it is dialed; once.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn begin(
    pg: impl PgExecutor<'_>,
    (business, attempt): (BusinessId, AttemptId),
    rule: &Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO detection (attempt_id, business_id, rule) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        attempt.0,
        business.0,
        rule
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Forgets a call that was not admitted.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn forget(pg: impl PgExecutor<'_>, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM detection WHERE attempt_id = $1", attempt.0).execute(pg).await?;
    Ok(())
}

/// The rule of a call that is to be listened to; `None` where it is not.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn rule(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!("SELECT rule FROM detection WHERE attempt_id = $1", attempt.0).fetch_optional(pg).await
}

/// A call that is listened to; `None` where it is not.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of(pg: &PgPool, (business, attempt): (BusinessId, AttemptId)) -> sqlx::Result<Option<Listened>> {
    let row = sqlx::query!(
        r#"SELECT d.rule, a.carrier_call_id AS call_id, a.answered_by, a.said_at IS NOT NULL AS "said!", d.spoken_at IS NOT NULL AS "spoken!",
               a.open AND a.carrier_call_id IS NOT NULL AND NOT a.hangup_wanted AND NOT a.fenced
                   AND coalesce(r.state NOT IN ('cancelling', 'cancelled') OR r.finish_calls, true) AS "open!",
               extract(epoch FROM clock_timestamp() - a.answered_at)::int AS answered_secs,
               d.greeting_over_at IS NOT NULL AS "greeting_over!", d.left_at IS NOT NULL AS "left!",
               (extract(epoch FROM clock_timestamp() - d.leaving_at) * 1000)::bigint AS leaving_ms,
               coalesce(a.message, r.message) AS message, coalesce(j.variables, a.variables) AS "variables!"
           FROM detection d JOIN attempt a USING (attempt_id) LEFT JOIN run r ON r.run_id = a.run_id
               LEFT JOIN job j ON j.job_id = a.job_id
           WHERE d.attempt_id = $1 AND a.business_id = $2"#,
        attempt.0,
        business.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| Listened {
        rule: row.rule,
        open: row.open,
        call_id: row.call_id,
        by: row.answered_by,
        answered_secs: row.answered_secs,
        said: row.said,
        spoken: row.spoken,
        greeting_over: row.greeting_over,
        leaving_ms: row.leaving_ms,
        left: row.left,
        message: row.message,
        variables: match row.variables {
            Value::Object(variables) => variables,
            _ => Map::new(),
        },
    }))
}

/// Writes down that all was said that is said to a person, or that the machine's greeting is over, or that the message for
/// machines was said to its end; each once.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn note(pg: &PgPool, (business, attempt): (BusinessId, AttemptId), what: Noted) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE detection SET spoken_at = CASE WHEN $3 THEN coalesce(spoken_at, clock_timestamp()) ELSE spoken_at END,
             greeting_over_at = CASE WHEN $4 THEN coalesce(greeting_over_at, clock_timestamp()) ELSE greeting_over_at END,
             left_at = CASE WHEN $5 THEN coalesce(left_at, clock_timestamp()) ELSE left_at END
         WHERE attempt_id = $1 AND business_id = $2",
        attempt.0,
        business.0,
        what == Noted::Spoken,
        what == Noted::GreetingOver,
        what == Noted::Left,
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// What is noted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// All was said that is said to a person.
    Spoken,
    /// The machine's greeting is over.
    GreetingOver,
    /// The message for machines was said to its end.
    Left,
}

/// Takes it upon oneself to leave the message; false where somebody did so within the last `again_ms`, or it is left. Whoever
/// then dies is found in ten seconds; who does not, says so by [`decided`].
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn takes_leave(pg: &PgPool, attempt: AttemptId, again_ms: i64) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE detection SET leaving_at = clock_timestamp(), decide_by = clock_timestamp() + interval '10 s' WHERE attempt_id = $1 AND left_at IS NULL
             AND (leaving_at IS NULL OR leaving_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000))",
        attempt.0,
        again_ms as f64,
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The message could not be left after all: somebody else may.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn gives_up_leave(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!("UPDATE detection SET leaving_at = NULL WHERE attempt_id = $1 AND left_at IS NULL", attempt.0)
        .execute(pg)
        .await?;
    Ok(())
}

/// Decides without the carrier's word so many seconds after the answer, and no sooner than somebody decided before.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn waits(pg: &PgPool, attempt: AttemptId, secs: i32) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE detection d SET decide_by = greatest(d.decide_by, coalesce(a.answered_at, clock_timestamp()) + make_interval(secs => $2))
         FROM attempt a WHERE a.attempt_id = d.attempt_id AND d.attempt_id = $1",
        attempt.0,
        f64::from(secs)
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Calls whose waiting has an end, but none of `full` accounts, each by its business and its name: each is given to one who asks,
/// and again after `again_ms`. One that is over waits no more.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn pick_undecided(pg: &PgPool, most: i64, again_ms: i64, full: &[String]) -> sqlx::Result<Vec<LiveCall>> {
    sqlx::query_as!(
        LiveCall,
        // Whether its call is known is asked of each attempt, and leads to no list of all that are.
        r#"UPDATE detection d SET decide_by = CASE WHEN a.open THEN clock_timestamp() + make_interval(secs => $2::float8 / 1000) END
           FROM attempt a
           WHERE a.attempt_id = d.attempt_id AND coalesce(a.carrier_call_id, '') <> '' AND d.attempt_id IN (
               SELECT attempt_id FROM detection n WHERE decide_by < statement_timestamp() AND decide_by IS NOT NULL
                   AND (SELECT o.business_id::text || ' ' || o.account FROM attempt o WHERE o.attempt_id = n.attempt_id) <> ALL($3)
               ORDER BY decide_by LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING a.attempt_id AS "attempt: AttemptId", a.business_id AS "business: BusinessId", a.account,
               a.carrier_call_id AS "call_id!", a.state AS "state: AttemptState", 0::bigint AS "silent_ms!""#,
        most,
        again_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// Nothing is waited for any more.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn decided(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!("UPDATE detection SET decide_by = NULL WHERE attempt_id = $1 AND decide_by IS NOT NULL", attempt.0)
        .execute(pg)
        .await?;
    Ok(())
}
