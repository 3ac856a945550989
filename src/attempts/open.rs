//! Every open attempt with what a person must see to judge it: how old, how long silent, who wants it ended.

use sqlx::PgPool;

use crate::{
    attempts::state::AttemptState,
    clock::Time,
    ids::{AttemptId, BusinessId, JobId, RunId},
};

/// An open attempt: it holds a slot and a line.
#[derive(Debug, Clone)]
pub struct Open {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Whose.
    pub business: BusinessId,
    /// Its run; none for a single call.
    pub run: Option<RunId>,
    /// Its job; none for a single call.
    pub job: Option<JobId>,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call, where it is known.
    pub call_id: Option<String>,
    /// How far it is known to be.
    pub state: AttemptState,
    /// Callee, E.164.
    pub to: String,
    /// Which slot.
    pub slot: i32,
    /// Which line.
    pub line: i32,
    /// False for a single call that no worker has taken.
    pub owned: bool,
    /// Somebody wants it hung up.
    pub hangup_wanted: bool,
    /// For so long only a person can tell which call it is, ms.
    pub needs_person_ms: Option<i64>,
    /// When it was written down.
    pub intent_at: Time,
    /// Since then, ms.
    pub age_ms: i64,
    /// Since the carrier was last heard about it, ms.
    pub silent_ms: i64,
    /// Since the carrier took it into its queue, ms.
    pub placed_ms: Option<i64>,
    /// Since a worker should have taken a single call, ms; negative while there is time.
    pub late_ms: Option<i64>,
}

/// Open attempts, all or those of one business, by business and slot.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn list(pg: &PgPool, business: Option<BusinessId>) -> sqlx::Result<Vec<Open>> {
    sqlx::query_as!(
        Open,
        r#"SELECT attempt_id AS "attempt: AttemptId", business_id AS "business: BusinessId", run_id AS "run: RunId",
               job_id AS "job: JobId", account, carrier_call_id AS call_id, state AS "state: AttemptState", to_number AS "to",
               slot, line, owner IS NOT NULL AS "owned!", hangup_wanted, intent_at AS "intent_at: Time",
               (extract(epoch FROM clock_timestamp() - needs_person_since) * 1000)::bigint AS needs_person_ms,
               (extract(epoch FROM clock_timestamp() - intent_at) * 1000)::bigint AS "age_ms!",
               (extract(epoch FROM clock_timestamp() - heard_at) * 1000)::bigint AS "silent_ms!",
               (extract(epoch FROM clock_timestamp() - placed_at) * 1000)::bigint AS placed_ms,
               (extract(epoch FROM clock_timestamp() - dial_by) * 1000)::bigint AS late_ms
           FROM attempt WHERE open AND line IS NOT NULL AND ($1::uuid IS NULL OR business_id = $1) ORDER BY business_id, slot"#,
        business.map(|business| business.0)
    )
    .fetch_all(pg)
    .await
}

/// How far an attempt is, whoever's it is; `None` where there is none.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn state(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<Option<AttemptState>> {
    sqlx::query_scalar!(r#"SELECT state AS "state: AttemptState" FROM attempt WHERE attempt_id = $1"#, attempt.0)
        .fetch_optional(pg)
        .await
}

/// Calls that are open by the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InCalls {
    /// Of the business.
    pub business: i64,
    /// In all.
    pub all: i64,
}

/// Counts them in one snapshot.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn in_calls(pg: &PgPool, business: BusinessId) -> sqlx::Result<InCalls> {
    sqlx::query_as!(
        InCalls,
        r#"SELECT (SELECT count(*) FROM attempt WHERE business_id = $1 AND open) AS "business!",
                  (SELECT count(*) FROM attempt WHERE open AND line IS NOT NULL) AS "all!""#,
        business.0
    )
    .fetch_one(pg)
    .await
}

/// Jobs and attempts that do not fit each other. Each is written in the transaction of the other, so there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfits {
    /// Jobs that are being dialed without an open attempt.
    pub jobs: i64,
    /// Open attempts of jobs that are not being dialed.
    pub attempts: i64,
    /// Runs that are over and have jobs that are not.
    pub runs: i64,
    /// Open attempts in all.
    pub open: i64,
}

/// Counts them in one snapshot.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn misfits(pg: &PgPool) -> sqlx::Result<Misfits> {
    sqlx::query_as!(
        Misfits,
        // The runs that have such jobs, one step into an index for each: counted from the runs, or from the jobs, it would be millions.
        r#"WITH RECURSIVE moving (run_id) AS (
               (SELECT run_id FROM job WHERE state IN ('waiting', 'dialing') AND run_id IS NOT NULL ORDER BY run_id LIMIT 1)
               UNION ALL
               SELECT (SELECT j.run_id FROM job j WHERE j.state IN ('waiting', 'dialing') AND j.run_id > m.run_id ORDER BY j.run_id LIMIT 1)
               FROM moving m WHERE m.run_id IS NOT NULL
           ), queued (run_id) AS (
               (SELECT run_id FROM job WHERE state = 'queued' AND run_id IS NOT NULL ORDER BY run_id LIMIT 1)
               UNION ALL
               SELECT (SELECT j.run_id FROM job j WHERE j.state = 'queued' AND j.run_id > q.run_id ORDER BY j.run_id LIMIT 1)
               FROM queued q WHERE q.run_id IS NOT NULL
           )
           SELECT (SELECT count(*) FROM moving m JOIN job j USING (run_id) WHERE j.state = 'dialing'
                       AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.job_id = j.job_id AND a.open)) AS "jobs!",
                  (SELECT count(*) FROM run r JOIN (SELECT run_id FROM moving UNION SELECT run_id FROM queued) u USING (run_id)
                       WHERE r.state IN ('completed', 'cancelled')) AS "runs!",
                  (SELECT count(*) FROM attempt a WHERE a.open AND a.line IS NOT NULL
                       AND (SELECT j.state FROM job j WHERE j.job_id = a.job_id) <> 'dialing') AS "attempts!",
                  (SELECT count(*) FROM attempt WHERE open AND line IS NOT NULL) AS "open!""#
    )
    .fetch_one(pg)
    .await
}
