//! The bell: a queue task that says "look at business B" and nothing else.
//!
//! A bell may be lost, doubled or late without harm, because the backlog is in Postgres and the sweep rings again. That is
//! why the queue library may be used with its rough edges: at-least-once delivery, retries that cannot be limited, tasks
//! that are never pruned, at most some 8,000 due tasks. Bells are coalesced per business and at most 200 are outstanding.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use apalis_core::{
    backend::{
        TaskSink,
        ext::poll_strategy::{PollSnapshot, PollStrategy},
    },
    task::{builder::TaskBuilder, task_id::TaskId},
};
use apalis_redis::{Config, RedisStorage};
use futures::Stream;
use redis::{Script, aio::ConnectionManager};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ids::BusinessId,
    stores::{Keys, Stores},
};

/// Most bells outstanding. Above some 8,000 due tasks the library's fetch script fails for ever.
const MOST_OUTSTANDING: usize = 200;
/// A lost bell keeps its business from being rung again for this long.
const FLAG: Duration = Duration::from_secs(2);
/// How long the library's description of a queue worker stays; nothing reads it.
const DESCRIPTION: Duration = Duration::from_hours(24);
/// Tasks forgotten per step; a step blocks Redis for well under a millisecond.
const PRUNE_STEP: usize = 500;

/// What a queue worker is built over.
pub type Storage = RedisStorage<Value, ConnectionManager>;

/// Rings for businesses. Cheap to clone.
#[derive(Clone)]
pub struct Bells {
    redis: ConnectionManager,
    keys: Keys,
    config: Arc<Config>,
    may_ring: Arc<Script>,
    prune: Arc<Script>,
}

/// What a task says: look at this business. The rest is for figures, and no decision hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bell {
    /// Where there may be work.
    pub business: BusinessId,
    /// When it was rung, milliseconds by Redis' clock.
    #[serde(default)]
    pub rung_ms: Option<u64>,
    /// True where it was rung because a slot came free.
    #[serde(default)]
    pub freed: bool,
}

impl Bell {
    /// The ring by this process' steady clock; `now_ms` is the time by Redis'.
    #[must_use]
    pub fn rang(&self, now_ms: u64) -> Option<Rang> {
        let ago = Duration::from_millis(now_ms.saturating_sub(self.rung_ms?));
        let taken = Instant::now();
        Some(Rang { at: taken.checked_sub(ago)?, taken, freed: self.freed })
    }
}

/// A ring that led to a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rang {
    /// When.
    pub at: Instant,
    /// When a worker took the bell.
    pub taken: Instant,
    /// True where a slot came free.
    pub freed: bool,
}

/// Why a bell is rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There may be work.
    Work,
    /// A slot came free.
    Freed,
}

/// What became of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// A bell is on its way.
    Yes,
    /// One was on its way already.
    Already,
    /// Too many bells are outstanding; the sweep rings later.
    Full,
}

impl Bells {
    /// The bells in these stores.
    #[must_use]
    pub fn new(stores: &Stores) -> Self {
        Self {
            redis: stores.redis.clone(),
            keys: stores.keys.clone(),
            config: Arc::new(config(&stores.keys)),
            may_ring: Arc::new(Script::new(include_str!("bell.lua"))),
            prune: Arc::new(Script::new(include_str!("prune.lua"))),
        }
    }

    /// Asks some worker to look at a business. Call it after the commit that made the work possible.
    ///
    /// # Errors
    /// Where Redis cannot be asked; the sweep rings later.
    pub async fn ring(&self, business: BusinessId, why: Why) -> anyhow::Result<Rung> {
        let mut redis = self.redis.clone();
        let may: i64 = self
            .may_ring
            .key(self.flag_key(business))
            .key(self.config.scheduled_jobs_set())
            .key(self.config.active_jobs_list())
            .key(self.keys.key("bells:rung"))
            .arg(u64::try_from(FLAG.as_millis())?)
            .arg(MOST_OUTSTANDING)
            .arg(business.to_string())
            .invoke_async(&mut redis)
            .await?;
        let rung_ms = match may {
            0 => return Ok(Rung::Already),
            -1 => return Ok(Rung::Full),
            at => u64::try_from(at).ok(),
        };
        // The id must not look like a number or a ULID: the library would parse it as one and lose its own task.
        let id = TaskId::from_string(format!("bell:{}", uuid::Uuid::now_v7()));
        let mut wakes = redis::pipe();
        // The library makes a task due by the clock of this process, and looks for those that are by another's: due by any clock.
        wakes.cmd("ZADD").arg(self.config.scheduled_jobs_set()).arg("XX").arg(0).arg(id.to_string()).ignore();
        let task = TaskBuilder::new(serde_json::to_value(Bell { business, rung_ms, freed: why == Why::Freed })?)
            .task_id(id)
            .build();
        let (mut storage, wake) = (self.storage(redis.clone()), self.wake_key());
        wakes.rpush(&wake, 1).ignore().ltrim(&wake, -200, -1).ignore();
        // Both are on their way at once, in this order, on one connection.
        let (pushed, woken) = futures::future::join(storage.push_task(task), wakes.query_async::<()>(&mut redis)).await;
        pushed?;
        woken?;
        Ok(Rung::Yes)
    }

