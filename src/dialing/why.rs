//! Why a run is not dialing, or not faster: each reason with how many jobs it holds back, and until when.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};

use crate::{
    businesses::store::Health,
    clock::Time,
    error::ApiError,
    heartbeats::{self, Room},
    ids::{BusinessId, Carrier, RunId},
    runs::{RunState, progress::Held},
    slots::Gate,
    stores::Stores,
};

/// Why a run is not dialing, or not faster.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Why {
    /// The run.
    pub run_id: RunId,
    /// The moment of the answer.
    pub at: Time,
    /// True where nothing keeps the next call from being placed.
    pub dialing: bool,
    /// Slots of the business.
    pub slots: Held,
    /// Lines of the installation.
    pub lines: Held,
    /// When the next call may be placed: now where nothing is in the way, null where nobody can say.
    pub next_possible_at: Option<Time>,
    /// What is in the way.
    pub blockers: Vec<Blocker>,
}

/// One thing that is in the way.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Blocker {
    /// A word that programs may decide by.
    pub code: &'static str,
    /// Jobs, or for `unknown_attempts` attempts, that it concerns.
    pub count: i64,
    /// When it ends, where that is known.
    pub next_at: Option<Time>,
    /// A sentence for people.
    pub detail: String,
}

/// Reads every reason in one snapshot of `pg`, and asks Redis at the same time whether a worker is alive.
///
/// # Errors
/// 404; 503 while Postgres is away.
pub async fn of_run(
    (stores, gate): (&Stores, &Gate),
    pg: &PgPool,
    business: BusinessId,
    run: RunId,
) -> Result<Why, ApiError> {
    let asked = (heartbeats::any_worker(stores), heartbeats::processes(stores));
    let (facts, worker, processes) = tokio::join!(facts(pg, business, run), asked.0, asked.1);
    let facts = facts?.ok_or_else(|| ApiError::not_found("run"))?;
    let room = processes.ok().filter(|_| facts.talks).map(|seen| Room::of(&seen));
    let mut reasons = reasons(&facts, worker.ok(), room);
    reasons.extend(pace(gate, &facts).await);
    let stopped = reasons.iter().any(|reason| reason.stops != Stops::Not);
    let dialing = facts.state == RunState::Running && facts.queued > 0 && !stopped;
    let first = facts.waiting.iter().filter_map(|held| held.next_at.map(Time)).min();
    let next_possible_at = match (stopped, facts.queued) {
        (_, 0) => first.and_then(|first| until(&reasons, first)),
        (true, _) => until(&reasons, facts.at),
        (false, _) => dialing.then_some(facts.at),
    };
    Ok(Why {
        run_id: run,
        at: facts.at,
        dialing,
        slots: Held { held: facts.slots_held, limit: facts.slot_limit },
        lines: Held { held: facts.lines_held, limit: facts.line_limit },
        next_possible_at,
        blockers: reasons.into_iter().map(|reason| reason.blocker).collect(),
    })
}

/// A blocker, and what it means for the next call.
struct Reason {
    stops: Stops,
    blocker: Blocker,
}

/// Whether a reason keeps the next call from being placed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stops {
    /// It only slows the run down, or concerns single numbers.
    Not,
    /// As long as it is there.
    All,
    /// Until the first account that the run may dial through takes calls again.
    Accounts,
}

/// When everything that stops the run has ended, from `earliest` on; none where nobody can say that of one of them.
fn until(reasons: &[Reason], earliest: Time) -> Option<Time> {
    let ends = |stops| reasons.iter().filter(move |reason| reason.stops == stops).map(|reason| reason.blocker.next_at);
    let all = ends(Stops::All).try_fold(earliest, |latest, end| Some(latest.max(end?)))?;
    match ends(Stops::Accounts).count() {
        0 => Some(all),
        _ => ends(Stops::Accounts).flatten().min().map(|first| first.max(all)),
    }
}

/// Of how many numbers that were suppressed since the run was made, the newest, it is asked whether the run has them queued.
/// Those before were never queued, and nearly all since then were ended in the transaction that suppressed them.
const SUPPRESSED_LOOKED_AT: i64 = 1_000;

/// Of how many jobs that wait it is asked which rule holds them; of more, it is concluded.
const WAITING_LOOKED_AT: i64 = 2_000;
/// Jobs that are counted of each set of zones whose window is closed.
const ASLEEP_COUNTED: i64 = 10_000;

