//! Heartbeats: a worker is there while its key is, and nothing else says so. No slot and no job depends on it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, dialing::next::Owner, stores::Keys};

/// What a worker says of itself, as JSON in `workers:{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beat {
    /// Unique per start of a process.
    pub name: String,
    /// The machine.
    pub host: String,
    /// The process on it.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// When it started, seconds since 1970 by Redis' clock.
    pub started_at: u64,
    /// When it last said so, by the same clock.
    pub beat_at: u64,
    /// Sends under way.
    pub in_flight: usize,
}

/// Says that this worker is alive, at once and then every interval, until `stopping`.
pub(super) async fn beats(ctx: Context, owner: Owner, stopping: CancellationToken) {
    let interval = Duration::from_secs(ctx.settings.worker_heartbeat_interval);
    let mut started_at = None;
    loop {
        if let Err(error) = one(&ctx, &owner, &mut started_at, interval).await {
            tracing::warn!(%error, "the heartbeat was not written");
        }
        tokio::select! { () = tokio::time::sleep(interval) => {}, () = stopping.cancelled() => break }
    }
}

async fn one(ctx: &Context, owner: &Owner, started_at: &mut Option<u64>, interval: Duration) -> redis::RedisResult<()> {
    let mut redis = ctx.stores.redis.clone();
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await?;
    let beat = Beat {
        name: owner.name.to_string(),
        host: host(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: *started_at.get_or_insert(now),
        beat_at: now,
        in_flight: owner.sends.len(),
    };
    redis::cmd("SET")
        .arg(key(&ctx.stores.keys, &owner.name))
        .arg(serde_json::to_string(&beat).unwrap_or_default())
        .arg("PX")
        .arg(u64::try_from((interval * 2).as_millis()).unwrap_or(u64::MAX))
        .query_async(&mut redis)
        .await
}

/// Takes the heartbeat away: this worker has ended.
pub(super) async fn forget(ctx: &Context, name: &str) {
    let gone: redis::RedisResult<()> =
        redis::cmd("DEL").arg(key(&ctx.stores.keys, name)).query_async(&mut ctx.stores.redis.clone()).await;
    if let Err(error) = gone {
        tracing::debug!(%error, "the heartbeat fades by itself");
    }
}

fn key(keys: &Keys, name: &str) -> String {
    keys.key(format_args!("workers:{name}"))
}

/// The name of this machine, or "unknown".
#[must_use]
pub fn host() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.nodename().to_string_lossy().into_owned())
}
