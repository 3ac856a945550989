//! The heartbeats in Redis: one way to write them, one to read them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use redis::{RedisResult, Script, aio::ConnectionManager};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Role, Settings, WorkClass},
    heartbeats::{
        Beat, Doing, MISSED, SHOWN_STALE, Seen, host,
        resources::Probe,
        rounds::{Own, Round, Rounds},
    },
    stores::{Keys, Stores},
    telemetry::metrics,
};

/// Keys per step of a SCAN: well below a millisecond of Redis' time.
const STEP: usize = 1_000;
/// Workers by the moment from which on their silence means that they are dead.
const DEAD_AT: &str = "workers_dead_at";
/// Beats that are brought forward are so far apart.
const SOONEST: Duration = Duration::from_millis(100);
/// Redis is told of the same round at most this often.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// The writing side: one per process. Cheap to clone.
#[derive(Clone)]
pub struct Heartbeats {
    redis: ConnectionManager,
    keys: Keys,
    round: Arc<Script>,
    own: Arc<Mutex<Own>>,
    soon: watch::Sender<()>,
    since: Instant,
}

/// Who beats.
#[derive(Debug, Clone)]
pub struct Who {
    /// What the process is for.
    pub role: Role,
    /// Unique per start of a process.
    pub name: String,
    /// The classes of work that it takes on.
    pub queues: Vec<String>,
    /// How often it beats.
    pub interval: Duration,
    /// Where its media streams come in, and how many conversations it holds at once.
    pub media: Option<(String, usize)>,
}

impl Who {
    /// A process of this role and name with these settings.
    #[must_use]
    pub fn new(role: Role, name: &str, settings: &Settings) -> Self {
        let classes: &[WorkClass] = if role == Role::Worker { &settings.worker_queues } else { &[] };
        Self {
            role,
            name: name.to_owned(),
            queues: classes.iter().map(|class| class.as_str().to_owned()).collect(),
            interval: Duration::from_secs(settings.worker_heartbeat_interval),
            media: (role == Role::Calls)
                .then(|| (settings.voice.public_media_url.to_string(), settings.voice.max_sessions as usize)),
        }
    }

    /// A name that no other process has or had.
    #[must_use]
    pub fn new_name() -> String {
        format!("{}-{}-{}", host(), std::process::id(), uuid::Uuid::now_v7().simple())
    }
}

impl Heartbeats {
    /// The heartbeats in these stores.
    #[must_use]
    pub fn new(stores: &Stores) -> Self {
        Self {
            redis: stores.redis.clone(),
            keys: stores.keys.clone(),
            round: Arc::new(Script::new(include_str!("round.lua"))),
            own: Arc::default(),
            soon: watch::Sender::new(()),
            since: Instant::now(),
        }
    }

    /// Beats at once and then every interval, until `ended`; then the heartbeat is taken away. Once `stopping` is cancelled
    /// it says that the process drains. `doing` is asked before each beat. [`Heartbeats::soon`] brings the next one forward.
    pub async fn beat(
        &self,
        who: Who,
        doing: impl Fn() -> Doing,
        stopping: CancellationToken,
        ended: CancellationToken,
    ) {
        let (mut probe, mut started_at, mut soon) = (Probe::default(), None, self.soon.subscribe());
        while !ended.is_cancelled() {
            let draining = stopping.is_cancelled();
            if let Err(error) = self.one(&who, doing(), draining, &mut probe, &mut started_at).await {
                tracing::warn!(%error, "the heartbeat was not written");
            }
            tokio::select! {
                () = tokio::time::sleep(who.interval) => {}
                _ = soon.changed() => tokio::time::sleep(SOONEST).await,
                () = stopping.cancelled(), if !draining => {}
                () = ended.cancelled() => {}
            }
        }
        let gone: RedisResult<()> = redis::pipe()
            .del(self.key(who.role, &who.name))
            .ignore()
            .zrem(self.keys.key(DEAD_AT), &who.name)
            .ignore()
            .query_async(&mut self.redis.clone())
            .await;
        if let Err(error) = gone {
            tracing::debug!(%error, "the heartbeat fades by itself");
        }
    }

    /// What this process last said of itself is not so any more, and others decide by it.
    pub fn soon(&self) {
        self.soon.send_replace(());
    }

    async fn one(
        &self,
        who: &Who,
        doing: Doing,
        draining: bool,
        probe: &mut Probe,
        started_at: &mut Option<u64>,
    ) -> RedisResult<()> {
        let resources = probe.lately();
        if let Some(seen) = resources {
            let machine = seen.machine;
            metrics::machine(machine.memory_percent, machine.cpu_percent, seen.memory_bytes, seen.cpu_percent);
        }
        let own = self.own();
        let now_ms = time(&mut self.redis.clone()).await?;
        let beat = Beat {
            role: who.role,
            name: who.name.clone(),
            host: host(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: *started_at.get_or_insert(now_ms / 1_000),
            beat_at: now_ms / 1_000,
            beat_at_ms: now_ms,
            interval_ms: millis(who.interval),
            draining,
            queues: who.queues.clone(),
            in_flight: doing.in_flight,
            media_url: who.media.as_ref().map(|media| media.0.clone()),
            most_sessions: who.media.as_ref().map(|media| media.1),
            cpu_percent: resources.and_then(|all| all.cpu_percent),
            memory_bytes: resources.and_then(|all| all.memory_bytes),
            sweep_age_ms: own.sweep.map(millis),
            reconcile_age_ms: own.reconcile.map(millis),
            machine: resources.map(|all| all.machine),
            models: doing.models,
        };
        self.write(&beat).await
    }

    /// Writes a beat. It stays readable for ten minutes after the process counts as dead.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn write(&self, beat: &Beat) -> RedisResult<()> {
        let silence = beat.interval_ms * u64::from(MISSED);
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(self.key(beat.role, &beat.name))
            .arg(serde_json::to_string(beat).unwrap_or_default())
            .arg("PX")
            .arg(silence + millis(SHOWN_STALE))
            .ignore();
        if beat.role == Role::Worker {
            let dead_at = self.keys.key(DEAD_AT);
            pipe.zadd(&dead_at, &beat.name, beat.beat_at_ms + silence).ignore();
            pipe.zrembyscore(&dead_at, "-inf", beat.beat_at_ms).ignore();
        }
        pipe.query_async(&mut self.redis.clone()).await
    }

