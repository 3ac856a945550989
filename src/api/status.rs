//! The state of the installation, read from the stores: for an engineer, a health check, a dashboard.
//!
//! Invariant: the figures speak for all processes together, whichever is asked.
//! Not here: how they are read (`dialing::overview`), figures of one process (`/metrics`), and the routes (`api::admin`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    businesses::health::NotOk,
    clock::Time,
    config::Role,
    context::Context,
    dialing::overview::{self, Ledger, Pulse, Workers, queue_length},
    error::ApiError,
    heartbeats::{Seen, machines::Machines, shown::Shown},
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
    workers_wanted: u64,
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
        workers_wanted: overview::wanted(ctx, &pulse),
        memory_percent: machines.memory_percent(),
        cpu_percent: machines.cpu_percent(),
        sweep_age_ms: pulse.rounds.sweep.map(millis),
        reconcile_age_ms: pulse.rounds.reconcile.map(millis),
        runs: ledger.runs.states,
        accounts_not_ok: ledger.troubles.accounts,
        workers: workers.into_iter().map(Shown::from).collect(),
    })
}

/// The workers together.
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

/// `/status/workers`.
#[derive(Debug, Serialize)]
pub struct Programs {
    /// The workers.
    #[serde(flatten)]
    pub workers: WorkerPool,
    /// Each calls program that beats, and those that went silent within ten minutes.
    pub calls_programs: Vec<Shown>,
    /// Calls programs that there should be.
    pub workers_wanted: u64,
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

/// Every worker and calls program that beats, and those that went silent within ten minutes.
///
/// # Errors
/// 503 where Redis is away.
pub async fn workers(ctx: &Context) -> Result<Programs, ApiError> {
    let pulse = overview::pulse(ctx).await?;
    let calls = pulse.processes.iter().filter(|seen| seen.beat.role == Role::Calls);
    Ok(Programs {
        workers: WorkerPool::of(pulse.workers()),
        calls_programs: calls.cloned().map(Shown::from).collect(),
        workers_wanted: overview::wanted(ctx, &pulse),
    })
}

pub(super) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
