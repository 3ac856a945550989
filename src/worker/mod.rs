//! The worker: the only program that dials. Bells wake it, the sweep makes up for lost ones.
//!
//! Invariant: nothing is sent after the drain began; what was sent is awaited; a queue worker that ends is replaced, and
//! the process ends with a failure if it cannot be.
//! Not here: what a look does (`dialing::next`), and who is dialed (`jobs::claim`).

mod queue;
mod rounds;

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Role, WorkClass},
    context::Context,
    dialing::next::Owner,
    heartbeats::{Doing, Who},
};

/// Runs a worker until `stopping` is cancelled and its sends have ended.
///
/// # Errors
/// Where the queue worker keeps failing.
pub async fn run(ctx: Context, name: &str, stopping: CancellationToken) -> anyhow::Result<()> {
    let owner = Owner::new(name, stopping.clone());
    let tasks = TaskTracker::new();
    let classes = ctx.settings.worker_queues.clone();
    rounds::start(&ctx, &classes, &stopping, &tasks);
    let drained = beat(&ctx, &owner, &tasks);
    let looked = if classes.contains(&WorkClass::Calls) {
        queue::look_at_bells(ctx.clone(), owner.clone(), stopping.clone()).await
    } else {
        stopping.cancelled().await;
        Ok(())
    };
    stopping.cancel();
    owner.sends.close();
    owner.sends.wait().await;
    drained.cancel();
    tasks.close();
    // A round stops at its next await; a request to a carrier is the longest that it may take.
    let _ = tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await;
    tracing::info!(worker.name = name, "drained: nothing of this worker is in flight");
    looked
}

/// Starts the heartbeat; it ends with the token that is returned. A worker that drains says so until it has drained.
fn beat(ctx: &Context, owner: &Owner, tasks: &TaskTracker) -> CancellationToken {
    let drained = CancellationToken::new();
    let who = Who::new(Role::Worker, &owner.name, &ctx.settings);
    let (heartbeats, owner, ended) = (ctx.heartbeats.clone(), owner.clone(), drained.clone());
    tasks.spawn(async move {
        let sends = owner.sends.clone();
        heartbeats.beat(who, move || Doing { in_flight: sends.len(), ..Doing::default() }, owner.draining, ended).await;
    });
    drained
}