struct Facts {
    at: Time,
    state: RunState,
    start_at: Option<Time>,
    most_at_once: Option<i32>,
    at_once: i64,
    queued: i64,
    suppressed: i64,
    importing: bool,
    business_active: bool,
    slots_held: i64,
    slot_limit: i32,
    lines_held: i64,
    line_limit: i32,
    talks: bool,
    in_doubt: i64,
    needs_person: i64,
    pause_reason: Option<String>,
    callers: i64,
    asleep: i64,
    all_asleep: bool,
    wakes_at: Option<Time>,
    waits: i64,
    waiting: Json<Vec<HeldBack>>,
    accounts: Json<Vec<AccountFacts>>,
}

/// Jobs that wait for their time.
#[derive(Deserialize)]
struct HeldBack {
    /// The rule that holds them.
    rule: Option<String>,
    /// Of those that were looked at.
    count: i64,
    /// The first of them.
    next_at: Option<DateTime<Utc>>,
}

/// An account that the run may dial through.
#[derive(Deserialize)]
struct AccountFacts {
    carrier: Carrier,
    health: Health,
    detail: Option<String>,
    held_until: Option<DateTime<Utc>>,
    /// Since when the carrier cannot be asked about its calls.
    unreadable_since: Option<DateTime<Utc>>,
    /// The carrier's own name of it.
    reference: String,
    calls_per_second: f64,
}

impl AccountFacts {
    /// True where nothing keeps the next call from going through it.
    fn takes_calls(&self) -> bool {
        self.held_until.is_none() && self.health != Health::Refused
    }
}

