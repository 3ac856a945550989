//! Reads jobs for people: one, those of a run, those to a number or with a name.
//!
//! Plans are kept and made without values, so each filter that may be absent has a branch of its own with the index that
//! it needs; a branch that is not asked for is not run.

use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{Job, JobState};
use crate::{
    clock::Time,
    ids::{BusinessId, JobId, RunId},
};

struct Row {
    job_id: JobId,
    run_id: RunId,
    business_id: BusinessId,
    to_number: String,
    external_id: Option<String>,
    variables: Json<serde_json::Value>,
    time_zones: Vec<String>,
    state: JobState,
    disposition: Option<String>,
    reason: Option<String>,
    attempt_count: i32,
    next_at: Option<Time>,
    priority: i16,
    not_before: Option<Time>,
    not_after: Option<Time>,
    created_at: Time,
    finished_at: Option<Time>,
}

impl From<Row> for Job {
    fn from(row: Row) -> Self {
        Self {
            id: row.job_id,
            run_id: row.run_id,
            business_id: row.business_id,
            to: row.to_number,
            external_id: row.external_id,
            variables: row.variables.0,
            time_zones: row.time_zones,
            state: row.state,
            disposition: row.disposition,
            reason: row.reason,
            attempt_count: row.attempt_count,
            next_at: row.next_at,
            priority: row.priority,
            not_before: row.not_before,
            not_after: row.not_after,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

/// Which jobs of a business are listed; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<JobState>,
    /// To this number (E.164).
    pub to: Option<String>,
    /// With this name of the caller's own. One of the two must be given: without them nothing is found.
    pub external_id: Option<String>,
}

/// Jobs of one run of a business in the order of its list, after `after`, at most `limit`; none where the business has no
/// such run.
///
/// Those in a final state are found by state. Queued ones are in the order of their claims, so each priority that the run
/// has among numbers of the same zones is read for itself. Those being dialed are found by their open attempts: what finds them by state is full of
/// entries of jobs that were dialed.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of_run(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    run: RunId,
    state: Option<JobState>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT j.job_id AS "job_id!: JobId", j.run_id AS "run_id!: RunId", j.business_id AS "business_id!: BusinessId",
                  j.to_number AS "to_number!", j.external_id, j.variables AS "variables!: Json<serde_json::Value>",
                  j.time_zones AS "time_zones!", j.state AS "state!: JobState", j.disposition, j.reason,
                  j.attempt_count AS "attempt_count!", j.next_at AS "next_at: Time", j.priority AS "priority!",
                  j.not_before AS "not_before: Time", j.not_after AS "not_after: Time",
                  j.created_at AS "created_at!: Time", j.finished_at AS "finished_at: Time"
           FROM (
               (SELECT * FROM job WHERE $4::text IS NULL AND run_id = $2 AND job_id > $3 ORDER BY job_id LIMIT $5)
               UNION ALL
               (SELECT * FROM job WHERE run_id = $2 AND state = $4 AND finished_at IS NOT NULL AND job_id > $3
                ORDER BY job_id LIMIT $5)
               UNION ALL
               (SELECT q.* FROM (SELECT queued_jobs($2, $3, $5) AS job_id WHERE $4 = 'queued') i
                    CROSS JOIN LATERAL (SELECT * FROM job WHERE job_id = i.job_id OFFSET 0) q)
               UNION ALL
               (SELECT d.* FROM attempt a CROSS JOIN LATERAL (SELECT * FROM job WHERE job_id = a.job_id OFFSET 0) d
                WHERE $4 = 'dialing' AND a.business_id = $1 AND a.open AND a.run_id = $2 AND d.state = 'dialing' AND d.job_id > $3)
               UNION ALL
               (SELECT * FROM (SELECT * FROM job WHERE state = 'waiting' AND next_at BETWEEN '-infinity' AND 'infinity' OFFSET 0) w
                WHERE $4 = 'waiting' AND w.run_id = $2 AND w.job_id > $3)
           ) j
           WHERE EXISTS (SELECT 1 FROM run WHERE business_id = $1 AND run_id = $2) ORDER BY j.job_id LIMIT $5"#,
        business as BusinessId,
        run as RunId,
        after.unwrap_or_default(),
        state.map(JobState::as_str),
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Job::from).collect())
}

/// Jobs of a business by number or own name, newest first, made before `before`, at most `limit`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn find(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT j.job_id AS "job_id!: JobId", j.run_id AS "run_id!: RunId", j.business_id AS "business_id!: BusinessId",
                  j.to_number AS "to_number!", j.external_id, j.variables AS "variables!: Json<serde_json::Value>",
                  j.time_zones AS "time_zones!", j.state AS "state!: JobState", j.disposition, j.reason,
                  j.attempt_count AS "attempt_count!", j.next_at AS "next_at: Time", j.priority AS "priority!",
                  j.not_before AS "not_before: Time", j.not_after AS "not_after: Time",
                  j.created_at AS "created_at!: Time", j.finished_at AS "finished_at: Time"
           FROM (
               (SELECT * FROM job WHERE business_id = $1 AND to_number = $3 AND job_id < $2
                    AND ($4::text IS NULL OR external_id = $4) AND ($5::text IS NULL OR state = $5) ORDER BY job_id DESC LIMIT $6)
               UNION ALL
               (SELECT * FROM job WHERE $3::text IS NULL AND business_id = $1 AND external_id = $4 AND job_id < $2
                    AND ($5::text IS NULL OR state = $5) ORDER BY job_id DESC LIMIT $6)
           ) j ORDER BY j.job_id DESC LIMIT $6"#,
        business as BusinessId,
        before.unwrap_or(Uuid::max()),
        filter.to.as_deref(),
        filter.external_id.as_deref(),
        filter.state.map(JobState::as_str),
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Job::from).collect())
}

/// One job of a business.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn one(pg: impl PgExecutor<'_>, business: BusinessId, job: JobId) -> sqlx::Result<Option<Job>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT job_id AS "job_id: JobId", run_id AS "run_id: RunId", business_id AS "business_id: BusinessId", to_number,
                  external_id, variables AS "variables: Json<serde_json::Value>", time_zones, state AS "state: JobState",
                  disposition, reason, attempt_count, next_at AS "next_at: Time", priority,
                  not_before AS "not_before: Time", not_after AS "not_after: Time",
                  created_at AS "created_at: Time", finished_at AS "finished_at: Time"
           FROM job WHERE business_id = $1 AND job_id = $2"#,
        business as BusinessId,
        job as JobId
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(Job::from))
}
