//! `/dashboard`: everything that an engineer looks at first, in one answer. It answers while a store is away, too: what
//! cannot be read then is null.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    api::status::{Lines, WorkerPool, millis},
    businesses::health::NotOk,
    clock::Time,
    config::Role,
    context::Context,
    dialing::{
        gate::Drift,
        overview::{self, Ledger, Pulse, queue_length},
    },
    heartbeats::{Rounds, Seen, machines::Machines},
    stores::{PostgresReport, RedisReport},
};

// The thresholds are those of deploy/prometheus/alerts.yml: a person and Prometheus are told the same.

/// Bells and single calls that wait for a worker, or answered calls that wait for a conversation: more is an alarm.
const QUEUE_ALARM: i64 = 50;
/// Since a sweep last ended anywhere: longer is an alarm.
const SWEEP_ALARM: Duration = Duration::from_secs(10);
/// Since the carriers were last asked about calls in doubt and silent ones: longer is an alarm.
const RECONCILE_ALARM: Duration = Duration::from_secs(60);
/// In doubt for longer is an alarm.
const UNKNOWN_ALARM: Duration = Duration::from_secs(300);
/// Percent of Redis' memory limit: more is an alarm.
const REDIS_MEMORY_ALARM: f64 = 85.0;
/// Percent of a machine's memory: more is an alarm.
const MEMORY_ALARM: f32 = 85.0;
/// Percent of the dialed jobs of running runs that failed: more is an alarm.
const FAILURES_ALARM: f64 = 5.0;
/// Fewer dialed jobs say nothing of a rate.
const LEAST_DIALED: i64 = 20;

/// `/dashboard`.
#[derive(Debug, Serialize)]
pub struct Dashboard {
    system: System,
    workers: Option<WorkerPool>,
    runs: Option<Runs>,
    calls: Option<Calls>,
    queue: Option<Queue>,
    resources: Resources,
}

/// Whether all is well, and what is not.
#[derive(Debug, Serialize)]
struct System {
    /// By Postgres.
    at: Option<Time>,
    status: &'static str,
    version: &'static str,
    /// Versions of the processes that are alive; more than one while a deployment is under way.
    versions: Vec<String>,
    stores: Stores,
    alarms: Vec<Alarm>,
    sweep_age_ms: Option<u64>,
    reconcile_age_ms: Option<u64>,
    gate_drift: Option<usize>,
    accounts_not_ok: Option<Vec<NotOk>>,
}

#[derive(Debug, Serialize)]
struct Stores {
    postgres: bool,
    redis: bool,
}

/// A figure that is beyond its threshold.
#[derive(Debug, Serialize)]
struct Alarm {
    name: &'static str,
    value: f64,
    threshold: f64,
}

#[derive(Debug, Serialize)]
struct Runs {
    states: BTreeMap<String, i64>,
    businesses_with_work: i64,
}

