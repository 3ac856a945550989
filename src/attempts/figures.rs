//! The ledger in figures: what is open, what is in doubt, and for how long.

use sqlx::PgPool;

use crate::{clock::Time, ids::AttemptId};

/// Attempts at one moment, over all businesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The moment, by Postgres.
    pub at: Time,
    /// Those that hold a slot and a line.
    pub open: i64,
    /// Of these: written down, not yet answered by a carrier.
    pub intent: i64,
    /// Nobody knows whether they became a call: the answer did not come, or nobody is left to whom it could.
    pub unknown: i64,
    /// Taken by a carrier, not dialed yet as far as known.
    pub placed: i64,
    /// Being dialed or ringing.
    pub ringing: i64,
    /// Somebody or something is on the line.
    pub answered: i64,
    /// Only a person can tell which call they are.
    pub needs_person: i64,
    /// Single calls that no worker has taken yet.
    pub untaken: i64,
    /// Milliseconds since the oldest intent without a call id that a worker owns; none where there is none.
    pub oldest_unknown_ms: Option<i64>,
    /// Most calls at once, as the api set it; none before its first start.
    pub line_limit: Option<i32>,
    /// Calls that a carrier took since the installation began.
    pub started: i64,
}

/// Reads the figures in one statement. An intent that is older than the grace (ms) is in doubt: whoever wrote it is gone.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn figures(pg: &PgPool, intent_grace_ms: u64) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"SELECT clock_timestamp() AS "at!: Time", count(*) AS "open!",
                  count(*) FILTER (WHERE state = 'intent' AND NOT in_doubt) AS "intent!",
                  count(*) FILTER (WHERE in_doubt) AS "unknown!",
                  count(*) FILTER (WHERE state = 'placed') AS "placed!",
                  count(*) FILTER (WHERE state IN ('initiated', 'ringing')) AS "ringing!",
                  count(*) FILTER (WHERE state = 'answered') AS "answered!",
                  count(*) FILTER (WHERE needs_person) AS "needs_person!",
                  count(*) FILTER (WHERE open AND owner IS NULL) AS "untaken!",
                  (extract(epoch FROM clock_timestamp() - min(intent_at) FILTER (WHERE rank < 2 AND owner IS NOT NULL)) * 1000)::bigint
                      AS oldest_unknown_ms,
                  (SELECT max_lines FROM installation) AS line_limit,
                  (SELECT coalesce(sum(calls_started), 0)::bigint FROM tally_shard
                   WHERE run_id = '00000000-0000-0000-0000-000000000000') AS "started!"
           FROM attempt CROSS JOIN LATERAL (SELECT state = 'unknown' OR state = 'intent' AND owner IS NOT NULL
               AND intent_at < clock_timestamp() - make_interval(secs => $1::float8 / 1000) AS in_doubt) d
           WHERE open AND line IS NOT NULL"#,
        intent_grace_ms as f64
    )
    .fetch_one(pg)
    .await
}

/// An attempt, for the comparison with the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub attempt: AttemptId,
    /// True where it has been open, or closed, for so long that the gate must know.
    pub settled: bool,
}

/// Every open attempt; it is settled `after_ms` after its intent.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn open(pg: &PgPool, after_ms: i64) -> sqlx::Result<Vec<Settled>> {
    sqlx::query_as!(
        Settled,
        r#"SELECT attempt_id AS "attempt: AttemptId",
                  intent_at < clock_timestamp() - make_interval(secs => $1::float8 / 1000) AS "settled!"
           FROM attempt WHERE open AND line IS NOT NULL"#,
        after_ms as f64
    )
    .fetch_all(pg)
    .await
}

/// Those of `known` that are closed; each is settled `after_ms` after its end.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn closed(pg: &PgPool, known: &[AttemptId], after_ms: i64) -> sqlx::Result<Vec<Settled>> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<_> = known.iter().map(|attempt| attempt.0).collect();
    sqlx::query_as!(
        Settled,
        r#"SELECT attempt_id AS "attempt: AttemptId",
                  ended_at < clock_timestamp() - make_interval(secs => $2::float8 / 1000) AS "settled!"
           FROM attempt WHERE attempt_id = ANY($1) AND NOT open"#,
        &known,
        after_ms as f64
    )
    .fetch_all(pg)
    .await
}
