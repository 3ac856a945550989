//! The outcome of every job of a run, a page at a time, for `results.csv`.
//!
//! Pages are read by key, each in a statement of its own: a slow reader holds no transaction open.

use serde_json::{Map, Value};
use sqlx::{PgExecutor, PgTransaction, types::Json};
use uuid::Uuid;

use super::JobState;
use crate::{
    clock::Time,
    ids::{JobId, RunId},
};

/// One row of `results.csv`: a job and its last attempt.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns of results.csv under their own names")]
pub struct Outcome {
    pub job_id: JobId,
    pub external_id: Option<String>,
    pub to_number: String,
    pub state: JobState,
    pub reason: Option<String>,
    pub disposition: Option<String>,
    pub attempts: i32,
    pub answered_by: Option<String>,
    pub first_dialed_at: Option<Time>,
    pub answered_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub duration_secs: Option<i32>,
    pub from_number: Option<String>,
    pub carrier: Option<String>,
    pub carrier_call_id: Option<String>,
    pub price: Option<String>,
    pub currency: Option<String>,
    pub outcome: Option<Json<Value>>,
    pub variables: Json<Map<String, Value>>,
}

/// Jobs of a run in the order of its list after `after`, at most `limit`, each with what its last attempt came to.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn page(pg: impl PgExecutor<'_>, run: RunId, after: Option<JobId>, limit: i64) -> sqlx::Result<Vec<Outcome>> {
    sqlx::query_as!(
        Outcome,
        r#"SELECT j.job_id AS "job_id: JobId", j.external_id, j.to_number, j.state AS "state: JobState", j.reason, j.disposition,
                  j.attempt_count AS attempts, a.answered_by AS "answered_by?", f.first_dialed_at AS "first_dialed_at?: Time",
                  a.answered_at AS "answered_at?: Time", a.ended_at AS "ended_at?: Time", a.duration_secs AS "duration_secs?",
                  a.from_number AS "from_number?", a.carrier AS "carrier?", a.carrier_call_id AS "carrier_call_id?",
                  a.price::text, a.currency AS "currency?",
                  (SELECT c.outcome FROM conversation c WHERE c.attempt_id = a.attempt_id) AS "outcome: Json<Value>", j.variables AS "variables: Json<Map<String, Value>>"
           FROM (SELECT * FROM job WHERE run_id = $1 AND job_id > $2 ORDER BY job_id LIMIT $3) j
           LEFT JOIN LATERAL (SELECT * FROM attempt WHERE job_id = j.job_id ORDER BY n DESC LIMIT 1) a ON true
           LEFT JOIN LATERAL (SELECT min(sent_at) AS first_dialed_at FROM attempt WHERE job_id = j.job_id) f ON true
           ORDER BY j.job_id"#,
        run as RunId,
        after.map_or(Uuid::nil(), |id| id.0),
        limit
    )
    .fetch_all(pg)
    .await
}

/// The names of all variables that any lead of the run has, sorted.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn variable_names(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<Vec<String>> {
    sqlx::query!("SELECT set_config('statement_timeout', '60s', true)").fetch_one(&mut **tx).await?;
    sqlx::query_scalar!(
        r#"SELECT DISTINCT name AS "name!" FROM job, jsonb_object_keys(variables) AS name WHERE run_id = $1 ORDER BY 1"#,
        run as RunId
    )
    .fetch_all(&mut **tx)
    .await
}

/// How many jobs of the run are in which state, counted.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn counted(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"SELECT state AS "state!: String", count(*) AS "jobs!" FROM job WHERE run_id = $1 GROUP BY state ORDER BY state"#,
        run as RunId
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(|row| (row.state, row.jobs)).collect())
}
