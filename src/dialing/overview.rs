//! The installation at a glance, from the stores: the same whichever process is asked.
//!
//! Reads only. The ledger's part and Redis' part are read apart, so that one can be shown while the other is away.

use std::time::Duration;

use crate::{
    attempts::figures::{self as attempts, Figures as Attempts},
    businesses::health::{self, Troubles},
    config::Role,
    context::Context,
    dialing::gate::{self, Drift},
    heartbeats::{self, Room, Rounds, Seen, State, machines::Machines},
    runs::figures::{self as runs, Figures as Runs},
    slots::reading::Waiting,
    stores::{PostgresReport, RedisReport},
    telemetry::metrics::{self, Level, TurnedAway},
};

/// Calls that were turned away because nothing was free: kept in Redis by whoever turns one away.
const REJECTED: &str = "metrics:calls_rejected_max_concurrent";
/// Whoever asks for figures is not kept waiting by a store that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// What Postgres says.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Attempts.
    pub attempts: Attempts,
    /// Runs and their jobs.
    pub runs: Runs,
    /// Accounts that are not well.
    pub troubles: Troubles,
    /// The database.
    pub postgres: PostgresReport,
}

/// What Redis says.
#[derive(Debug, Clone)]
pub struct Pulse {
    /// Every process that beats or beat lately, workers first.
    pub processes: Vec<Seen>,
    /// When rounds last ended.
    pub rounds: Rounds,
    /// Bells that wait to be taken.
    pub bells: u64,
    /// Single calls that were turned away since Redis was last emptied.
    pub calls_rejected: i64,
    /// How Redis keeps what it holds.
    pub redis: RedisReport,
    /// Answered calls that wait for their session.
    pub waiting: u64,
    /// Businesses that wait for a line.
    pub lines: Waiting,
}

/// Workers by what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Workers {
    /// Those that take work on.
    pub ready: usize,
    /// Those that end what is in flight.
    pub draining: usize,
    /// Those that went silent within ten minutes.
    pub stale: usize,
    /// Sends under way at those that are alive.
    pub in_flight: usize,
}

impl Workers {
    /// Counts them.
    #[must_use]
    pub fn of(workers: &[Seen]) -> Self {
        let mut counts = Self::default();
        for worker in workers {
            match worker.state {
                State::Ready => counts.ready += 1,
                State::Draining => counts.draining += 1,
                State::Stale => counts.stale += 1,
            }
            counts.in_flight += if worker.alive() { worker.beat.in_flight } else { 0 };
        }
        counts
    }

    /// Those that beat.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.ready + self.draining
    }
}

impl Pulse {
    /// The conversations and the room of all calls programs.
    #[must_use]
    pub fn room(&self) -> Room {
        Room::of(&self.processes)
    }

    /// Processes of this role that went silent within ten minutes.
    #[must_use]
    pub fn stale(&self, role: Role) -> usize {
        self.processes.iter().filter(|seen| seen.beat.role == role && seen.state == State::Stale).count()
    }

    /// The workers among the processes.
    #[must_use]
    pub fn workers(&self) -> Vec<Seen> {
        self.processes.iter().filter(|process| process.beat.role == Role::Worker).cloned().collect()
    }
}

/// Counts a call that was turned away because nothing was free, by what was done with it.
pub async fn count_rejected(ctx: &Context, how: TurnedAway) {
    metrics::call_turned_away(how);
    let key = ctx.stores.keys.key(REJECTED);
    let counted: redis::RedisResult<()> = redis::cmd("INCR").arg(key).query_async(&mut ctx.stores.redis.clone()).await;
    if let Err(error) = counted {
        tracing::debug!(%error, "a rejected call was not counted");
    }
}

/// Reads the ledger's part.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn ledger(ctx: &Context) -> sqlx::Result<Ledger> {
    let pg = &ctx.stores.pg;
    Ok(Ledger {
        attempts: attempts::figures(pg, ctx.settings.times.intent_grace_ms).await?,
        runs: runs::figures(pg).await?,
        troubles: health::troubles(pg).await?,
        postgres: ctx.stores.postgres_report().await?,
    })
}