    /// Takes the business's flag down, so that whatever becomes possible from now on rings again. Call it before reading.
    /// Returns the time in milliseconds by Redis' clock.
    ///
    /// # Errors
    /// Where Redis cannot be asked; the flag then falls by itself after 2 s.
    pub async fn take_down(&self, business: BusinessId) -> redis::RedisResult<u64> {
        let ((secs, micros),): ((u64, u64),) = redis::pipe()
            .del(self.flag_key(business))
            .ignore()
            .cmd("TIME")
            .query_async(&mut self.redis.clone())
            .await?;
        Ok(secs * 1_000 + micros / 1_000)
    }

    /// The given businesses, longest not rung first.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn oldest_first(&self, mut businesses: Vec<BusinessId>) -> redis::RedisResult<Vec<BusinessId>> {
        if businesses.is_empty() {
            return Ok(businesses);
        }
        // One ZSCORE each, because Redis 6.0 has no ZMSCORE.
        let mut ask = redis::pipe();
        for business in &businesses {
            ask.zscore(self.keys.key("bells:rung"), business.to_string());
        }
        let rung: Vec<Option<f64>> = ask.query_async(&mut self.redis.clone()).await?;
        let mut both: Vec<_> = rung.into_iter().map(|at| at.unwrap_or(0.0)).zip(businesses).collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        businesses = both.into_iter().map(|(_, business)| business).collect();
        Ok(businesses)
    }

    /// Forgets finished bells; returns how many.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn prune(&self) -> redis::RedisResult<u64> {
        let done = self.forget(self.config.done_jobs_set()).await?;
        Ok(done + self.forget(self.config.dead_jobs_set()).await?)
    }

    /// Makes room for a queue worker before it begins: the library describes each under a key that it keeps for ever, and
    /// a key that has an end already keeps it.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn expect(&self, queue_worker: &str) -> redis::RedisResult<()> {
        let key = format!("{}:metadata:{queue_worker}", self.config.workers_set());
        let secs = i64::try_from(DESCRIPTION.as_secs()).unwrap_or(i64::MAX);
        redis::pipe()
            .hset(&key, "service", "rollcall")
            .ignore()
            .expire(&key, secs)
            .ignore()
            .query_async(&mut self.redis.clone())
            .await
    }

    /// Forgets what a queue worker had taken when it ended; returns how many tasks. One of them may be what it ended of, and
    /// the library would hand that on to the next worker every minute, for ever. The bells among them the sweep rings again.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn forget_taken(&self, queue_worker: &str) -> redis::RedisResult<u64> {
        self.forget(format!("{}:{queue_worker}", self.config.inflight_jobs_set())).await
    }

    async fn forget(&self, set: String) -> redis::RedisResult<u64> {
        let mut forgotten = 0;
        loop {
            let step: usize = self
                .prune
                .key(set.clone())
                .key(self.config.job_data_hash())
                .arg(self.config.job_meta_hash())
                .arg(PRUNE_STEP)
                .invoke_async(&mut self.redis.clone())
                .await?;
            forgotten += step as u64;
            if step < PRUNE_STEP {
                return Ok(forgotten);
            }
        }
    }

    /// How many bells wait to be taken.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn outstanding(&self) -> redis::RedisResult<u64> {
        let (scheduled, active): (u64, u64) = redis::pipe()
            .zcard(self.config.scheduled_jobs_set())
            .llen(self.config.active_jobs_list())
            .query_async(&mut self.redis.clone())
            .await?;
        Ok(scheduled + active)
    }

    /// The queue over a connection, to push to or to build a worker over.
    #[must_use]
    pub fn storage(&self, connection: ConnectionManager) -> Storage {
        RedisStorage::new(connection).with_config((*self.config).clone())
    }

    /// The list whose every entry is one push; workers block on it instead of polling.
    #[must_use]
    pub fn wake_key(&self) -> String {
        self.keys.key("bells:wake")
    }

    fn flag_key(&self, business: BusinessId) -> String {
        self.keys.key(format_args!("bells:{business}"))
    }
}

/// What a task says; nothing where it is not one of ours.
#[must_use]
pub fn named(task: Value) -> Option<Bell> {
    serde_json::from_value(task).ok()
}

/// A batch of four needs no more than sixteen handlers (four times the batch, or a drain never ends); locks and events cost
/// a scan and a publish per task and buy nothing; a worker is given up after a minute without a heartbeat.
fn config(keys: &Keys) -> Config {
    let mut config = Config::default()
        .queue(keys.key("dial"))
        .batch_size(4)
        .heartbeat_interval(Duration::from_secs(5))
        .missed_heartbeats(12);
    config.lock_tasks = false;
    config.emit_events = false;
    config
}

/// Polls the queue at each item of a stream, and loses none: it drains the stream until it is pending, so that a waker is
/// always registered. (The library's own strategies can stop at a ready stream and sleep until the next heartbeat.)
#[derive(Debug)]
pub struct WakeStrategy<S> {
    wakes: Pin<Box<S>>,
}

impl<S> WakeStrategy<S> {
    /// Wakes at every item of `wakes`.
    pub fn new(wakes: S) -> Self {
        Self { wakes: Box::pin(wakes) }
    }
}

impl<S: Stream> PollStrategy for WakeStrategy<S> {
    fn poll_drive(&mut self, cx: &mut TaskContext<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        loop {
            match self.wakes.as_mut().poll_next(cx) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
