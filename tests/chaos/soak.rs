//! F29, the soak: workers die, Redis stands still, callbacks are lost or odd, roads are bad, in turn and for as long as is wanted.
//!
//! Judged beside the promises: what the programs that were never killed have grown by, and what Redis keeps for ever.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use rollcall::sim::{CallbackFault, CreateFault, Millis, Rule};

use crate::{
    client::now_ms,
    figures::Figure,
    plan::{Act, Plan, Road},
    proxy::{Cut, Weather},
    site::{Site, Who},
    storm,
    trial::Trial,
};

/// From one turn to the next, s.
const TURN: f64 = 26.0;
/// A shorter one says nothing about memory.
const WEIGHED_FROM: Duration = Duration::from_secs(600);
/// They live as long as the trial does.
const NEVER_KILLED: [&str; 3] = ["api-1", "api-2", "worker-3"];
/// What keys of the queue library begin with.
const OF_QUEUE: &str = "dial:";

/// What the programs and Redis hold at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    pub(crate) at_ms: i64,
    /// Of the programs that are never killed.
    pub(crate) memory_mib: f64,
    /// Keys of Redis that nothing ends, but for the queue library's own: it keeps the name of every worker that ever was.
    pub(crate) keys: usize,
}

/// The faults of F1, F6, F15, F16 and F19 in turn, until the trial is over.
pub(crate) fn fill(plan: &mut Plan, random: &mut StdRng) {
    let end = plan.lasts.as_secs_f64();
    let mut at = 0.0;
    while at + TURN <= end {
        turn(plan, random, at);
        at += TURN;
    }
    plan.at(0.0, Act::Weigh).at(TURN.min(end), Act::Weigh).at(end, Act::Weigh);
    plan.bound(Figure::KeysLeft, 0.0);
    if plan.lasts >= WEIGHED_FROM {
        plan.bound(Figure::MemorySlope, 1.0);
    }
}

fn turn(plan: &mut Plan, random: &mut StdRng, begin: f64) {
    for at in [1.0, 3.0] {
        plan.at(begin + at, Act::Kill(Who::Worker(random.random_range(0..2))));
    }
    plan.at(begin + 5.0, Act::RedisFreeze).at(begin + 5.0 + random.random_range(0.8..3.0), Act::RedisThaw);
    let lost = vec![Rule::share(CallbackFault::Lost, random.random_range(0.1..=1.0))];
    let odd = vec![
        Rule { times: Some(5), ..Rule::share(CallbackFault::Doubled, 0.3) },
        Rule::share(CallbackFault::Reordered, 0.3),
        Rule { ms: Some(Millis::between(0, 8_000)), ..Rule::share(CallbackFault::Delayed, 0.3) },
    ];
    plan.at(begin + 10.0, Act::Callbacks(lost)).at(begin + 14.0, Act::Callbacks(odd));
    plan.at(begin + 14.0, Act::Creates(vec![Rule::share(CreateFault::FinalCallbackFirst, 0.1)]));
    plan.at(begin + 18.0, Act::Callbacks(Vec::new())).at(begin + 18.0, Act::Creates(Vec::new()));
    let bad =
        |ms, resets| Weather { latency: Duration::from_millis(ms), resets, bytes_per_sec: 2_000_000, cut: Cut::No };
    for (road, weather) in [
        (Road::Postgres, bad(20, 0.001)),
        (Road::Redis, bad(20, 0.001)),
        (Road::Carrier, bad(100, 0.02)),
        (Road::Door, bad(100, 0.02)),
    ] {
        plan.at(begin + 19.0, Act::Weather(road, weather)).at(begin + 25.0, Act::Weather(road, Weather::default()));
    }
}

impl Trial {
    /// Notes what the programs and Redis hold now.
    pub(crate) async fn weigh(&mut self) -> anyhow::Result<()> {
        let pids: Vec<u32> = NEVER_KILLED.iter().filter_map(|name| self.site.stores.children().pid(name)).collect();
        let weight =
            Weight { at_ms: now_ms(), memory_mib: storm::memory_mib(&pids), keys: lasting_keys(&self.site).await? };
        self.marks.weights.push(weight);
        Ok(())
    }
}

async fn lasting_keys(site: &Site) -> anyhow::Result<usize> {
    let mut redis = redis::Client::open(site.stores.redis_url())?.get_multiplexed_async_connection().await?;
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
    keys.retain(|key| !key.starts_with(OF_QUEUE));
    let mut asked = redis::pipe();
    for key in &keys {
        asked.ttl(key);
    }
    let left: Vec<i64> = if keys.is_empty() { Vec::new() } else { asked.query_async(&mut redis).await? };
    Ok(left.into_iter().filter(|secs| *secs == -1).count())
}
