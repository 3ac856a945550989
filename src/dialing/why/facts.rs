//! What is known of a run that may not be dialing, read in one snapshot.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgPool, types::Json};

use crate::{
    businesses::store::Health,
    clock::Time,
    ids::{BusinessId, Carrier, RunId},
    policy::Openings,
    runs::RunState,
};

/// Of how many numbers that were suppressed since the run was made, the newest, it is asked whether the run has them queued.
/// Those before were never queued, and nearly all since then were ended in the transaction that suppressed them.
const SUPPRESSED_LOOKED_AT: i64 = 1_000;

/// Of how many jobs that wait it is asked which rule holds them; of more, it is concluded.
const WAITING_LOOKED_AT: i64 = 2_000;
/// Jobs that are counted of each set of zones whose window is closed.
pub(super) const ASLEEP_COUNTED: i64 = 10_000;

pub(super) struct Facts {
    pub(super) at: Time,
    pub(super) state: RunState,
    pub(super) start_at: Option<Time>,
    pub(super) end_at: Option<Time>,
    pub(super) most_at_once: Option<i32>,
    pub(super) at_once: i64,
    pub(super) queued: i64,
    pub(super) suppressed: i64,
    pub(super) importing: bool,
    pub(super) business_active: bool,
    pub(super) slots_held: i64,
    pub(super) slot_limit: i32,
    pub(super) lines_held: i64,
    pub(super) line_limit: i32,
    pub(super) talks: bool,
    pub(super) in_doubt: i64,
    pub(super) needs_person: i64,
    pub(super) pause_reason: Option<String>,
    /// Numbers to call from that are switched on.
    pub(super) callers: i64,
    /// Of those: that may be taken again today.
    pub(super) callers_with_day: i64,
    /// Of those: that may have one more call at once.
    pub(super) callers_free: i64,
    /// When each may be taken again as often as it may be in a day.
    pub(super) callers_next_day: Option<Time>,
    /// A calendar that a window names and that the business does not have.
    pub(super) lacks_calendar: Option<String>,
    /// True where the run has used its budget.
    pub(super) budget_spent: bool,
    pub(super) asleep: i64,
    pub(super) all_asleep: bool,
    pub(super) wakes_at: Option<Time>,
    pub(super) waits: i64,
    pub(super) waiting: Json<Vec<HeldBack>>,
    pub(super) accounts: Json<Vec<AccountFacts>>,
}

/// Jobs that wait for their time, whose numbers may be in the same zones.
#[derive(Deserialize)]
pub(super) struct HeldBack {
    /// The rule that holds them.
    pub(super) rule: Option<String>,
    pub(super) zone_set: i64,
    /// Of those that were looked at.
    pub(super) count: i64,
    /// When the rule holds the first of them no longer.
    pub(super) next_at: Option<DateTime<Utc>>,
}

impl Facts {
    /// Jobs that wait, by the rules that hold them: each with the first time at which one of them may be dialed, where one is known.
    pub(super) fn held(&self, openings: &HashMap<i64, Openings>) -> BTreeMap<Option<&str>, (i64, Option<Time>)> {
        let mut all: BTreeMap<_, (i64, Option<Time>)> = BTreeMap::new();
        for held in self.waiting.iter() {
            let open = |at| openings.get(&held.zone_set).map_or(Some(at), |openings| openings.first(at));
            let (count, next_at) = all.entry(held.rule.as_deref()).or_default();
            *count += held.count;
            *next_at = next_at.iter().copied().chain(held.next_at.and_then(open).map(Time)).min();
        }
        all
    }
}

/// An account that the run may dial through.
#[derive(Deserialize)]
pub(super) struct AccountFacts {
    pub(super) carrier: Carrier,
    pub(super) health: Health,
    pub(super) detail: Option<String>,
    pub(super) held_until: Option<DateTime<Utc>>,
    /// Since when the carrier cannot be asked about its calls.
    pub(super) unreadable_since: Option<DateTime<Utc>>,
    /// True where that is because its credentials are refused.
    pub(super) unreadable_refused: bool,
    /// The carrier's own name of it.
    pub(super) reference: String,
    pub(super) calls_per_second: f64,
}

impl AccountFacts {
    /// True where nothing keeps the next call from going through it.
    pub(super) fn takes_calls(&self) -> bool {
        self.held_until.is_none() && self.health != Health::Refused
    }
}

