//! The rows behind `Idempotency-Key`.
//!
//! Invariant: a row is written only by the request that owns it, which the time it was last marked as alive proves.
//! Not here: which requests have a key, and what an answer is sealed with (`api::idempotency`).

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// Seconds without a sign of life after which a running request counts as dead, because its process died.
pub const ABANDONED_SECS: i32 = 60;
/// Rows deleted per step of [`prune`]: few enough that nobody waits for them.
const PRUNED_AT_ONCE: i64 = 500;

/// What a key stands for now.
#[derive(Debug)]
pub enum Begin {
    /// Nobody else runs or ran: this request does.
    Ours(Ours),
    /// Another request with this key runs. The hash is empty where its body is still on its way.
    Running {
        /// Hash of that request.
        request_hash: Vec<u8>,
    },
    /// It succeeded before.
    Answered(Answer),
}

/// The right to run the request of a key.
#[derive(Debug)]
pub struct Ours {
    scope: String,
    key: String,
    alive_at: DateTime<Utc>,
    /// The id of what the request makes. A later request that takes over has the same, so that a request whose process
    /// died between its commit and its answer does not happen twice.
    pub reserved: Uuid,
    /// An earlier request with the key never said how it ended: it may have had its effect.
    took_over: bool,
}

impl Ours {
    /// What the answer is sealed for.
    #[must_use]
    pub fn place(&self) -> String {
        place(&self.scope, &self.key)
    }
}

/// What an answer is sealed for: it opens nowhere else.
#[must_use]
pub fn place(scope: &str, key: &str) -> String {
    format!("answer\0{scope}\0{key}\0")
}

/// A stored answer.
#[derive(Debug)]
pub struct Answer {
    /// Hash of the request that it answers.
    pub request_hash: Vec<u8>,
    /// HTTP status.
    pub status: i32,
    /// Media type.
    pub content_type: Option<String>,
    /// Where the thing is that was made.
    pub location: Option<String>,
    /// The body, sealed: an answer may hold a key that is kept nowhere else.
    pub body: Vec<u8>,
}

/// Takes the key, if nobody holds it, or its holder is dead.
///
/// # Errors
/// Where Postgres does.
pub async fn begin(pg: &PgPool, scope: &str, key: &str, request_hash: &[u8]) -> sqlx::Result<Begin> {
    let fresh = Uuid::now_v7();
    loop {
        // Until there is an answer, the body is the id that is reserved for what the request makes.
        let taken = sqlx::query!(
            r#"INSERT INTO idempotency AS i (scope, key, request_hash, body, started_at)
             VALUES ($1, $2, $3, $5, clock_timestamp())
             ON CONFLICT (scope, key) DO UPDATE SET request_hash = excluded.request_hash, started_at = clock_timestamp(),
                body = CASE WHEN i.request_hash = excluded.request_hash THEN i.body ELSE excluded.body END
                WHERE i.answered_at IS NULL AND i.started_at < clock_timestamp() - make_interval(secs => $4)
             RETURNING started_at, body AS "reserved!""#,
            scope,
            key,
            request_hash,
            f64::from(ABANDONED_SECS),
            fresh.as_bytes().as_slice()
        )
        .fetch_optional(pg)
        .await?;
        if let Some(row) = taken {
            let reserved = Uuid::from_slice(&row.reserved).unwrap_or(fresh);
            let (scope, key) = (scope.to_owned(), key.to_owned());
            let took_over = reserved != fresh;
            return Ok(Begin::Ours(Ours { scope, key, alive_at: row.started_at, reserved, took_over }));
        }
        let row = sqlx::query!(
            "SELECT request_hash, status, content_type, location, body FROM idempotency WHERE scope = $1 AND key = $2",
            scope,
            key
        )
        .fetch_optional(pg)
        .await?;
        // No row: its request failed between the two statements, and the key is free again.
        let Some(row) = row else { continue };
        return Ok(match (row.status, row.body) {
            (Some(status), Some(body)) => {
                let (request_hash, content_type, location) = (row.request_hash, row.content_type, row.location);
                Begin::Answered(Answer { request_hash, status, content_type, location, body })
            }
            _ => Begin::Running { request_hash: row.request_hash },
        });
    }
}

/// Says that the request still runs.
///
/// # Errors
/// Where Postgres does.
pub async fn still_running(pg: &PgPool, ours: &mut Ours) -> sqlx::Result<()> {
    let marked = sqlx::query_scalar!(
        "UPDATE idempotency SET started_at = clock_timestamp()
         WHERE scope = $1 AND key = $2 AND started_at = $3 AND answered_at IS NULL RETURNING started_at",
        ours.scope,
        ours.key,
        ours.alive_at
    )
    .fetch_optional(pg)
    .await?;
    if let Some(alive_at) = marked {
        ours.alive_at = alive_at;
    }
    Ok(())
}

/// Keeps the answer for all later requests with the key.
///
/// # Errors
/// Where Postgres does.
pub async fn keep(pg: &PgPool, ours: &Ours, answer: &Answer) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE idempotency SET request_hash = $4, status = $5, content_type = $6, body = $7, location = $8, answered_at = clock_timestamp()
         WHERE scope = $1 AND key = $2 AND started_at = $3 AND answered_at IS NULL",
        ours.scope,
        ours.key,
        ours.alive_at,
        answer.request_hash,
        answer.status,
        answer.content_type,
        answer.body,
        answer.location
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Frees the key: the request changed nothing. If an earlier one may have, the id that is reserved for its effect stays.
///
/// # Errors
/// Where Postgres does.
pub async fn forget(pg: &PgPool, ours: &Ours) -> sqlx::Result<()> {
    if ours.took_over {
        return give_up(pg, ours).await;
    }
    sqlx::query!(
        "DELETE FROM idempotency WHERE scope = $1 AND key = $2 AND started_at = $3 AND answered_at IS NULL",
        ours.scope,
        ours.key,
        ours.alive_at
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Lets the next request take over at once: this one failed, and may have changed something or not.
///
/// # Errors
/// Where Postgres does.
pub async fn give_up(pg: &PgPool, ours: &Ours) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE idempotency SET started_at = started_at - make_interval(secs => $4)
         WHERE scope = $1 AND key = $2 AND started_at = $3 AND answered_at IS NULL",
        ours.scope,
        ours.key,
        ours.alive_at,
        f64::from(ABANDONED_SECS)
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Deletes some rows older than a day; how many. Called again and again by a sweep.
///
/// # Errors
/// Where Postgres does.
pub async fn prune(pg: &PgPool) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM idempotency WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency
            WHERE started_at < statement_timestamp() - interval '25 hours' ORDER BY started_at LIMIT $1 FOR UPDATE SKIP LOCKED))",
        PRUNED_AT_ONCE
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected())
}
