//! When the jobs of a run may be dialed, by the zones that their numbers may be in.
//!
//! What is worked out is kept with the version of the windows it comes from: a claim believes no other.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use crate::{
    ids::{BusinessId, RunId},
    policy::{Calendars, Openings, Span, Window},
};

/// Rows worked out in one go.
const MOST: i64 = 2_000;

/// Jobs of a run, with all that decides when they may be dialed: of those whose times are not known, or soon over, as a rule.
#[derive(Debug)]
pub struct Stale {
    /// The run.
    pub run: RunId,
    /// Its business.
    pub business: BusinessId,
    /// Which of its jobs.
    pub zone_set: i64,
    /// Where their numbers may be.
    pub zones: Vec<String>,
    /// The run's window.
    pub window: Option<Json<Window>>,
    /// The business's window.
    pub home: Option<Json<Window>>,
    /// The zone of a number that none is known of.
    pub home_zone: Option<String>,
    /// The business's calendars.
    pub calendars: Json<Calendars>,
    /// So long the run lets a number ring.
    pub ring_timeout_secs: i32,
    /// Of both windows.
    pub version: i64,
    /// The moment by Postgres.
    pub now: DateTime<Utc>,
}

impl Stale {
    /// The windows that hold for them.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.window.iter().chain(&self.home).map(|window| &window.0)
    }

    /// Their times to call.
    #[must_use]
    pub fn openings(&self) -> Openings {
        Openings::new(self.windows(), &self.calendars, &self.zones, self.home_zone.as_ref())
    }
}

/// What has no times, or times that end within the hour: of one run, or of all that may dial.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn stale(pg: &mut PgConnection, run: Option<RunId>) -> sqlx::Result<Vec<Stale>> {
    sqlx::query_as!(
        Stale,
        r#"SELECT z.run_id AS "run: RunId", r.business_id AS "business: BusinessId", z.zone_set, z.zones,
                  r.calling_window AS "window: Json<Window>", b.calling_window AS "home: Json<Window>", b.time_zone AS home_zone,
                  (SELECT coalesce(jsonb_object_agg(name, dates), '{}') FROM calendar c WHERE c.business_id = b.business_id)
                      AS "calendars!: Json<Calendars>", r.ring_timeout_secs,
                  r.window_version + b.window_version AS "version!", wall_clock() AS "now!: DateTime<Utc>"
           FROM (SELECT run_id FROM run WHERE run_id = $1
                 UNION ALL
                 SELECT run_id FROM run WHERE $1::uuid IS NULL AND state IN ('running', 'paused') AND business_id IS NOT NULL
                 UNION ALL
                 SELECT run_id FROM run WHERE $1::uuid IS NULL AND state = 'scheduled' AND start_at IS NOT NULL) asked
               JOIN run r USING (run_id) JOIN business b USING (business_id) JOIN run_zone z USING (run_id)
           WHERE r.window_version + b.window_version > 0
               AND (z.version <> r.window_version + b.window_version
                    OR (isfinite(z.closes_at) AND z.closes_at < wall_clock() + interval '1 h'))
           LIMIT $2"#,
        run as Option<RunId>,
        MOST
    )
    .fetch_all(pg)
    .await
}

/// All that decides when the jobs of a run may be dialed, for at most `most` of the sets of zones that they may be in.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_run(pg: impl PgExecutor<'_>, run: RunId, most: i64) -> sqlx::Result<Vec<Stale>> {
    sqlx::query_as!(
        Stale,
        r#"SELECT z.run_id AS "run: RunId", r.business_id AS "business: BusinessId", z.zone_set, z.zones,
                  r.calling_window AS "window: Json<Window>", b.calling_window AS "home: Json<Window>", b.time_zone AS home_zone,
                  (SELECT coalesce(jsonb_object_agg(name, dates), '{}') FROM calendar c WHERE c.business_id = b.business_id)
                      AS "calendars!: Json<Calendars>", r.ring_timeout_secs,
                  r.window_version + b.window_version AS "version!", wall_clock() AS "now!: DateTime<Utc>"
           FROM run r JOIN business b USING (business_id) JOIN run_zone z USING (run_id) WHERE r.run_id = $1 LIMIT $2"#,
        run as RunId,
        most
    )
    .fetch_all(pg)
    .await
}