async fn facts(pg: &PgPool, business: BusinessId, run: RunId) -> sqlx::Result<Option<Facts>> {
    sqlx::query_as!(
        Facts,
        r#"SELECT statement_timestamp() AS "at!: Time", r.state AS "state: RunState", r.start_at AS "start_at: Time",
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
                  (SELECT count(*) FROM carrier_account a CROSS JOIN LATERAL unnest(callers_of_run(r.caller_ids, a.caller_ids)) n
                       LEFT JOIN caller_id s ON s.business_id = r.business_id AND s.number = n
                   WHERE a.business_id = r.business_id AND a.carrier = ANY (r.carriers) AND s.enabled IS NOT FALSE
                       AND (s.max_per_day IS NULL OR s.dials < s.max_per_day
                            OR s.day IS DISTINCT FROM (clock_timestamp() AT TIME ZONE known_zone(b.time_zone))::date)) AS "callers!",
                  asleep.jobs AS "asleep!", asleep.opens_at AS "wakes_at: Time",
                  r.window_version + b.window_version > 0 AND NOT EXISTS (
                      SELECT 1 FROM run_zone z CROSS JOIN LATERAL (
                          SELECT 1 FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued' LIMIT 1) awake
                      WHERE z.run_id = r.run_id AND z.version = r.window_version + b.window_version AND z.opens_at <= wall_clock()
                          AND z.closes_at > wall_clock() + make_interval(secs => r.ring_timeout_secs)) AS "all_asleep!",
                  (SELECT coalesce(sum(waiting), 0)::bigint FROM tally_shard WHERE run_id = r.run_id) AS "waits!",
                  (SELECT coalesce(jsonb_agg(jsonb_build_object('rule', h.rule, 'count', h.n, 'next_at', h.next_at)), '[]') FROM (
                       SELECT d.rule, count(*) AS n, min(j.next_at) AS next_at FROM (
                           SELECT job_id, next_at FROM job WHERE run_id = r.run_id AND run_id IS NOT NULL AND state = 'waiting' LIMIT $4) j
                       LEFT JOIN LATERAL (SELECT rule FROM decision WHERE job_id = j.job_id ORDER BY decision_id DESC LIMIT 1) d ON true
                       GROUP BY d.rule ORDER BY d.rule) h) AS "waiting!: Json<Vec<HeldBack>>",
                  own.in_doubt AS "in_doubt!", own.needs_person AS "needs_person!",
                  (SELECT coalesce(jsonb_agg(jsonb_build_object('carrier', a.carrier, 'health', a.health, 'detail', a.health_detail,
                          'reference', a.reference, 'calls_per_second', a.calls_per_second, 'unreadable_since', a.unreadable_since,
                          'held_until', CASE WHEN a.hold_until > clock_timestamp() THEN a.hold_until END)
                          ORDER BY array_position(r.carriers, a.carrier)), '[]') FROM carrier_account a
                   WHERE a.business_id = r.business_id AND a.carrier = ANY (r.carriers) AND a.carrier = ANY (b.carriers))
                      AS "accounts!: Json<Vec<AccountFacts>>"
           FROM run r JOIN business b USING (business_id)
           CROSS JOIN LATERAL (SELECT coalesce(sum(q.n), 0)::bigint AS jobs, min(z.opens_at) FILTER (WHERE q.n > 0 AND z.opens_at > wall_clock()
                   AND z.version = r.window_version + b.window_version AND isfinite(z.opens_at)) AS opens_at
               FROM run_zone z CROSS JOIN LATERAL (
                   SELECT count(*) AS n FROM (SELECT 1 FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued' LIMIT $5) q) q
               WHERE z.run_id = r.run_id AND r.window_version + b.window_version > 0
                   AND (z.version <> r.window_version + b.window_version OR z.opens_at > wall_clock()
                        OR z.closes_at <= wall_clock() + make_interval(secs => r.ring_timeout_secs))) asleep
           CROSS JOIN LATERAL (SELECT count(*) AS held, count(*) FILTER (WHERE run_id = r.run_id) AS of_run,
                   count(*) FILTER (WHERE run_id = r.run_id AND (state = 'unknown' OR needs_person)) AS in_doubt,
                   count(*) FILTER (WHERE run_id = r.run_id AND needs_person) AS needs_person
               FROM attempt WHERE business_id = r.business_id AND open) own
           WHERE r.business_id = $1 AND r.run_id = $2"#,
        business as BusinessId,
        run as RunId,
        SUPPRESSED_LOOKED_AT,
        WAITING_LOOKED_AT,
        ASLEEP_COUNTED
    )
    .fetch_optional(pg)
    .await
}

/// The accounts that have had as many calls as they may in this second, where the run has more to dial.
async fn pace(gate: &Gate, facts: &Facts) -> Vec<Reason> {
    let mut found = Vec::new();
    let dialed_through = facts.accounts.iter().filter(|_| facts.state == RunState::Running && facts.queued > 0);
    for account in dialed_through.filter(|account| account.takes_calls()) {
        let wait = gate.next_token(&account.reference, account.calls_per_second).await.unwrap_or_default();
        if !wait.is_zero() {
            let detail =
                format!("{} takes {} calls per second of this account.", account.carrier, account.calls_per_second);
            let next_at = Some(Time(facts.at.0 + wait));
            let blocker = Blocker { code: "pace", count: facts.queued, next_at, detail };
            found.push(Reason { stops: Stops::Not, blocker });
        }
    }
    found
}

/// `worker` says whether one is alive; none where Redis cannot be asked. `room` is that of the calls programs, where an agent talks.
fn reasons(facts: &Facts, worker: Option<bool>, room: Option<Room>) -> Vec<Reason> {
    let queued = facts.queued;
    let mut found = Vec::new();
    let mut add = |applies: bool, stops, code, count, next_at, detail: String| {
        if applies {
            found.push(Reason { stops, blocker: Blocker { code, count, next_at, detail } });
        }
    };
    let (state, start_at) = (facts.state.as_str(), facts.start_at.filter(|_| facts.state == RunState::Scheduled));
    let idle = facts.state != RunState::Running;
    add(idle, Stops::All, "run_not_running", queued, start_at, format!("The run is {state}."));
    if let Some(reason @ ("breaker" | "budget" | "abandon_guard")) = facts.pause_reason.as_deref() {
        // The guard is a breaker, too: it goes by what became of the last calls.
        let code = if reason == "budget" { "budget" } else { "breaker" };
        add(
            true,
            Stops::All,
            code,
            queued,
            None,
            format!("The {reason} paused the run. Resume it: POST /v1/runs/{{id}}/resume."),
        );
    }
    let detail = "The business is suspended.";
    add(!facts.business_active, Stops::All, "run_not_running", queued, None, detail.into());
    let detail = "A list is being imported; its rows are dialed when it is in.";
    add(facts.importing, Stops::Not, "importing", queued, None, detail.into());
    let detail = format!("All {} calls that the business may have at once are taken.", facts.slot_limit);
    let full = facts.slots_held >= i64::from(facts.slot_limit);
    add(full, Stops::All, "no_slot", queued, None, detail);
    if let Some(most) = facts.most_at_once.filter(|most| !full && facts.at_once >= i64::from(*most)) {
        let detail = format!("All {most} calls that the run may have at once are taken.");
        add(true, Stops::All, "no_slot", queued, None, detail);
    }
    let detail = format!("All {} calls that the installation may have at once are taken.", facts.line_limit);
    add(facts.lines_held >= i64::from(facts.line_limit), Stops::All, "no_line", queued, None, detail);
    if let Some(Room { ready, sessions, most }) = room {
        let detail = match ready {
            0 => "No calls program takes conversations. Start rollcall-calls.".into(),
            _ => format!("All {most} conversations that the calls programs have room for are taken."),
        };
        add(sessions >= most, Stops::All, "no_session_capacity", queued, None, detail);
    }
    let detail = "The business has no account at any carrier of the run: PUT /v1/businesses/{id}/carriers/….";
    add(facts.accounts.is_empty(), Stops::All, "no_caller_id", queued, None, detail.into());
    let detail = "Every number to call from is switched off, or was taken as often as it may be today.";
    let none_left = !facts.accounts.is_empty() && facts.callers == 0;
    add(none_left, Stops::All, "no_caller_id", queued, None, detail.into());
    let another = facts.accounts.iter().any(AccountFacts::takes_calls);
    let of_account = if another { Stops::Not } else { Stops::Accounts };
    for account in facts.accounts.iter() {
        let (carrier, held_until) = (account.carrier, account.held_until.map(Time));
        let why = account.detail.as_deref().unwrap_or("it does not say why");
        let (code, applies, detail) = match account.health {
            Health::Refused => (
                "account_refused",
                true,
                format!(
                    "{carrier} refuses the account ({why}). Correct its credentials; one call a minute tries again."
                ),
            ),
            Health::Down => {
                let detail = format!("{carrier} cannot be reached ({why}). It is tried again by itself.");
                ("carrier_down", held_until.is_some(), detail)
            }
            Health::Ok | Health::Unchecked => {
                let detail = format!("{carrier} asked for fewer calls; dialing goes on by itself.");
                ("carrier_backoff", held_until.is_some(), detail)
            }
        };
        add(applies, of_account, code, queued, held_until, detail);
        // It may still take calls: their slots are what does not come free.
        if let Some(since) = account.unreadable_since.map(Time) {
            let detail = format!(
                "{carrier} cannot be asked about calls since {since}; what is in doubt holds its slot until it can."
            );
            add(!(applies && code == "carrier_down"), Stops::Not, "carrier_down", queued, None, detail);
        }
    }
    let detail = format!(
        "It is outside the calling window for {}{} numbers that are queued.",
        if facts.asleep >= ASLEEP_COUNTED { "at least " } else { "" },
        facts.asleep
    );
    let of_window = if facts.all_asleep { Stops::All } else { Stops::Not };
    add(facts.asleep > 0, of_window, "window", facts.asleep, facts.wakes_at, detail);
    let looked_at: i64 = facts.waiting.iter().map(|held| held.count).sum();
    for held in facts.waiting.iter() {
        let (code, detail) = match held.rule.as_deref() {
            Some("attempt_cap") => ("attempt_cap", "numbers were dialed as often as the business allows for now."),
            Some("not_before") => ("window", "numbers have a not_before that has not come."),
            Some("in_call") => ("retry_wait", "numbers are in another call of the business."),
            _ => ("retry_wait", "numbers wait for their next attempt."),
        };
        let count = held.count * facts.waits.max(looked_at) / looked_at.max(1);
        add(true, Stops::Not, code, count, held.next_at.map(Time), format!("{count} {detail}"));
    }
    let detail = format!(
        "{} attempts are in doubt and hold their slots until the carrier has said what happened; {} of them need a person \
         (rollcall-ops reconcile).",
        facts.in_doubt, facts.needs_person
    );
    add(facts.in_doubt > 0, Stops::Not, "unknown_attempts", facts.in_doubt, None, detail);
    let detail = format!("{} numbers are on the suppression list and will be skipped.", facts.suppressed);
    add(facts.suppressed > 0, Stops::Not, "suppressed", facts.suppressed, None, detail);
    let detail = "No worker is alive. Start rollcall-worker.";
    add(worker == Some(false), Stops::All, "no_worker", queued, None, detail.into());
    let detail = "Redis cannot be reached; dialing pauses until it can.";
    add(worker.is_none(), Stops::All, "store_down", queued, None, detail.into());
    found
}
