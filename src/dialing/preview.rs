//! What a run would do: the rules of the claim, asked beforehand and without effect.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::{PgPool, PgTransaction};

use crate::{
    clock::Time,
    config::Settings,
    dialing::windows,
    error::ApiError,
    ids::{BusinessId, RunId},
    runs,
};

/// What a run would do if it dialed from now on.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Preview {
    /// The run.
    pub run_id: RunId,
    /// The moment of the answer.
    pub at: Time,
    /// Jobs that are not over.
    pub jobs: i64,
    /// Of those: that would be dialed, now or when their window opens.
    pub to_dial: i64,
    /// Of those: whose window is open now.
    pub open_now: i64,
    /// What would be held or skipped, by rule.
    pub held_back: Vec<HeldBack>,
    /// When which numbers may ring.
    pub windows: Vec<ZoneTimes>,
    /// When about all would be dialed once, at the length of calls so far and with every slot: an estimate; null where a window is
    /// not known to open.
    pub until: Option<Time>,
    /// What it may cost by the price of the business's calls so far; null where no price is known.
    pub cost: Option<Cost>,
}

/// Jobs that would not be dialed now.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct HeldBack {
    /// The rule.
    pub rule: String,
    /// `held` or `skipped`.
    pub verdict: String,
    /// How many jobs.
    pub count: i64,
    /// When the first of them may be dialed.
    pub next_at: Option<Time>,
}

/// When the numbers of some zones may ring.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ZoneTimes {
    /// Where they may be; empty: nobody knows.
    pub zones: Vec<String>,
    /// How many jobs.
    pub jobs: i64,
    /// The present or the next opening; null: it is always open, or never where `never` is true.
    pub opens_at: Option<Time>,
    /// When the last call of that time may begin to ring.
    pub closes_at: Option<Time>,
    /// No time suits them.
    pub never: bool,
}

/// An estimate.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Cost {
    /// Decimal.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
}

/// Looks ahead for a run of any state.
///
/// # Errors
/// 404.
pub async fn of_run(pg: &PgPool, settings: &Settings, business: BusinessId, run: RunId) -> Result<Preview, ApiError> {
    let mut tx = pg.begin().await?;
    if !runs::store::exists(&mut *tx, business, run).await? {
        return Err(ApiError::not_found("run"));
    }
    sqlx::query!("SELECT set_config('statement_timeout', '25s', true) AS a").fetch_one(&mut *tx).await?;
    windows::of_run(&mut tx, run, Duration::from_secs(settings.carrier_queue_limit_secs)).await?;
    let mut held_back = held_back(&mut tx, business, run, windows::until_rung(settings)).await?;
    let zones = zones(&mut tx, run).await?;
    let pace = pace(&mut tx, business, run, settings.ring_timeout_secs).await?;
    // Nothing of it stays: times of a draft are worked out again when it starts.
    tx.rollback().await?;
    let jobs: i64 = zones.iter().map(|zone| zone.times.jobs).sum();
    let open_now: i64 = zones.iter().filter(|zone| zone.open).map(|zone| zone.times.jobs).sum();
    let shut = |ends| zones.iter().filter(move |zone| zone.shut == Some(ends)).map(|zone| zone.times.jobs).sum();
    let (ended, asleep): (i64, i64) = (shut(Shut::UntilTheEnd), shut(Shut::ForNow));
    for (rule, verdict, count) in [("window_ended", "skipped", ended), ("window", "held", asleep)] {
        if count > 0 {
            held_back.push(HeldBack { rule: rule.into(), verdict: verdict.into(), count, next_at: None });
        }
    }
    let skipped: i64 = held_back.iter().filter(|one| one.verdict == "skipped").map(|one| one.count).sum();
    let to_dial = (jobs - skipped - asleep).max(0);
    let cost = pace
        .price
        .zip(pace.currency)
        .map(|(price, currency)| Cost { amount: format!("{:.4}", price * to_dial as f64), currency });
    Ok(Preview {
        run_id: run,
        at: pace.at,
        jobs,
        to_dial,
        open_now: open_now.min(to_dial),
        until: until(&zones, to_dial, pace.secs_per_call / f64::from(pace.slots.max(1)), pace.at.0),
        windows: zones.into_iter().map(|zone| zone.times).collect(),
        held_back,
        cost,
    })
}