/// All that decides when jobs of these runs may be dialed, where a window does: for the sets of zones that these of their jobs have.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_jobs(pg: impl PgExecutor<'_>, business: BusinessId, jobs: &[Uuid]) -> sqlx::Result<Vec<Stale>> {
    sqlx::query_as!(
        Stale,
        r#"SELECT z.run_id AS "run: RunId", r.business_id AS "business!: BusinessId", z.zone_set, z.zones,
                  r.calling_window AS "window: Json<Window>", b.calling_window AS "home: Json<Window>", b.time_zone AS home_zone,
                  (SELECT coalesce(jsonb_object_agg(name, dates), '{}') FROM calendar c WHERE c.business_id = b.business_id)
                      AS "calendars!: Json<Calendars>", r.ring_timeout_secs,
                  r.window_version + b.window_version AS "version!", wall_clock() AS "now!: DateTime<Utc>"
           FROM (SELECT DISTINCT run_id, zone_set FROM job WHERE business_id = $1 AND job_id = ANY ($2)) j
               JOIN run_zone z USING (run_id, zone_set) JOIN run r USING (run_id) JOIN business b ON b.business_id = $1
           WHERE r.window_version + b.window_version > 0"#,
        business as BusinessId,
        jobs
    )
    .fetch_all(pg)
    .await
}

/// Keeps what was worked out for some jobs, unless a window was changed meanwhile. Where they sleep, that is a decision, and is
/// written down once, with `detail`. Until `closes` the last call of a window may begin to ring. Rows that are locked are left to the next time.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn keep(pg: &mut PgConnection, one: &Stale, span: Span, detail: &str) -> sqlx::Result<()> {
    let (opens, closes) = match span {
        Span::Within(opens, closes) => (Some(opens), Some(closes)),
        Span::Always | Span::Never => (None, None),
    };
    sqlx::query!(
        r#"WITH was AS (
               SELECT z.run_id, z.zone_set, z.opens_at FROM run_zone z JOIN run r USING (run_id) JOIN business b USING (business_id)
               WHERE z.run_id = $1 AND z.zone_set = $2 AND r.window_version + b.window_version = $3 FOR NO KEY UPDATE OF z SKIP LOCKED
           ), kept AS (
               UPDATE run_zone z SET version = $3,
                   opens_at = CASE WHEN $6 THEN 'infinity' ELSE coalesce($4::timestamptz, '-infinity') END, closes_at = coalesce($5::timestamptz, 'infinity')
               FROM was WHERE z.run_id = was.run_id AND z.zone_set = was.zone_set
               RETURNING z.opens_at, was.opens_at AS opened_at
           )
           INSERT INTO decision (business_id, run_id, zone_set, verdict, rule, detail, next_at)
           SELECT $7, $1, $2, 'held', 'window', $9, CASE WHEN isfinite(opens_at) THEN opens_at END
           FROM kept WHERE opens_at > $8 AND opens_at <> opened_at"#,
        one.run as RunId,
        one.zone_set,
        one.version,
        opens,
        closes,
        span == Span::Never,
        one.business as BusinessId,
        one.now,
        detail
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// True where no number of the run has a time to call, as far as its times are worked out.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn never_open(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<bool> {
    let never = sqlx::query_scalar!(
        r#"SELECT coalesce(bool_and(z.opens_at = 'infinity' AND z.version = r.window_version + b.window_version), false) AS "never!"
           FROM run r JOIN business b USING (business_id) JOIN run_zone z USING (run_id) WHERE r.run_id = $1"#,
        run as RunId
    );
    never.fetch_one(pg).await
}
