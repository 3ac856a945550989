//! `/dashboard`: everything that an engineer looks at first, in one answer. It answers while a store is away, too: what
//! cannot be read then is null.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    api::status::{Lines, Machines, WorkerPool, millis, queue_length},
    businesses::health::NotOk,
    clock::Time,
    context::Context,
    dialing::{
        gate::Drift,
        overview::{self, Ledger, Pulse},
    },
    heartbeats::Seen,
    stores::{PostgresReport, RedisReport},
};

/// Bells and single calls that wait for a worker: more is an alarm.
const QUEUE_ALARM: i64 = 50;
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
        system: system(ledger, pulse, drift.as_ref(), machines.as_ref()),
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
) -> System {
    let mut versions: Vec<String> = pulse
        .map(|pulse| pulse.processes.iter().filter(|p| p.alive()).map(|p| p.beat.version.clone()).collect())
        .unwrap_or_default();
    versions.sort();
    versions.dedup();
    let alarms = alarms(ledger, pulse, machines);
    let well = ledger.is_some() && pulse.is_some() && alarms.is_empty() && drift.is_none_or(|drift| drift.size() == 0);
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

/// The figures beyond their thresholds now; `deploy/prometheus/alerts.yml` asks that they last.
fn alarms(ledger: Option<&Ledger>, pulse: Option<&Pulse>, machines: Option<&Machines>) -> Vec<Alarm> {
    let mut found = Vec::new();
    let mut above = |name, value: Option<f64>, threshold: f64| {
        if let Some(value) = value.filter(|value| *value > threshold) {
            found.push(Alarm { name, value, threshold });
        }
    };
    let workers = pulse.map(|pulse| WorkerPool::of(pulse.workers()));
    above("missed_heartbeats", workers.as_ref().map(|pool| pool.stale_workers as f64), 0.0);
    above("no_worker", workers.as_ref().map(|pool| if pool.total_workers == 0 { 1.0 } else { 0.0 }), 0.0);
    let queue = ledger.zip(pulse).map(|(ledger, pulse)| queue_length(ledger, pulse) as f64);
    above("session_queue_length", queue, QUEUE_ALARM as f64);
    let memory = machines.and_then(Machines::memory_percent).map(f64::from);
    above("memory_percent", memory, f64::from(MEMORY_ALARM));
    above("failure_percent", ledger.and_then(failure_percent), FAILURES_ALARM);
    found
}
