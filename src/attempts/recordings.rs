//! Recordings: which there are of which call. The sound stays at the carrier and is fetched from there.

use serde::Serialize;
use sqlx::PgPool;

use crate::{
    clock::Time,
    ids::{AttemptId, BusinessId, Carrier, RunId},
};

/// A recording as it is listed.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Recording {
    /// The call.
    pub attempt_id: AttemptId,
    /// Its run; null for a single call.
    pub run_id: Option<RunId>,
    /// Where it is kept.
    pub carrier: Carrier,
    /// The carrier's own name of it.
    pub carrier_recording_id: String,
    /// The number that was called.
    pub to: String,
    /// Seconds, where the carrier says.
    pub duration_secs: Option<i32>,
    /// One for both sides, or one for each.
    pub channels: Option<i16>,
    /// When we heard of it.
    pub created_at: Time,
    /// Where it is fetched, with a key of the business.
    pub url: String,
}

/// Writes down a recording of an attempt; once, however often it is told. One whose number was erased meanwhile is to be deleted
/// at once. False where there is no such attempt, or it was known.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn saved(
    pg: &PgPool,
    (business, attempt): (BusinessId, AttemptId),
    id: &str,
    duration_secs: Option<i32>,
    channels: Option<i16>,
) -> sqlx::Result<bool> {
    let mut tx = pg.begin().await?;
    let done = sqlx::query!(
        "INSERT INTO recording (attempt_id, business_id, account, carrier_recording_id, duration_secs, channels, unwanted_since, next_try_at)
         SELECT attempt_id, business_id, account, $3, $4, $5, e.at, e.at
         FROM attempt, LATERAL (SELECT CASE WHEN is_erased(to_number) THEN clock_timestamp() END) AS e (at)
         WHERE attempt_id = $1 AND business_id = $2
         ON CONFLICT DO NOTHING",
        attempt.0,
        business.0,
        id,
        duration_secs,
        channels
    )
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 1 {
        sqlx::query!(
            "UPDATE attempt SET recording_url = coalesce(recording_url, $2) WHERE attempt_id = $1 AND NOT is_erased(to_number)",
            attempt.0,
            url(attempt)
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// A call that was to be recorded, is over, and has no recording yet.
#[derive(Debug, Clone)]
pub struct Untold {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call.
    pub call_id: String,
    /// The number that was called, E.164.
    pub to: String,
}

/// The carrier has a recording of this call and did not say which: it is asked for at once, where the call is over. (One that is not
/// is asked about some time after its end, as any that nobody told of.)
///
/// # Errors
/// Where Postgres does not answer.
pub async fn ask_now(pg: &PgPool, (business, attempt): (BusinessId, AttemptId)) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE attempt SET next_look_at = clock_timestamp() WHERE attempt_id = $1 AND business_id = $2 AND record
             AND recording_url IS NULL AND answered_at IS NOT NULL AND ended_at IS NOT NULL AND carrier_call_id IS NOT NULL",
        attempt.0,
        business.0
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Picks calls that ended `after_ms` ago, were answered and were to be recorded, and whose recording nobody told of, and those that
/// are to be asked for at once. Each is given to one who asks, and then again when the time since its end is five times as long,
/// until a day has passed. None of `full` accounts, each by its business and its name.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pick_untold(pg: &PgPool, most: i64, after_ms: i64, full: &[String]) -> sqlx::Result<Vec<Untold>> {
    sqlx::query_as!(
        Untold,
        r#"UPDATE attempt SET next_look_at = clock_timestamp() + 4 * (clock_timestamp() - ended_at)
           WHERE attempt_id IN (SELECT attempt_id FROM attempt
               WHERE record AND recording_url IS NULL AND disposition NOT IN ('busy', 'no_answer') AND ended_at IS NOT NULL
                   AND answered_at IS NOT NULL AND (next_look_at <= clock_timestamp()
                        OR (next_look_at IS NULL AND ended_at < statement_timestamp() - make_interval(secs => $2::float8 / 1000)))
                   AND ended_at > statement_timestamp() - interval '24 hours' AND carrier_call_id IS NOT NULL
                   AND business_id::text || ' ' || account <> ALL($3)
               ORDER BY ended_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account,
               carrier_call_id AS "call_id!", to_number AS "to""#,
        most,
        after_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// Where the recording of a call is fetched.
fn url(attempt: AttemptId) -> String {
    format!("/v1/calls/{attempt}/recording")
}

/// Recordings of a business, of one run where one is named, newest call first, of calls before `before`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn list(
    pg: &PgPool,
    business: BusinessId,
    run: Option<RunId>,
    before: Option<AttemptId>,
    limit: i64,
) -> sqlx::Result<Vec<Recording>> {
    let rows = sqlx::query!(
        r#"SELECT r.attempt_id AS "attempt: AttemptId", a.run_id AS "run: RunId", a.carrier AS "carrier: Carrier",
                  carrier_recording_id, to_number, r.duration_secs, channels, created_at
           FROM recording r JOIN attempt a USING (attempt_id)
           WHERE r.business_id = $1 AND r.unwanted_since IS NULL AND ($2::uuid IS NULL OR a.run_id = $2) AND ($3::uuid IS NULL OR r.attempt_id < $3)
           ORDER BY r.attempt_id DESC, carrier_recording_id LIMIT $4"#,
        business.0,
        run as Option<RunId>,
        before as Option<AttemptId>,
        limit
    )
    .fetch_all(pg)
    .await?;
    let recordings = rows.into_iter().map(|row| Recording {
        attempt_id: row.attempt,
        run_id: row.run,
        carrier: row.carrier,
        carrier_recording_id: row.carrier_recording_id,
        to: row.to_number,
        duration_secs: row.duration_secs,
        channels: row.channels,
        created_at: row.created_at.into(),
        url: url(row.attempt),
    });
    Ok(recordings.collect())
}

/// The account that has the recording of a call, and the carrier's name of the recording; the first where there are several.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_call(pg: &PgPool, business: BusinessId, attempt: AttemptId) -> sqlx::Result<Option<(String, String)>> {
    let row = sqlx::query!(
        "SELECT account, carrier_recording_id FROM recording
         WHERE business_id = $1 AND attempt_id = $2 AND unwanted_since IS NULL ORDER BY created_at, carrier_recording_id LIMIT 1",
        business.0,
        attempt.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| (row.account, row.carrier_recording_id)))
}