/// Reads Redis' part.
///
/// # Errors
/// Where Redis does not answer.
pub async fn pulse(ctx: &Context) -> redis::RedisResult<Pulse> {
    let rejected: Option<i64> =
        redis::cmd("GET").arg(ctx.stores.keys.key(REJECTED)).query_async(&mut ctx.stores.redis.clone()).await?;
    Ok(Pulse {
        processes: heartbeats::processes(&ctx.stores).await?,
        rounds: heartbeats::last_rounds(&ctx.stores).await?,
        bells: ctx.bells.outstanding().await?,
        calls_rejected: rejected.unwrap_or(0),
        waiting: ctx.calls.waiting().await?,
        lines: ctx.gate.waiting().await?,
        redis: ctx.stores.redis_report().await?,
    })
}

/// All parts at once; one that its store does not give within two seconds is none.
pub async fn all(ctx: &Context) -> (Option<Ledger>, Option<Pulse>, Option<Drift>) {
    let (ledger, pulse, drift) = tokio::join!(
        tokio::time::timeout(PATIENCE, ledger(ctx)),
        tokio::time::timeout(PATIENCE, pulse(ctx)),
        tokio::time::timeout(PATIENCE, gate::drift(ctx)),
    );
    (ledger.ok().and_then(Result::ok), pulse.ok().and_then(Result::ok), drift.ok().and_then(Result::ok))
}

/// Calls programs that there should be for the conversations that there are and those that wait.
#[must_use]
pub fn wanted(ctx: &Context, pulse: &Pulse) -> u64 {
    pulse.room().wanted(pulse.waiting, ctx.settings.voice.max_sessions as usize)
}

/// What waits to be taken by a worker: bells, and single calls. The backlog of a run is no queue: it waits for slots.
#[must_use]
pub fn queue_length(ledger: &Ledger, pulse: &Pulse) -> i64 {
    i64::try_from(pulse.bells).unwrap_or(i64::MAX).saturating_add(ledger.attempts.untaken)
}

/// Reads all parts and sets the levels of `/metrics` by them.
pub async fn measure(ctx: &Context) {
    let (ledger, pulse, drift) = all(ctx).await;
    metrics::levels(&of_ledger(ledger.as_ref()));
    metrics::levels(&of_pulse(pulse.as_ref(), ctx.heartbeats.known_for()));
    metrics::levels(&plain(ledger.as_ref(), pulse.as_ref()));
    let (held, size) = drift.map_or((None, None), |drift| (Some(drift.held as f64), Some(drift.size() as f64)));
    let pool = &ctx.stores.pg;
    let idle = pool.num_idle().min(pool.size() as usize);
    metrics::levels(&[
        level("rollcall_gate_held", held),
        level("rollcall_gate_drift", size),
        level("rollcall_calls_programs_wanted", pulse.as_ref().map(|pulse| wanted(ctx, pulse) as f64)),
        labelled("rollcall_pool_connections", ("state", "used"), Some((pool.size() as usize - idle) as f64)),
        labelled("rollcall_pool_connections", ("state", "idle"), Some(idle as f64)),
    ]);
}

fn of_ledger(ledger: Option<&Ledger>) -> [Level; 14] {
    let count = |read: fn(&Ledger) -> i64| ledger.map(|ledger| read(ledger) as f64);
    [
        labelled("rollcall_store_up", ("store", "postgres"), Some(f64::from(u8::from(ledger.is_some())))),
        level("rollcall_attempts_open", count(|l| l.attempts.open)),
        level("rollcall_attempts_in_doubt", count(|l| l.attempts.unknown)),
        level("rollcall_attempts_needing_person", count(|l| l.attempts.needs_person)),
        level(
            "rollcall_unknown_oldest_seconds",
            ledger.map(|l| l.attempts.oldest_unknown_ms.unwrap_or(0) as f64 / 1e3),
        ),
        level("rollcall_calls_untaken", count(|l| l.attempts.untaken)),
        level("rollcall_lines_limit", count(|l| l.attempts.line_limit.unwrap_or(0).into())),
        level("rollcall_runs_running", count(|l| l.runs.states.get("running").copied().unwrap_or(0))),
        level("rollcall_jobs_queued", count(|l| l.runs.jobs_queued)),
        labelled("rollcall_accounts_not_ok", ("health", "refused"), count(|l| l.troubles.refused)),
        labelled("rollcall_accounts_not_ok", ("health", "down"), count(|l| l.troubles.down)),
        level("rollcall_accounts_unreadable", count(|l| l.troubles.unreadable)),
        level("rollcall_postgres_transactions", count(|l| l.postgres.transactions)),
        level("rollcall_postgres_connections", count(|l| l.postgres.connections)),
    ]
}

