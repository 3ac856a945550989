//! The end of a run, where the flow that finished its last job could not see it.

use sqlx::PgPool;

use crate::ids::{BusinessId, RunId};

/// Ends every run whose jobs are all final: two last calls that end at once each still see the other's job. Returns those
/// that ended.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn end_finished(pg: &PgPool) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run!: RunId" FROM run r
           WHERE state IN ('running', 'paused', 'cancelling') AND business_id IS NOT NULL AND end_run_if_done(run_id)"#
    )
    .fetch_all(pg)
    .await
}

/// A business that a worker should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub business: BusinessId,
    /// Slots that stand free although a job is due.
    pub idle: i64,
    /// Lines of the installation that are free: all businesses share them.
    pub lines: i64,
}

/// How many more calls there could be now: the businesses' idle slots, but no more than there are lines for all of them.
#[must_use]
pub fn idle(waiting: &[Waiting]) -> u64 {
    let lines = waiting.iter().map(|one| one.lines).max().unwrap_or(0);
    waiting.iter().map(|one| one.idle).sum::<i64>().min(lines).unsigned_abs()
}

/// The active businesses with a queued job in a running run, a free slot, and no account held back; or with a single call
/// that no worker took; each with how many of its slots are free, as far as there are lines for them. Only one process reads
/// it at a time: for the others it is empty.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn businesses_with_work(pg: &PgPool) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query_as!(
        Waiting,
        r#"WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(7239003) AS mine),
           listed AS MATERIALIZED (
               SELECT DISTINCT r.business_id FROM run r
               WHERE (SELECT mine FROM mine) AND r.state = 'running' AND r.business_id IS NOT NULL AND has_queued(r.run_id, true)
           ),
           free AS MATERIALIZED (
               SELECT greatest(coalesce((SELECT max_lines FROM installation), 0) - (SELECT count(*) FROM attempt WHERE open AND line IS NOT NULL), 0) AS lines
           )
           SELECT b.business_id AS "business!: BusinessId", least(b.max_concurrent_calls - own.open, free.lines) AS "idle!",
                  free.lines AS "lines!"
           FROM listed l JOIN business b USING (business_id) CROSS JOIN free
           CROSS JOIN LATERAL (SELECT count(*) AS open FROM attempt a WHERE a.business_id = b.business_id AND a.open) own
           WHERE b.state = 'active'
               AND EXISTS (SELECT 1 FROM carrier_account c WHERE c.business_id = b.business_id AND c.carrier = ANY (b.carriers)
                           AND (c.hold_until IS NULL OR c.hold_until <= clock_timestamp()))
               AND own.open < b.max_concurrent_calls
           UNION
           SELECT a.business_id, 0, 0 FROM attempt a
           WHERE (SELECT mine FROM mine) AND a.open AND a.owner IS NULL"#
    )
    .fetch_all(pg)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_slots_are_no_more_than_the_lines_that_all_businesses_share() {
        let waiting = |idle: &[i64], lines| -> Vec<Waiting> {
            idle.iter().map(|idle| Waiting { business: BusinessId::new(), idle: *idle, lines }).collect()
        };
        let untaken = Waiting { business: BusinessId::new(), idle: 0, lines: 0 };
        assert_eq!((idle(&[]), idle(&[untaken])), (0, 0));
        assert_eq!((idle(&waiting(&[3, 2, 3], 50)), idle(&waiting(&[3, 2, 3], 4))), (8, 4));
        assert_eq!(idle(&[&waiting(&[2, 2], 3)[..], &[untaken]].concat()), 3);
    }
}
