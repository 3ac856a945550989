//! Calls that a carrier has accepted and not begun: they wait in a queue of its own.
//!
//! Invariant: what was cancelled there rang nobody, so that its job comes back uncharged.

use sqlx::PgPool;

use crate::{
    attempts::{looks::LiveCall, speech::TurnedAway, state::AttemptState},
    ids::{AttemptId, BusinessId},
};

/// Calls in the carrier's queue, as far as known, for longer than `limit_ms` or out of their window. One that was to be cancelled
/// there is shown again after `again_ms`: the carrier may not have taken the request. None of `full` accounts, and none of what is
/// asked `about` already or was seen.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn stuck(
    pg: &PgPool,
    most: i64,
    (limit_ms, again_ms): (i64, i64),
    (full, about): (&[String], &[String]),
) -> sqlx::Result<Vec<LiveCall>> {
    sqlx::query_as!(
        LiveCall,
        r#"SELECT attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", account,
               carrier_call_id AS "call_id!", state AS "state: AttemptState", 0::bigint AS "silent_ms!"
           FROM attempt WHERE open AND line IS NOT NULL AND rank = 2 AND carrier_call_id IS NOT NULL
               AND (placed_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000) OR out_of_window(job_id))
               AND (queue_cancelled_at IS NULL OR queue_cancelled_at < clock_timestamp() - make_interval(secs => $3::float8 / 1000))
               AND business_id::text || ' ' || account <> ALL($4) AND attempt_id::text <> ALL($5)
           ORDER BY queue_cancelled_at NULLS FIRST, placed_at LIMIT $1"#,
        most,
        limit_ms as f64,
        again_ms as f64,
        full,
        about,
    )
    .fetch_all(pg)
    .await
}

/// Writes down that the call is being cancelled in the carrier's queue; false where somebody did so within the last
/// `again_ms`, or it moved on.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn cancelling(pg: &PgPool, attempt: AttemptId, again_ms: i64) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE attempt SET queue_cancelled_at = clock_timestamp() WHERE attempt_id = $1 AND rank = 2
             AND (queue_cancelled_at IS NULL OR queue_cancelled_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000))",
        attempt.0,
        again_ms as f64,
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// A call that is ending because it was cancelled in the carrier's queue, where it had waited for longer than `limit_ms`, and
/// how often that happened to its job before. `None` of any other: one that left its window had not been there for too long.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn left(
    pg: &PgPool,
    (business, attempt): (BusinessId, AttemptId),
    limit_ms: i64,
) -> sqlx::Result<Option<(TurnedAway, i64)>> {
    let row = sqlx::query!(
        r#"SELECT account, (extract(epoch FROM clock_timestamp() - coalesce(sent_at, intent_at)) * 1000)::bigint AS "sent_ms_ago!",
               (SELECT count(*) FROM attempt o WHERE o.job_id = a.job_id AND rang_nobody(o.state, o.disposition, o.queue_cancelled_at)
                    AND o.queue_cancelled_at >= o.placed_at + make_interval(secs => $3::float8 / 1000)) AS "before!"
           FROM attempt a WHERE attempt_id = $1 AND business_id = $2 AND open AND carrier = 'twilio' AND job_id IS NOT NULL
               AND NOT hangup_wanted AND queue_cancelled_at >= placed_at + make_interval(secs => $3::float8 / 1000)
               AND (greatest(initiated_at, ringing_at) > queue_cancelled_at) IS NOT TRUE"#,
        attempt.0,
        business.0,
        limit_ms as f64
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| (TurnedAway { account: row.account, sent_ms_ago: row.sent_ms_ago }, row.before)))
}
