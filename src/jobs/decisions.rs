//! Why jobs were dialed, held or skipped, as people read it.
//!
//! Only what holds a job back is written down, where the verdict or its rule changes, for a single job or for all whose numbers may
//! be in the same zones. That it was dialed is said by its attempts.

use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    clock::Time,
    ids::{BusinessId, JobId, RunId},
};

/// What was decided of a job.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Decision {
    /// When.
    pub at: Time,
    /// `dialed`, `held` or `skipped`.
    pub verdict: String,
    /// By which rule; null where it was dialed.
    pub rule: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// Until when the rule holds it, where that is known: other rules may hold it longer.
    pub next_at: Option<Time>,
}

/// The decisions of one job, in the order of time, at most the first five hundred.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of_job(pg: impl PgExecutor<'_>, business: BusinessId, job: JobId) -> sqlx::Result<Vec<Decision>> {
    sqlx::query_as!(
        Decision,
        r#"SELECT at AS "at!: Time", verdict AS "verdict!", rule, detail, next_at AS "next_at: Time" FROM (
               SELECT d.at, d.verdict, d.rule, d.detail, d.next_at FROM decision d WHERE d.job_id = $2 AND d.business_id = $1
               UNION ALL
               SELECT d.at, d.verdict, d.rule, d.detail, d.next_at FROM job j JOIN decision d ON d.run_id = j.run_id AND d.zone_set = j.zone_set
               WHERE j.job_id = $2 AND j.business_id = $1 AND d.job_id IS NULL AND d.at >= j.created_at AND (d.at <= j.finished_at) IS NOT FALSE
               UNION ALL
               -- A lead that was added while its zones slept is held by what was said of them before.
               SELECT d.at, d.verdict, d.rule, d.detail, d.next_at FROM job j JOIN run_zone z ON z.run_id = j.run_id AND z.zone_set = j.zone_set
               CROSS JOIN LATERAL (
                   SELECT * FROM decision WHERE run_id = j.run_id AND zone_set = j.zone_set AND job_id IS NULL AND at < j.created_at
                   ORDER BY decision_id DESC LIMIT 1) d
               WHERE j.job_id = $2 AND j.business_id = $1 AND z.opens_at > j.created_at AND (d.next_at > j.created_at) IS NOT FALSE
               UNION ALL
               SELECT a.intent_at, 'dialed', NULL, format('Attempt %s by %s.', a.n, a.carrier), NULL FROM attempt a
               WHERE a.job_id = $2 AND a.business_id = $1
           ) told ORDER BY at LIMIT 500"#,
        business as BusinessId,
        job as JobId
    )
    .fetch_all(pg)
    .await
}

/// A row of `decisions.csv`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns of decisions.csv under their own names")]
pub struct Told {
    pub decision_id: i64,
    pub at: Time,
    pub job_id: Option<JobId>,
    pub to_number: Option<String>,
    pub zones: Option<Vec<String>>,
    pub verdict: String,
    pub rule: String,
    pub detail: String,
    pub next_at: Option<Time>,
}

/// What held jobs of a run back, after `after`, at most `limit`, in the order in which it was written down.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn page(pg: impl PgExecutor<'_>, run: RunId, after: i64, limit: i64) -> sqlx::Result<Vec<Told>> {
    sqlx::query_as!(
        Told,
        r#"SELECT d.decision_id, d.at AS "at: Time", d.job_id AS "job_id: JobId", j.to_number AS "to_number?: String",
                  z.zones AS "zones?", d.verdict, d.rule, d.detail, d.next_at AS "next_at: Time"
           FROM decision d LEFT JOIN job j ON j.job_id = d.job_id LEFT JOIN run_zone z ON z.run_id = d.run_id AND z.zone_set = d.zone_set
           WHERE d.run_id = $1 AND d.decision_id > $2 ORDER BY d.decision_id LIMIT $3"#,
        run as RunId,
        after,
        limit
    )
    .fetch_all(pg)
    .await
}

/// A dial of a job of a run.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are columns of decisions.csv under their own names")]
pub struct Dialed {
    pub job_id: JobId,
    pub to_number: String,
    pub at: Time,
    pub n: i32,
    pub carrier: String,
}

/// The dials of the next `limit` jobs of a run after `after`, and the last of these jobs; none where there is none left.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn dials(
    pg: impl PgExecutor<'_> + Copy,
    run: RunId,
    after: Option<JobId>,
    limit: i64,
) -> sqlx::Result<(Vec<Dialed>, Option<JobId>)> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let last = sqlx::query_scalar!(
        r#"SELECT max(job_id::text)::uuid AS "last: JobId" FROM (SELECT job_id FROM job WHERE run_id = $1 AND job_id > $2 ORDER BY job_id LIMIT $3) j"#,
        run as RunId,
        after,
        limit
    )
    .fetch_one(pg)
    .await?;
    let Some(last) = last else { return Ok((Vec::new(), None)) };
    let dialed = sqlx::query_as!(
        Dialed,
        r#"SELECT j.job_id AS "job_id: JobId", j.to_number AS "to_number: String", a.intent_at AS "at: Time", a.n,
                  a.carrier AS "carrier: String"
           FROM job j JOIN attempt a ON a.job_id = j.job_id
           WHERE j.run_id = $1 AND j.job_id > $2 AND j.job_id <= $3 ORDER BY j.job_id, a.n"#,
        run as RunId,
        after,
        last as JobId
    )
    .fetch_all(pg)
    .await?;
    Ok((dialed, Some(last)))
}