    /// Says that a round has ended well in this process. Redis hears of it at most once a second.
    pub async fn ended(&self, round: Round) {
        if !self.lock().ended(round, ROUND_PAUSE) {
            return;
        }
        let mut script = self.round.key(self.keys.key("rounds"));
        let told: RedisResult<()> = script.arg(round.as_str()).invoke_async(&mut self.redis.clone()).await;
        if let Err(error) = told {
            tracing::debug!(%error, "Redis does not know that the round {} has ended", round.as_str());
        }
    }

    /// For how long each round has not ended in this process.
    #[must_use]
    pub fn own(&self) -> Rounds {
        self.lock().ages()
    }

    /// For how long this process has been there to hear of others.
    #[must_use]
    pub fn known_for(&self) -> Duration {
        self.since.elapsed()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn key(&self, role: Role, name: &str) -> String {
        self.keys.key(format_args!("{}:{name}", kind(role)))
    }
}

/// Workers have a place of their own: whether one is alive is asked often.
fn kind(role: Role) -> &'static str {
    match role {
        Role::Worker => "workers",
        Role::Api | Role::Calls => "processes",
    }
}

/// Every worker that beats, and those that have stopped doing so within ten minutes, by name.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn workers(stores: &Stores) -> RedisResult<Vec<Seen>> {
    read(stores, "workers").await
}

/// True where a worker is alive. One step where it is so, however many keys there are; a search of all only where not.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn any_worker(stores: &Stores) -> RedisResult<bool> {
    let dead_at = stores.keys.key(DEAD_AT);
    let (latest, (secs, micros)): (Vec<(String, f64)>, (u64, u64)) =
        redis::pipe().zrevrange_withscores(&dead_at, 0, 0).cmd("TIME").query_async(&mut stores.redis.clone()).await?;
    let now_ms = secs * 1_000 + micros / 1_000;
    if latest.iter().any(|(_, dead_at)| *dead_at > now_ms as f64) {
        return Ok(true);
    }
    // A worker of an earlier version says so by its key alone.
    Ok(workers(stores).await?.iter().any(Seen::alive))
}

/// Every process of every role that beats, and those that have stopped doing so within ten minutes, workers first.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn processes(stores: &Stores) -> RedisResult<Vec<Seen>> {
    let mut all = workers(stores).await?;
    all.extend(read(stores, "processes").await?);
    Ok(all)
}

/// When each round last ended, whichever worker made it.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn rounds(stores: &Stores) -> RedisResult<Rounds> {
    let (ended, (secs, micros)): (HashMap<String, u64>, (u64, u64)) =
        redis::pipe().hgetall(stores.keys.key("rounds")).cmd("TIME").query_async(&mut stores.redis.clone()).await?;
    Ok(Rounds::at(&ended, secs * 1_000 + micros / 1_000))
}

async fn read(stores: &Stores, kind: &str) -> RedisResult<Vec<Seen>> {
    let mut redis = stores.redis.clone();
    let start = stores.keys.key(format_args!("{kind}:"));
    let names = scan(&mut redis, &start).await?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let (beats, (secs, micros)): (Vec<Option<String>>, (u64, u64)) =
        redis::pipe().cmd("MGET").arg(&names).cmd("TIME").query_async(&mut redis).await?;
    let now_ms = secs * 1_000 + micros / 1_000;
    // A key that went in between is nobody; so is what no version of ours wrote.
    let beats = beats.into_iter().flatten().filter_map(|text| serde_json::from_str(&text).ok());
    Ok(beats.map(|beat| Seen::at(beat, now_ms)).collect())
}

/// Every key that begins so, sorted.
async fn scan(redis: &mut ConnectionManager, start: &str) -> RedisResult<Vec<String>> {
    let pattern = format!("{}*", escaped(start));
    let (mut names, mut cursor) = (Vec::new(), 0_u64);
    loop {
        // SCAN, in steps: KEYS would stop Redis for everybody.
        let (next, found): (u64, Vec<String>) =
            redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP).query_async(redis).await?;
        names.extend(found);
        cursor = next;
        if cursor == 0 {
            names.sort();
            names.dedup();
            return Ok(names);
        }
    }
}

/// A prefix is text, not a pattern.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| matches!(c, '*' | '?' | '[' | ']' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

async fn time(redis: &mut ConnectionManager) -> RedisResult<u64> {
    let (secs, micros): (u64, u64) = redis::cmd("TIME").query_async(redis).await?;
    Ok(secs * 1_000 + micros / 1_000)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("a*b?[c]\\:workers:"), "a\\*b\\?\\[c\\]\\\\:workers:");
    }
}
