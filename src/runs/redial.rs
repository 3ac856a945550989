//! When a job in a call may be dialed again: what the rules are asked by, for whoever promises a time to its callee.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};

use crate::{
    ids::{AttemptId, BusinessId},
    policy::{Calendars, Window},
};

/// The rules of a job's run and business, as they are now.
#[derive(Debug)]
pub struct Redial {
    /// Where its number may be.
    pub zones: Vec<String>,
    /// The run's window.
    pub window: Option<Json<Window>>,
    /// The business's window.
    pub home: Option<Json<Window>>,
    /// The zone of a number that none is known of.
    pub home_zone: Option<String>,
    /// The business's calendars.
    pub calendars: Json<Calendars>,
    /// So long it rings.
    pub ring_timeout_secs: i32,
    /// Not before this.
    pub not_before: Option<DateTime<Utc>>,
    /// By then it must have stopped to ring.
    pub not_after: Option<DateTime<Utc>>,
    /// From then on the run dials nobody.
    pub end_at: Option<DateTime<Utc>>,
    /// The run goes on, and has not called this number as often as it ever does.
    pub goes_on: bool,
    /// The business does not call this number any more.
    pub suppressed: bool,
    /// The moment by Postgres.
    pub now: DateTime<Utc>,
}

/// A limit of how often the number is dialed.
#[derive(Debug)]
pub struct Capped {
    /// In words.
    pub detail: Option<String>,
    /// Until then; none: for good.
    pub until: Option<DateTime<Utc>>,
}

/// By which rules the job of an open attempt would be dialed again; `None` where it has none.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_attempt(pg: &PgPool, business: BusinessId, attempt: AttemptId) -> sqlx::Result<Option<Redial>> {
    sqlx::query_as!(
        Redial,
        r#"SELECT j.time_zones AS zones, r.calling_window AS "window: Json<Window>", b.calling_window AS "home: Json<Window>",
                  b.time_zone AS home_zone, r.ring_timeout_secs, j.not_before, j.not_after, r.end_at,
                  (SELECT coalesce(jsonb_object_agg(name, dates), '{}') FROM calendar c WHERE c.business_id = b.business_id)
                      AS "calendars!: Json<Calendars>",
                  agreed_at(r.run_id, j.job_id, wall_clock()) IS NOT NULL AS "goes_on!",
                  is_suppressed(b.business_id, j.to_number) AS "suppressed!", wall_clock() AS "now!"
           FROM attempt a JOIN job j USING (job_id) JOIN run r ON r.run_id = a.run_id JOIN business b ON b.business_id = a.business_id
           WHERE a.attempt_id = $2 AND a.business_id = $1 AND a.open"#,
        business.0,
        attempt.0
    )
    .fetch_optional(pg)
    .await
}

/// What limits the dials of an attempt's number at this time, if anything does, by what was dialed until now.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn capped(pg: &PgPool, attempt: AttemptId, at: DateTime<Utc>) -> sqlx::Result<Option<Capped>> {
    sqlx::query_as!(
        Capped,
        r#"SELECT v.detail, v.next_at AS until
           FROM attempt a JOIN job j USING (job_id) JOIN business b ON b.business_id = a.business_id
               CROSS JOIN LATERAL capped_at(a.business_id, a.to_number, j.time_zones, $2, b.cap_per_day, b.cap_per_24h, b.cap_lifetime) v
           WHERE a.attempt_id = $1 AND v.verdict IS NOT NULL"#,
        attempt.0,
        at
    )
    .fetch_optional(pg)
    .await
}