/// As they are now; an intent older than the grace (ms) is in doubt.
pub(super) async fn read(
    pg: &PgPool,
    business: BusinessId,
    run: RunId,
    intent_grace_ms: u64,
) -> sqlx::Result<Option<Facts>> {
    sqlx::query_as!(
        Facts,
        r#"SELECT statement_timestamp() AS "at!: Time", r.state AS "state: RunState", r.start_at AS "start_at: Time",
                  r.end_at AS "end_at: Time",
                  r.max_concurrent_calls AS most_at_once, own.of_run AS "at_once!",
                  (SELECT coalesce(sum(queued), 0)::bigint FROM tally_shard WHERE run_id = r.run_id) AS "queued!",
                  (SELECT count(*) FROM (
                       SELECT number FROM suppression WHERE business_id = r.business_id AND created_at >= r.created_at
                           AND (expires_at IS NULL OR expires_at > clock_timestamp())
                       ORDER BY created_at DESC LIMIT $3) s
                   CROSS JOIN LATERAL (SELECT state FROM job WHERE run_id = r.run_id AND to_number = s.number OFFSET 0) j
                   WHERE j.state = 'queued') AS "suppressed!",
                  EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND objsubid = 1
                      AND (classid::bigint << 32 | objid::bigint) = hashtextextended('rollcall.import:' || r.run_id::text, 0)) AS "importing!",
                  b.state = 'active' AS "business_active!",
                  own.held AS "slots_held!", b.max_concurrent_calls AS slot_limit,
                  lines_in_use() AS "lines_held!",
                  coalesce((SELECT max_lines FROM installation), 0) AS "line_limit!",
                  r.agent_id IS NOT NULL AS "talks!",
                  r.pause_reason,
                  pool.callers AS "callers!", pool.with_day AS "callers_with_day!", pool.free AS "callers_free!",
                  pool.next_day AS "callers_next_day: Time",
                  (SELECT named.name FROM jsonb_array_elements_text(coalesce(r.calling_window -> 'calendars', '[]')
                          || coalesce(b.calling_window -> 'calendars', '[]')) AS named (name)
                   WHERE NOT EXISTS (SELECT 1 FROM calendar c WHERE c.business_id = b.business_id AND c.name = named.name) LIMIT 1)
                      AS lacks_calendar,
                  CASE WHEN r.budget IS NULL THEN false ELSE coalesce(budget_left(r.run_id, r.budget) = 0, false) END AS "budget_spent!",
                  asleep.jobs AS "asleep!", asleep.opens_at AS "wakes_at: Time",
                  r.window_version + b.window_version > 0 AND NOT EXISTS (
                      SELECT 1 FROM run_zone z CROSS JOIN LATERAL (
                          SELECT 1 FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued' LIMIT 1) awake
                      WHERE z.run_id = r.run_id AND z.version = r.window_version + b.window_version AND z.opens_at <= wall_clock()
                          AND z.closes_at > wall_clock() + make_interval(secs => r.ring_timeout_secs)) AS "all_asleep!",
                  (SELECT coalesce(sum(waiting), 0)::bigint FROM tally_shard WHERE run_id = r.run_id) AS "waits!",
                  (SELECT coalesce(jsonb_agg(jsonb_build_object('rule', h.rule, 'zone_set', h.zone_set, 'count', h.n, 'next_at', h.next_at)), '[]') FROM (
                       SELECT d.rule, j.zone_set, count(*) AS n, min(j.next_at) AS next_at FROM (
                           SELECT job_id, zone_set, next_at FROM job WHERE run_id = r.run_id AND run_id IS NOT NULL AND state = 'waiting' LIMIT $4) j
                       LEFT JOIN LATERAL (SELECT rule FROM decision WHERE job_id = j.job_id ORDER BY decision_id DESC LIMIT 1) d ON true
                       GROUP BY d.rule, j.zone_set ORDER BY d.rule) h) AS "waiting!: Json<Vec<HeldBack>>",
                  own.in_doubt AS "in_doubt!", own.needs_person AS "needs_person!",
                  (SELECT coalesce(jsonb_agg(jsonb_build_object('carrier', a.carrier, 'health', a.health, 'detail', a.health_detail,
                          'reference', a.reference, 'calls_per_second', a.calls_per_second, 'unreadable_since', a.unreadable_since, 'unreadable_refused', a.unreadable_refused,
                          'held_until', CASE WHEN a.hold_until > clock_timestamp() THEN a.hold_until END)
                          ORDER BY array_position(r.carriers, a.carrier)), '[]') FROM carrier_account a
                   WHERE a.business_id = r.business_id AND a.carrier = ANY (r.carriers) AND a.carrier = ANY (b.carriers))
                      AS "accounts!: Json<Vec<AccountFacts>>"
           FROM run r JOIN business b USING (business_id) CROSS JOIN LATERAL callers_now(r.business_id, r.run_id) pool
           CROSS JOIN LATERAL (SELECT coalesce(sum(q.n), 0)::bigint AS jobs, min(greatest(z.opens_at, q.not_before)) FILTER (WHERE q.n > 0 AND z.opens_at > wall_clock()
                   AND z.version = r.window_version + b.window_version AND isfinite(z.opens_at)) AS opens_at
               FROM run_zone z CROSS JOIN LATERAL (
                   SELECT count(*) AS n, (SELECT min(coalesce(not_before, '-infinity')) FROM (
                       SELECT not_before FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued' LIMIT $4) j) AS not_before
                   FROM (SELECT 1 FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued' LIMIT $5) q) q
               WHERE z.run_id = r.run_id AND r.window_version + b.window_version > 0
                   AND (z.version <> r.window_version + b.window_version OR z.opens_at > wall_clock()
                        OR z.closes_at <= wall_clock() + make_interval(secs => r.ring_timeout_secs))) asleep
           CROSS JOIN LATERAL (SELECT count(*) AS held, count(*) FILTER (WHERE run_id = r.run_id) AS of_run,
                   count(*) FILTER (WHERE run_id = r.run_id AND (state = 'unknown' OR needs_person
                       OR state = 'intent' AND owner IS NOT NULL AND intent_at < clock_timestamp() - make_interval(secs => $6::float8 / 1000))) AS in_doubt,
                   count(*) FILTER (WHERE run_id = r.run_id AND needs_person) AS needs_person
               FROM attempt WHERE business_id = r.business_id AND open) own
           WHERE r.business_id = $1 AND r.run_id = $2"#,
        business as BusinessId,
        run as RunId,
        SUPPRESSED_LOOKED_AT,
        WAITING_LOOKED_AT,
        ASLEEP_COUNTED,
        intent_grace_ms as f64
    )
    .fetch_optional(pg)
    .await
}