/// A round of which Redis knows no end is as old as this process' knowledge: its age rises all the same.
fn of_pulse(pulse: Option<&Pulse>, known_for: Duration) -> [Level; 21] {
    let workers = pulse.map(|pulse| Workers::of(&pulse.workers()));
    let count = |read: fn(&Workers) -> usize| workers.as_ref().map(|workers| read(workers) as f64);
    let number = |read: fn(&Pulse) -> f64| pulse.map(read);
    let age = |round: fn(&Rounds) -> Option<Duration>| {
        pulse.map(|pulse| round(&pulse.rounds).unwrap_or(known_for).as_secs_f64())
    };
    let stale = |role| pulse.map(|pulse| pulse.stale(role) as f64);
    [
        labelled("rollcall_store_up", ("store", "redis"), Some(f64::from(u8::from(pulse.is_some())))),
        labelled("rollcall_workers", ("state", "ready"), count(|w| w.ready)),
        labelled("rollcall_workers", ("state", "draining"), count(|w| w.draining)),
        labelled("rollcall_workers", ("state", "stale"), count(|w| w.stale)),
        labelled("rollcall_processes_stale", ("role", "api"), stale(Role::Api)),
        labelled("rollcall_processes_stale", ("role", "worker"), stale(Role::Worker)),
        labelled("rollcall_processes_stale", ("role", "calls"), stale(Role::Calls)),
        level("rollcall_workers_alive", count(Workers::alive)),
        level("rollcall_workers_in_flight", count(|w| w.in_flight)),
        level("rollcall_sweep_age_seconds", age(|rounds| rounds.sweep)),
        level("rollcall_reconcile_age_seconds", age(|rounds| rounds.reconcile)),
        level("rollcall_bells_outstanding", number(|p| p.bells as f64)),
        level("rollcall_redis_may_evict", number(|p| f64::from(u8::from(p.redis.may_evict)))),
        level("rollcall_redis_evicted_keys", number(|p| p.redis.evicted_keys as f64)),
        level("rollcall_redis_persistent", number(|p| f64::from(u8::from(p.redis.persistent)))),
        level("rollcall_redis_memory_bytes", number(|p| p.redis.memory_bytes as f64)),
        level("rollcall_redis_memory_limit_bytes", number(|p| p.redis.memory_limit_bytes as f64)),
        level("rollcall_lines_waited_for", number(|p| p.lines.businesses as f64)),
        level("rollcall_line_wait_longest_seconds", number(|p| p.lines.longest.unwrap_or_default().as_secs_f64())),
        level("rollcall_sessions_live", number(|p| p.room().sessions as f64)),
        level("rollcall_sessions_waiting", number(|p| p.waiting as f64)),
    ]
}

/// What `/status` says under the names that dashboards made for other systems look for.
fn plain(ledger: Option<&Ledger>, pulse: Option<&Pulse>) -> [Level; 6] {
    let workers = pulse.map(|pulse| Workers::of(&pulse.workers()));
    let machines = pulse.map(|pulse| Machines::of(&pulse.processes));
    let tenths = |percent: f32| (f64::from(percent) * 10.0).round() / 10.0;
    let percent = |read: fn(&Machines) -> Option<f32>| machines.as_ref().and_then(read).map(tenths);
    [
        level("total_workers", workers.as_ref().map(|workers| workers.alive() as f64)),
        level("ready_workers", workers.as_ref().map(|workers| workers.ready as f64)),
        level("total_sessions", ledger.map(|ledger| ledger.attempts.open as f64)),
        level("session_queue_length", ledger.zip(pulse).map(|(ledger, pulse)| queue_length(ledger, pulse) as f64)),
        level("memory_percent", percent(Machines::memory_percent)),
        level("cpu_percent", percent(Machines::cpu_percent)),
    ]
}

fn level(name: &'static str, value: Option<f64>) -> Level {
    Level { name, label: None, value }
}

fn labelled(name: &'static str, label: (&'static str, &'static str), value: Option<f64>) -> Level {
    Level { name, label: Some(label), value }
}
