//! The queue worker: it takes bells and looks. It is replaced with a fresh name whenever it ends, because the library's
//! worker ends at one failed command, one restart of Redis, or one task that it cannot read.

use std::time::Duration;

use apalis::{layers::WorkerBuilderExt, prelude::WorkerBuilder};
use apalis_core::backend::ext::BackendExt;
use futures::stream;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    dialing::next::{self, Owner},
    jobs::queue::{WakeStrategy, named},
    telemetry::metrics,
};

/// Longest that one look may keep a handler.
const HANDLER_LIMIT: Duration = Duration::from_secs(10);
/// Without a wake the queue is polled this often.
const POLL: Duration = Duration::from_secs(1);
/// A fetch takes a round trip to Redis; the echo of a wake comes after it.
const ECHO: Duration = Duration::from_millis(3);
/// A handler count above four times the batch keeps the library's drain from ever ending.
const MOST_HANDLERS: usize = 16;

/// Takes bells until `stopping`.
///
/// # Errors
/// Never at present: a queue worker that fails is replaced for as long as the process lives.
pub(super) async fn look_at_bells(ctx: Context, owner: Owner, stopping: CancellationToken) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(100);
    while !stopping.is_cancelled() {
        let started = std::time::Instant::now();
        let name = format!("{}-{}", owner.name, uuid::Uuid::now_v7());
        let mut forgotten = 0;
        if let Err(error) = one_life(&ctx, &owner, &name, &stopping).await {
            metrics::queue_worker_ended();
            forgotten = ctx.bells.forget_taken(&name).await.unwrap_or(0);
            let error = format!("{error:#}");
            tracing::warn!(error, forgotten, "the queue worker ended; another takes its place");
        }
        // With what it could not read gone, the next one may begin at once.
        pause = if forgotten > 0 || started.elapsed() > Duration::from_secs(10) {
            Duration::from_millis(100)
        } else {
            (pause * 2).min(Duration::from_secs(2))
        };
        tokio::select! { () = tokio::time::sleep(pause) => {}, () = stopping.cancelled() => {} }
    }
    Ok(())
}

async fn one_life(ctx: &Context, owner: &Owner, name: &str, stopping: &CancellationToken) -> anyhow::Result<()> {
    ctx.bells.expect(name).await?;
    let ended = stopping.child_token();
    let _guard = ended.clone().drop_guard();
    let (wake, woken) = mpsc::channel::<()>(1);
    tokio::spawn(wait_for_wakes(ctx.clone(), wake, ended.clone()));
    // A wake that comes while a fetch is under way is not seen by that fetch, so each is followed by one more.
    let wakes = stream::unfold((woken, POLL), |(mut woken, pause)| async move {
        let came = match tokio::time::timeout(pause, woken.recv()).await {
            Ok(Some(())) => true,
            // Nobody waits at the wake list any more: polling goes on by the clock.
            Ok(None) => {
                tokio::time::sleep(POLL).await;
                false
            }
            Err(_) => false,
        };
        Some(((), (woken, if came { ECHO } else { POLL })))
    });
    let storage = ctx.bells.storage(ctx.stores.own_redis().await?).poll_with_strategy(WakeStrategy::new(wakes));
    let handlers = usize::from(ctx.settings.worker_concurrency).min(MOST_HANDLERS);
    let (look_ctx, look_owner) = (ctx.clone(), owner.clone());
    let worker = WorkerBuilder::new(name).backend(storage).concurrency(handlers).build(move |task: Value| {
        let (ctx, owner) = (look_ctx.clone(), look_owner.clone());
        // A tracked task of its own: a panic ends one look, the end of the queue worker ends none, a drain awaits it.
        async move {
            let looking = owner.sends.clone().spawn(async move { look(&ctx, &owner, task).await });
            // A look that takes longer goes on by itself: what it has claimed, only it may send.
            if let Ok(Err(error)) = tokio::time::timeout(HANDLER_LIMIT, looking).await {
                tracing::error!(%error, "a look panicked; the sweep rings again");
            }
        }
    });
    // The library's own drain can hang and drops nothing of ours: sends are tracked apart, and a bell may be lost.
    tokio::select! {
        ended = worker.run() => ended.map_err(|error| anyhow::anyhow!("{error}")),
        () = stopping.cancelled() => Ok(()),
    }
}

/// A bell is always done with: a retry by the library would be one more bell, and the sweep makes those.
async fn look(ctx: &Context, owner: &Owner, task: Value) {
    let Some(bell) = named(task) else {
        tracing::warn!("a task that is no bell was dropped");
        return;
    };
    if let Err(error) = next::heard(ctx, owner, bell).await {
        tracing::warn!(business.id = %bell.business, error = format!("{error:#}"), "a look failed; the sweep rings again");
    }
}

/// Blocks on the wake list and passes each wake on; where Redis is away it waits and connects anew.
async fn wait_for_wakes(ctx: Context, wake: mpsc::Sender<()>, ended: CancellationToken) {
    let waiting = async {
        loop {
            let Ok(mut redis) = ctx.stores.blocking_redis().await else {
                tokio::time::sleep(POLL).await;
                continue;
            };
            loop {
                let popped: redis::RedisResult<Option<(String, String)>> =
                    redis::cmd("BLPOP").arg(ctx.bells.wake_key()).arg(5).query_async(&mut redis).await;
                match popped {
                    // A full channel holds a wake already.
                    Ok(Some(_)) => drop(wake.try_send(())),
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! { () = waiting => {}, () = ended.cancelled() => {} }
}