struct Zone {
    times: ZoneTimes,
    open: bool,
    /// Where its window does not open for the run as it is.
    shut: Option<Shut>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shut {
    /// It does not open before the run's end: its jobs are skipped.
    UntilTheEnd,
    /// It never opens, and the run has no end: its jobs wait for another window.
    ForNow,
}

async fn zones(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<Vec<Zone>> {
    let rows = sqlx::query!(
        r#"SELECT z.zones, j.n AS "jobs!", CASE WHEN isfinite(z.opens_at) THEN z.opens_at END AS "opens_at: Time",
                  CASE WHEN isfinite(z.closes_at) THEN z.closes_at END AS "closes_at: Time", z.opens_at = 'infinity' AS "never!",
                  coalesce(z.opens_at >= r.end_at, false) AS "ended!",
                  z.opens_at <= wall_clock() AND z.closes_at > wall_clock() + make_interval(secs => r.ring_timeout_secs) AS "open!"
           FROM run_zone z JOIN run r USING (run_id)
           CROSS JOIN LATERAL (SELECT count(*) AS n FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set
                               AND state IN ('queued', 'waiting', 'dialing')) j
           WHERE z.run_id = $1 AND j.n > 0 ORDER BY j.n DESC, z.zones"#,
        run as RunId
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Zone {
            open: row.open,
            shut: match (row.ended, row.never) {
                (true, _) => Some(Shut::UntilTheEnd),
                (false, never) => never.then_some(Shut::ForNow),
            },
            times: ZoneTimes {
                zones: row.zones,
                jobs: row.jobs,
                opens_at: row.opens_at,
                closes_at: row.closes_at,
                never: row.never,
            },
        })
        .collect())
}

/// What the claim would hold or skip. Only jobs that a rule may be about are asked of it: whose number is suppressed, was dialed
/// before, or has times of its own.
async fn held_back(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    run: RunId,
    until_rung: Duration,
) -> sqlx::Result<Vec<HeldBack>> {
    sqlx::query_as!(
        HeldBack,
        r#"SELECT v.rule AS "rule!", v.verdict AS "verdict!", count(*) AS "count!", min(v.next_at) AS "next_at: Time"
           FROM business b CROSS JOIN LATERAL (
               SELECT j.*, r.ring_timeout_secs FROM job j JOIN run r USING (run_id)
               WHERE j.run_id = $2 AND j.state IN ('queued', 'waiting')
                   AND (j.not_before IS NOT NULL OR j.not_after IS NOT NULL OR is_suppressed(b.business_id, j.to_number)
                        OR EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = b.business_id AND a.to_number = j.to_number
                                   AND a.intent_at IS NOT NULL))) j
           CROSS JOIN LATERAL verdict_on(b.business_id, NULL, j.to_number, j.time_zones, j.not_before,
               j.not_after - make_interval(secs => j.ring_timeout_secs + $3::float8), b.cap_per_day, b.cap_per_24h, b.cap_lifetime) v
           WHERE b.business_id = $1 AND v.verdict IS NOT NULL
           GROUP BY v.rule, v.verdict ORDER BY v.rule"#,
        business as BusinessId,
        run as RunId,
        until_rung.as_secs_f64()
    )
    .fetch_all(&mut **tx)
    .await
}

struct Pace {
    at: Time,
    slots: i32,
    secs_per_call: f64,
    price: Option<f64>,
    currency: Option<String>,
}

/// How long a call of the business takes and what it costs, by its last thousand.
async fn pace(tx: &mut PgTransaction<'_>, business: BusinessId, run: RunId, ring_secs: i32) -> sqlx::Result<Pace> {
    sqlx::query_as!(
        Pace,
        r#"SELECT wall_clock() AS "at!: Time", least(b.max_concurrent_calls, r.max_concurrent_calls) AS "slots!",
                  coalesce(past.secs, $3)::float8 AS "secs_per_call!", past.price, past.currency
           FROM business b JOIN run r USING (business_id)
           CROSS JOIN LATERAL (
               SELECT avg(extract(epoch FROM ended_at - intent_at))::float8 AS secs, avg(abs(price))::float8 AS price, max(currency) AS currency
               FROM carrier_account c CROSS JOIN LATERAL (
                   -- Of each carrier the last: no index has all calls of a business by their time.
                   SELECT ended_at, intent_at, price, currency FROM attempt
                   WHERE account = c.reference AND carrier_call_id IS NOT NULL AND business_id = b.business_id AND state = 'ended'
                   ORDER BY intent_at DESC LIMIT 1000) a
               WHERE c.business_id = b.business_id) past
           WHERE b.business_id = $1 AND r.run_id = $2"#,
        business as BusinessId,
        run as RunId,
        f64::from(ring_secs)
    )
    .fetch_one(&mut **tx)
    .await
}

/// When so many calls are over, if the zones with the most jobs are dialed whenever they are open, and each other one from its
/// next opening on; none where nothing is to be dialed.
fn until(zones: &[Zone], jobs: i64, secs_per_job: f64, now: DateTime<Utc>) -> Option<Time> {
    let mut dialed = zones.iter().filter(|zone| zone.shut.is_none()).map(|zone| &zone.times);
    let first = over(dialed.next()?, jobs, secs_per_job, now)?;
    dialed.map(|zone| over(zone, zone.jobs, secs_per_job, now)).try_fold(first, |latest, end| Some(latest.max(end?)))
}

/// When so many calls are over, if they are made whenever this zone is open.
fn over(zone: &ZoneTimes, jobs: i64, secs_per_job: f64, now: DateTime<Utc>) -> Option<Time> {
    let secs = (secs_per_job * jobs as f64).ceil();
    let needed = TimeDelta::try_seconds(secs as i64)?;
    let (Some(opens), Some(closes)) = (zone.opens_at, zone.closes_at) else {
        return Some(Time(now.checked_add_signed(needed)?));
    };
    // Every day is taken to have as many open hours as the next one.
    let begins = opens.0.max(now);
    let open_today = (closes.0 - begins).max(TimeDelta::zero());
    if needed <= open_today {
        return Some(Time(begins.checked_add_signed(needed)?));
    }
    let open_a_day = (closes.0 - opens.0).max(TimeDelta::minutes(1)).min(TimeDelta::days(1));
    let rest = needed - open_today;
    let days = rest.num_seconds() / open_a_day.num_seconds();
    let last = TimeDelta::try_seconds(rest.num_seconds() % open_a_day.num_seconds())?;
    Some(Time(opens.0.checked_add_signed(TimeDelta::try_days(1 + days)? + last)?))
}
