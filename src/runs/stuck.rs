//! Runs that should have moved on, read and not touched.

use sqlx::PgPool;

use super::RunState;
use crate::{
    clock::Time,
    ids::{BusinessId, RunId},
};

/// A run all of whose jobs are final, and that has not ended.
#[derive(Debug, Clone)]
pub struct Unended {
    /// The run.
    pub run: RunId,
    /// Whose.
    pub business: BusinessId,
    /// Its state.
    pub state: RunState,
    /// Its jobs.
    pub jobs: i64,
}

/// Runs that [`super::ending::end_finished`] would end. One that a list is going into is none of them.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn unended(pg: &PgPool) -> sqlx::Result<Vec<Unended>> {
    sqlx::query_as!(
        Unended,
        r#"SELECT run_id AS "run: RunId", business_id AS "business: BusinessId", state AS "state: RunState",
                  accepted AS jobs
           FROM run r
           WHERE state IN ('running', 'paused', 'cancelling') AND business_id IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
                   AND objsubid = 1
                   AND (classid::bigint << 32 | objid::bigint) = hashtextextended('rollcall.import:' || r.run_id::text, 0))
               AND NOT has_queued(run_id)
               AND NOT EXISTS (SELECT 1 FROM job j WHERE j.run_id = r.run_id AND j.state IN ('waiting', 'dialing'))
           ORDER BY run_id"#
    )
    .fetch_all(pg)
    .await
}

/// A run that was cancelled and still has jobs that nobody dials.
#[derive(Debug, Clone)]
pub struct HalfCancelled {
    /// The run.
    pub run: RunId,
    /// Whose.
    pub business: BusinessId,
    /// Jobs that are not ended, by the tally.
    pub left: i64,
}

/// Runs that are being cancelled and have queued jobs left.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn half_cancelled(pg: &PgPool) -> sqlx::Result<Vec<HalfCancelled>> {
    sqlx::query_as!(
        HalfCancelled,
        r#"SELECT run_id AS "run: RunId", business_id AS "business: BusinessId",
                  (SELECT coalesce(sum(queued + waiting), 0)::bigint FROM tally_shard t WHERE t.run_id = r.run_id) AS "left!"
           FROM run r WHERE state = 'cancelling' AND business_id IS NOT NULL
               AND (has_queued(run_id)
                   OR EXISTS (SELECT 1 FROM job j WHERE j.run_id = r.run_id AND j.state IN ('waiting', 'dialing') AND j.state = 'waiting' OFFSET 0))
           ORDER BY run_id"#
    )
    .fetch_all(pg)
    .await
}

/// A running run with work that could be dialed now.
#[derive(Debug, Clone)]
pub struct Due {
    /// The run.
    pub run: RunId,
    /// Whose.
    pub business: BusinessId,
    /// Jobs that wait for their turn, by the tally.
    pub queued: i64,
    /// Since when it runs.
    pub started_at: Option<Time>,
    /// Slots of the business that nobody holds.
    pub free_slots: i64,
}

/// Runs with a queued job whose business is active, has a free slot and an account that is not held back, while a line of
/// the installation is free.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn due(pg: &PgPool) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as!(
        Due,
        r#"SELECT r.run_id AS "run: RunId", r.business_id AS "business: BusinessId", r.started_at AS "started_at: Time",
                  (SELECT coalesce(sum(queued), 0)::bigint FROM tally_shard t WHERE t.run_id = r.run_id) AS "queued!",
                  b.max_concurrent_calls - own.held AS "free_slots!"
           FROM run r JOIN business b USING (business_id)
           CROSS JOIN LATERAL (SELECT count(*) AS held FROM attempt a WHERE a.business_id = r.business_id AND a.open) own
           WHERE r.state = 'running' AND r.business_id IS NOT NULL AND b.state = 'active' AND own.held < b.max_concurrent_calls
               AND (SELECT count(*) FROM attempt WHERE open AND line IS NOT NULL) < (SELECT max_lines FROM installation)
               AND EXISTS (SELECT 1 FROM carrier_account c WHERE c.business_id = b.business_id AND c.carrier = ANY (b.carriers)
                           AND (c.hold_until IS NULL OR c.hold_until <= clock_timestamp()))
               AND has_queued(r.run_id, true)
           ORDER BY r.run_id"#
    )
    .fetch_all(pg)
    .await
}
