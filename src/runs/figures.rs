//! The runs of all businesses in figures.

use std::collections::BTreeMap;

use sqlx::PgPool;

/// Runs at one moment, over all businesses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Runs by state; a state without runs is left out.
    pub states: BTreeMap<String, i64>,
    /// Businesses with a run that is running or being cancelled.
    pub businesses_with_work: i64,
    /// Queued jobs of running runs.
    pub jobs_queued: i64,
    /// Jobs of running runs that are over and were dialed.
    pub jobs_dialed: i64,
    /// Of these: the call could not be put through, was refused, or never came to the carrier.
    pub jobs_failed: i64,
}

/// Reads the figures. Jobs are read from the tallies, so the length of a list does not matter.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn figures(pg: &PgPool) -> sqlx::Result<Figures> {
    let states = sqlx::query!(r#"SELECT state, count(*) AS "n!" FROM run GROUP BY state"#).fetch_all(pg).await?;
    let work = sqlx::query!(
        r#"SELECT (SELECT count(DISTINCT business_id) FROM run WHERE state IN ('running', 'cancelling') AND business_id IS NOT NULL) AS "with_work!",
                  coalesce(sum(queued), 0)::bigint AS "queued!",
                  coalesce(sum(d_answered + d_machine + d_voicemail_left + d_fax + d_busy + d_no_answer + d_failed + d_cancelled
                               + d_abandoned + d_refused + d_not_placed), 0)::bigint AS "dialed!",
                  coalesce(sum(d_failed + d_refused + d_not_placed), 0)::bigint AS "failed!"
           FROM run r JOIN tally_shard t USING (run_id) WHERE r.state = 'running' AND r.business_id IS NOT NULL"#
    )
    .fetch_one(pg)
    .await?;
    Ok(Figures {
        states: states.into_iter().map(|row| (row.state, row.n)).collect(),
        businesses_with_work: work.with_work,
        jobs_queued: work.queued,
        jobs_dialed: work.dialed,
        jobs_failed: work.failed,
    })
}

/// How many running runs have calls that talk to an agent.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn talking(pg: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "runs!" FROM run WHERE state = 'running' AND business_id IS NOT NULL AND agent_id IS NOT NULL"#
    )
    .fetch_one(pg)
    .await
}
