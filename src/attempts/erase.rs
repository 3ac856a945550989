//! The ledger forgets who was called: the number, what was known about it, and its recordings. That there was a call stays.
//!
//! Not here: jobs (`jobs::skip`), transcripts (`calls::conversation`), and the sound at the carrier (`dialing::retention`).

use sqlx::{PgConnection, PgExecutor, PgPool};

use super::{state::AttemptState, view::InFlight};
use crate::{
    clock::Time,
    ids::{AttemptId, BusinessId, JobId},
};

/// What every number that was forgotten begins with: no country's code.
pub const ERASED: &str = "+999";
/// Minutes until a carrier that did not delete a recording is asked again.
const AGAIN_MINS: i32 = 5;

/// The open attempts of a business to a number.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn in_flight(db: &mut PgConnection, business: BusinessId, number: &str) -> sqlx::Result<Vec<InFlight>> {
    sqlx::query_as!(
        InFlight,
        r#"SELECT attempt_id AS "attempt_id: AttemptId", job_id AS "job_id: JobId", to_number AS "to", state AS "state: AttemptState",
                  coalesce(last_moved_at(events), intent_at) AS "since!: Time"
           FROM attempt WHERE business_id = $1 AND to_number = $2 AND open ORDER BY attempt_id"#,
        business.0,
        number
    )
    .fetch_all(db)
    .await
}

/// Takes out of every closed attempt of a business with this number who it was: the attempts, each with its call's id.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn erase(
    db: &mut PgConnection,
    business: BusinessId,
    number: &str,
    placeholder: &str,
) -> sqlx::Result<Vec<(AttemptId, Option<String>)>> {
    let rows = sqlx::query!(
        r#"UPDATE attempt SET to_number = $3, external_id = NULL, variables = '{}', message = NULL, recording_url = NULL
           WHERE business_id = $1 AND to_number = $2 AND intent_at IS NOT NULL AND NOT open RETURNING attempt_id AS "attempt: AttemptId", carrier_call_id"#,
        business.0,
        number,
        placeholder
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.attempt, row.carrier_call_id)).collect())
}

/// Marks the recordings of these attempts to be deleted at their carriers; how many there are. Nobody is shown them any more.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn unwant_recordings(
    db: &mut PgConnection,
    business: BusinessId,
    attempts: &[uuid::Uuid],
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "UPDATE recording SET unwanted_since = clock_timestamp(), next_try_at = clock_timestamp()
         WHERE business_id = $1 AND attempt_id = ANY ($2) AND unwanted_since IS NULL",
        business.0,
        attempts
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Marks recordings that were made so many days ago to be deleted at their carriers, at most `most`; how many there were.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn unwant_old_recordings(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    days: i32,
    most: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "WITH old AS (
             UPDATE recording SET unwanted_since = clock_timestamp(), next_try_at = clock_timestamp()
             WHERE ctid = ANY (ARRAY(SELECT ctid FROM recording WHERE business_id = $1 AND unwanted_since IS NULL
                 AND created_at < statement_timestamp() - make_interval(days => $2) ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED))
             RETURNING attempt_id
         ), gone AS (
             UPDATE attempt SET recording_url = NULL FROM old WHERE attempt.attempt_id = old.attempt_id
         )
         SELECT attempt_id FROM old",
        business.0,
        days,
        most
    )
    .fetch_all(pg)
    .await?;
    Ok(done.len() as u64)
}

/// A recording that is to be deleted at its carrier.
#[derive(Debug, Clone)]
pub struct Unwanted {
    /// The call.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// The account that keeps it.
    pub account: String,
    /// The carrier's own name of it.
    pub recording: String,
}

/// Takes recordings that are to be deleted, at most `most` and none of `full` accounts, each by its business and its name; they
/// come again in some minutes, unless [`deleted`] is said.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn unwanted(pg: &PgPool, most: i64, full: &[String]) -> sqlx::Result<Vec<Unwanted>> {
    sqlx::query_as!(
        Unwanted,
        r#"UPDATE recording SET next_try_at = clock_timestamp() + make_interval(mins => $2)
           WHERE ctid = ANY (ARRAY(SELECT ctid FROM recording WHERE unwanted_since IS NOT NULL AND next_try_at <= statement_timestamp()
                   AND business_id::text || ' ' || account <> ALL($3)
               ORDER BY next_try_at LIMIT $1 FOR UPDATE SKIP LOCKED))
           RETURNING attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account, carrier_recording_id AS recording"#,
        most,
        AGAIN_MINS,
        full
    )
    .fetch_all(pg)
    .await
}

/// Forgets a recording that its carrier has no longer.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn deleted(pg: &PgPool, gone: &Unwanted) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM recording WHERE attempt_id = $1 AND carrier_recording_id = $2 AND unwanted_since IS NOT NULL",
        gone.attempt.0,
        gone.recording
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Takes what was known of the callee out of single calls that ended so many days ago, at most `most`; how many there were.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn forget_variables(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    days: i32,
    most: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "UPDATE attempt SET variables = '{}', message = NULL
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM attempt WHERE business_id = $1 AND job_id IS NULL AND NOT open
             AND (variables <> '{}' OR message IS NOT NULL) AND ended_at < clock_timestamp() - make_interval(days => $2)
             ORDER BY attempt_id LIMIT $3 FOR UPDATE SKIP LOCKED))",
        business.0,
        days,
        most
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected())
}
