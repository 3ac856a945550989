//! Tallies compared with counts. They are equal at every moment (I5); where they are not, rows were changed by hand.

use sqlx::{PgExecutor, PgPool, PgTransaction};

use crate::ids::RunId;

/// A figure of a run that is not what a count says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A state, `d:` and a disposition, or `attempts`.
    pub key: String,
    /// What the tally says.
    pub tallied: i64,
    /// What there is.
    pub counted: i64,
}

/// Runs to compare, newest first: all, or those that are not over.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn runs(pg: impl PgExecutor<'_>, only_open: bool) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run: RunId" FROM run WHERE NOT $1 OR ended_at IS NULL ORDER BY run_id DESC"#,
        only_open
    )
    .fetch_all(pg)
    .await
}

/// A transaction in which a statement may look at a list of millions. Each statement has a snapshot of its own.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn patiently(pg: &PgPool) -> sqlx::Result<PgTransaction<'static>> {
    let mut tx = pg.begin().await?;
    sqlx::query!("SELECT set_config('statement_timeout', '300s', true)").fetch_one(&mut *tx).await?;
    Ok(tx)
}

/// Where the tally of a run differs from its jobs, both of one snapshot.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn differences(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<Vec<Difference>> {
    sqlx::query_as!(
        Difference,
        r#"WITH jobs AS MATERIALIZED (
               SELECT state, disposition, count(*) AS n, sum(attempt_count) AS tries FROM job WHERE run_id = $1
               GROUP BY state, disposition
           ), counted AS (
               SELECT state AS key, sum(n) AS n FROM jobs GROUP BY state
               UNION ALL SELECT 'd:' || disposition, sum(n) FROM jobs WHERE disposition IS NOT NULL GROUP BY disposition
               UNION ALL SELECT 'attempts', sum(tries) FROM jobs
           ), tallied AS (
               SELECT key, sum(n) AS n FROM tally WHERE run_id = $1 AND key <> 'changes' GROUP BY key
           )
           SELECT key AS "key!", coalesce(t.n, 0)::bigint AS "tallied!", coalesce(c.n, 0)::bigint AS "counted!"
           FROM tallied t FULL JOIN counted c USING (key)
           WHERE coalesce(t.n, 0) <> coalesce(c.n, 0) ORDER BY key"#,
        run as RunId
    )
    .fetch_all(pg)
    .await
}