#[derive(Debug, Serialize)]
struct Calls {
    total_sessions: i64,
    lines: Lines,
    intent: i64,
    unknown: i64,
    placed: i64,
    ringing: i64,
    answered: i64,
    needs_person: i64,
    unknown_oldest_ms: Option<i64>,
    calls_started: i64,
    calls_rejected_max_concurrent: Option<i64>,
    /// Of the dialed jobs of running runs; null before twenty of them.
    failure_percent: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Queue {
    session_queue_length: Option<i64>,
    bells_outstanding: Option<u64>,
    calls_untaken: i64,
    jobs_queued: i64,
}

#[derive(Debug, Serialize)]
struct Resources {
    memory_percent: Option<f32>,
    cpu_percent: Option<f32>,
    machines: Option<Machines>,
    processes: Option<Vec<Process>>,
    redis: Option<RedisReport>,
    postgres: Option<PostgresReport>,
}

/// What a process uses.
#[derive(Debug, Serialize)]
struct Process {
    name: String,
    host: String,
    role: crate::config::Role,
    memory_bytes: Option<u64>,
    cpu_percent: Option<f32>,
}

/// Reads the dashboard.
pub async fn dashboard(ctx: &Context) -> Dashboard {
    let (ledger, pulse, drift) = overview::all(ctx).await;
    let (ledger, pulse) = (ledger.as_ref(), pulse.as_ref());
    let machines = pulse.map(|pulse| Machines::of(&pulse.processes));
    Dashboard {
        system: system(ledger, pulse, drift.as_ref(), machines.as_ref(), ctx.heartbeats.known_for()),
        workers: pulse.map(|pulse| WorkerPool::of(pulse.workers())),
        runs: ledger.map(|ledger| Runs {
            states: ledger.runs.states.clone(),
            businesses_with_work: ledger.runs.businesses_with_work,
        }),
        calls: ledger.map(|ledger| calls(ledger, pulse)),
        queue: ledger.map(|ledger| Queue {
            session_queue_length: pulse.map(|pulse| queue_length(ledger, pulse)),
            bells_outstanding: pulse.map(|pulse| pulse.bells),
            calls_untaken: ledger.attempts.untaken,
            jobs_queued: ledger.runs.jobs_queued,
        }),
        resources: Resources {
            memory_percent: machines.as_ref().and_then(Machines::memory_percent),
            cpu_percent: machines.as_ref().and_then(Machines::cpu_percent),
            machines,
            processes: pulse.map(|pulse| pulse.processes.iter().filter(|p| p.alive()).map(process).collect()),
            redis: pulse.map(|pulse| pulse.redis.clone()),
            postgres: ledger.map(|ledger| ledger.postgres),
        },
    }
}

fn calls(ledger: &Ledger, pulse: Option<&Pulse>) -> Calls {
    let attempts = &ledger.attempts;
    Calls {
        total_sessions: attempts.open,
        lines: Lines::of(ledger, pulse),
        intent: attempts.intent,
        unknown: attempts.unknown,
        placed: attempts.placed,
        ringing: attempts.ringing,
        answered: attempts.answered,
        needs_person: attempts.needs_person,
        unknown_oldest_ms: attempts.oldest_unknown_ms,
        calls_started: attempts.started,
        calls_rejected_max_concurrent: pulse.map(|pulse| pulse.calls_rejected),
        failure_percent: failure_percent(ledger),
    }
}

fn failure_percent(ledger: &Ledger) -> Option<f64> {
    let runs = &ledger.runs;
    (runs.jobs_dialed >= LEAST_DIALED).then(|| runs.jobs_failed as f64 * 100.0 / runs.jobs_dialed as f64)
}

fn process(seen: &Seen) -> Process {
    Process {
        name: seen.beat.name.clone(),
        host: seen.beat.host.clone(),
        role: seen.beat.role,
        memory_bytes: seen.beat.memory_bytes,
        cpu_percent: seen.beat.cpu_percent,
    }
}

fn system(
    ledger: Option<&Ledger>,
    pulse: Option<&Pulse>,
    drift: Option<&Drift>,
    machines: Option<&Machines>,
    known_for: Duration,
) -> System {
    let mut versions: Vec<String> = pulse
        .map(|pulse| pulse.processes.iter().filter(|p| p.alive()).map(|p| p.beat.version.clone()).collect())
        .unwrap_or_default();
    versions.sort();
    versions.dedup();
    let mut alarms = of_ledger(ledger);
    alarms.extend(of_pulse(pulse, known_for));
    let queue = ledger.zip(pulse).map(|(ledger, pulse)| queue_length(ledger, pulse) as f64);
    alarms.extend(above("session_queue_length", queue, QUEUE_ALARM as f64));
    alarms.extend(above("gate_drift", drift.map(|drift| drift.size() as f64), 0.0));
    let memory = machines.and_then(Machines::memory_percent).map(f64::from);
    alarms.extend(above("memory_percent", memory, f64::from(MEMORY_ALARM)));
    let away = |name, here: bool| (!here).then_some(Alarm { name, value: 0.0, threshold: 1.0 });
    alarms.extend([away("postgres_up", ledger.is_some()), away("redis_up", pulse.is_some())].into_iter().flatten());
    let well = alarms.is_empty();
    System {
        at: ledger.map(|ledger| ledger.attempts.at),
        status: if well { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        versions,
        stores: Stores { postgres: ledger.is_some(), redis: pulse.is_some() },
        alarms,
        sweep_age_ms: pulse.and_then(|pulse| pulse.rounds.sweep).map(millis),
        reconcile_age_ms: pulse.and_then(|pulse| pulse.rounds.reconcile).map(millis),
        gate_drift: drift.map(Drift::size),
        accounts_not_ok: ledger.map(|ledger| ledger.troubles.accounts.clone()),
    }
}

/// A figure that is beyond its threshold now; `deploy/prometheus/alerts.yml` asks that it lasts.
fn above(name: &'static str, value: Option<f64>, threshold: f64) -> Option<Alarm> {
    value.filter(|value| *value > threshold).map(|value| Alarm { name, value, threshold })
}

fn of_ledger(ledger: Option<&Ledger>) -> Vec<Alarm> {
    let count = |read: fn(&Ledger) -> i64| ledger.map(|ledger| read(ledger) as f64);
    let found = [
        above("unknown_oldest_ms", count(|l| l.attempts.oldest_unknown_ms.unwrap_or(0)), in_ms(UNKNOWN_ALARM)),
        above("needs_person", count(|l| l.attempts.needs_person), 0.0),
        above("accounts_refused", count(|l| l.troubles.refused), 0.0),
        above("accounts_down", count(|l| l.troubles.down), 0.0),
        above("accounts_unreadable", count(|l| l.troubles.unreadable), 0.0),
        above("failure_percent", ledger.and_then(failure_percent), FAILURES_ALARM),
    ];
    found.into_iter().flatten().collect()
}

/// A round of which Redis knows no end is as old as this process' knowledge, as in `/metrics`.
fn of_pulse(pulse: Option<&Pulse>, known_for: Duration) -> Vec<Alarm> {
    let workers = pulse.map(|pulse| WorkerPool::of(pulse.workers()));
    let stale =
        |pulse: &Pulse| [Role::Api, Role::Worker, Role::Calls].map(|role| pulse.stale(role)).iter().sum::<usize>();
    let flag = |read: fn(&Pulse) -> bool| pulse.map(|pulse| f64::from(u8::from(read(pulse))));
    let age =
        |round: fn(&Rounds) -> Option<Duration>| pulse.map(|pulse| in_ms(round(&pulse.rounds).unwrap_or(known_for)));
    let found = [
        above("missed_heartbeats", pulse.map(|pulse| stale(pulse) as f64), 0.0),
        above("no_worker", workers.as_ref().map(|pool| if pool.total_workers == 0 { 1.0 } else { 0.0 }), 0.0),
        above("sweep_age_ms", age(|rounds| rounds.sweep), in_ms(SWEEP_ALARM)),
        above("reconcile_age_ms", age(|rounds| rounds.reconcile), in_ms(RECONCILE_ALARM)),
        above("sessions_waiting", pulse.map(|pulse| pulse.waiting as f64), QUEUE_ALARM as f64),
        above("redis_may_evict", flag(|pulse| pulse.redis.may_evict), 0.0),
        above("redis_not_persistent", flag(|pulse| !pulse.redis.persistent), 0.0),
        above("redis_memory_percent", pulse.and_then(|pulse| pulse.redis.memory_percent()), REDIS_MEMORY_ALARM),
    ];
    found.into_iter().flatten().collect()
}

fn in_ms(time: Duration) -> f64 {
    millis(time) as f64
}
