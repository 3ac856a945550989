//! The state of the installation, read from the stores: for an engineer, a health check, a dashboard.
//!
//! Invariant: the figures speak for all processes together, whichever is asked.
//! Not here: how they are read (`dialing::overview`), figures of one process (`/metrics`), and the routes (`api::admin`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    businesses::health::NotOk,
    clock::Time,
    context::Context,
    dialing::overview::{self, Ledger, Pulse, Workers},
    error::ApiError,
    heartbeats::{self, Seen, resources::Machine, shown::Shown},
};

/// `/metrics.json`.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Attempts that are open: each holds a slot and a line.
    calls_active: i64,
    /// Attempts that a carrier took.
    calls_started: i64,
    /// Single calls that were turned away because no slot or line was free.
    calls_rejected_max_concurrent: i64,
    /// Most calls at once.
    max_concurrent_calls: Option<i32>,
}

/// Reads the figures.
///
/// # Errors
/// 503 where a store is away.
pub async fn figures(ctx: &Context) -> Result<Figures, ApiError> {
    let (ledger, pulse) = (overview::ledger(ctx).await?, overview::pulse(ctx).await?);
    Ok(Figures {
        calls_active: ledger.attempts.open,
        calls_started: ledger.attempts.started,
        calls_rejected_max_concurrent: pulse.calls_rejected,
        max_concurrent_calls: ledger.attempts.line_limit,
    })
}

/// `/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    at: Time,
    lines: Lines,
    businesses_with_work: i64,
    runs: BTreeMap<String, i64>,
    attempts_unknown: i64,
    unknown_oldest_ms: Option<i64>,
    needs_person: i64,
    accounts_not_ok: Vec<NotOk>,
    total_workers: usize,
    ready_workers: usize,
    total_sessions: i64,
    session_queue_length: i64,
    sessions_live: usize,
    sessions_waiting: u64,
    workers_wanted: Option<u64>,
    memory_percent: Option<f32>,
    cpu_percent: Option<f32>,
    sweep_age_ms: Option<u64>,
    reconcile_age_ms: Option<u64>,
    workers: Vec<Shown>,
}

/// Lines of the installation.
#[derive(Debug, Serialize)]
pub(super) struct Lines {
    pub(super) open: i64,
    pub(super) limit: Option<i32>,
    /// Businesses that have work, slots and pace, and find no line.
    pub(super) waiting_businesses: Option<u64>,
    /// How long the first of them has waited.
    pub(super) longest_wait_ms: Option<u64>,
}

impl Lines {
    pub(super) fn of(ledger: &Ledger, pulse: Option<&Pulse>) -> Self {
        Self {
            open: ledger.attempts.open,
            limit: ledger.attempts.line_limit,
            waiting_businesses: pulse.map(|pulse| pulse.lines.businesses),
            longest_wait_ms: pulse.and_then(|pulse| pulse.lines.longest).map(millis),
        }
    }
}

/// Reads the state of the installation. Workers that have died show as `stale` for ten minutes.
///
/// # Errors
/// 503 where a store is away.
pub async fn status(ctx: &Context) -> Result<Status, ApiError> {
    let (ledger, pulse) = (overview::ledger(ctx).await?, overview::pulse(ctx).await?);
    let (workers, machines) = (pulse.workers(), Machines::of(&pulse.processes));
    let counts = Workers::of(&workers);
    Ok(Status {
        at: ledger.attempts.at,
        lines: Lines::of(&ledger, Some(&pulse)),
        businesses_with_work: ledger.runs.businesses_with_work,
        attempts_unknown: ledger.attempts.unknown,
        unknown_oldest_ms: ledger.attempts.oldest_unknown_ms,
        needs_person: ledger.attempts.needs_person,
        total_workers: counts.alive(),
        ready_workers: counts.ready,
        total_sessions: ledger.attempts.open,
        session_queue_length: queue_length(&ledger, &pulse),
        sessions_live: pulse.room().sessions,
        sessions_waiting: pulse.waiting,
        workers_wanted: pulse.room().wanted(pulse.waiting),
        memory_percent: machines.memory_percent(),
        cpu_percent: machines.cpu_percent(),
        sweep_age_ms: pulse.rounds.sweep.map(millis),
        reconcile_age_ms: pulse.rounds.reconcile.map(millis),
        runs: ledger.runs.states,
        accounts_not_ok: ledger.troubles.accounts,
        workers: workers.into_iter().map(Shown::from).collect(),
    })
}

/// `/status/workers`.
#[derive(Debug, Serialize)]
pub struct WorkerPool {
    /// Workers that beat.
    pub total_workers: usize,
    /// Of these, those that take work on.
    pub ready_workers: usize,
    /// Those that went silent within ten minutes.
    pub stale_workers: usize,
    /// Sends under way.
    pub in_flight: usize,
    /// Each of them.
    pub data: Vec<Shown>,
}

impl WorkerPool {
    pub(super) fn of(workers: Vec<Seen>) -> Self {
        let counts = Workers::of(&workers);
        Self {
            total_workers: counts.alive(),
            ready_workers: counts.ready,
            stale_workers: counts.stale,
            in_flight: counts.in_flight,
            data: workers.into_iter().map(Shown::from).collect(),
        }
    }
}

/// Every worker that beats, and those that went silent within ten minutes.
///
/// # Errors
/// 503 where Redis is away.
pub async fn workers(ctx: &Context) -> Result<WorkerPool, ApiError> {
    Ok(WorkerPool::of(heartbeats::workers(&ctx.stores).await?))
}

/// What waits to be taken by a worker: bells, and single calls. The backlog of a run is no queue: it waits for slots.
pub(super) fn queue_length(ledger: &Ledger, pulse: &Pulse) -> i64 {
    i64::try_from(pulse.bells).unwrap_or(i64::MAX).saturating_add(ledger.attempts.untaken)
}

/// Each machine once, as the process on it that beat last saw it.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Machines(BTreeMap<String, Machine>);

impl Machines {
    pub(super) fn of(processes: &[Seen]) -> Self {
        let mut alive: Vec<&Seen> = processes.iter().filter(|process| process.alive()).collect();
        alive.sort_by_key(|process| std::cmp::Reverse(process.age_ms));
        Self(alive.iter().filter_map(|p| Some((p.beat.host.clone(), p.beat.machine?))).collect())
    }

    /// Of the machine that has the least left.
    pub(super) fn memory_percent(&self) -> Option<f32> {
        self.0.values().map(|machine| machine.memory_percent).reduce(f32::max)
    }

    /// Of the machine that is busiest.
    pub(super) fn cpu_percent(&self) -> Option<f32> {
        self.0.values().filter_map(|machine| machine.cpu_percent).reduce(f32::max)
    }
}

pub(super) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
