//! The rounds that run by the clock rather than by a bell: sweep, reconciliation, hang-ups, forgetting, pruning.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    businesses::answers,
    config::WorkClass,
    context::Context,
    dialing::{doubt, hang_up, live, machine, recordings, retention, sweep},
    heartbeats::Round,
};

/// Starts every round of these classes as a task of its own, so that a slow carrier delays no sweep.
pub(super) fn start(ctx: &Context, classes: &[WorkClass], stopping: &CancellationToken, tasks: &TaskTracker) {
    if classes.contains(&WorkClass::Runs) {
        every(ctx, stopping, tasks, Duration::from_secs(1), |ctx| async move {
            if sweep::round(&ctx).await {
                ctx.heartbeats.ended(Round::Sweep).await;
            }
        });
    }
    if classes.contains(&WorkClass::Recordings) {
        every(ctx, stopping, tasks, Duration::from_secs(2), |ctx| async move {
            told("recordings", recordings::round(&ctx).await);
        });
    }
    if classes.contains(&WorkClass::Maintenance) {
        maintain(ctx, stopping, tasks);
    }
}

fn maintain(ctx: &Context, stopping: &CancellationToken, tasks: &TaskTracker) {
    let look = Duration::from_millis(500.min(ctx.settings.times.live_look_fast_ms / 2).max(20));
    every(ctx, stopping, tasks, look, |ctx| async move {
        if told("attempts in doubt", doubt::round(&ctx).await) {
            ctx.heartbeats.ended(Round::Doubt).await;
        }
    });
    every(ctx, stopping, tasks, look, |ctx| async move {
        if told("live lists", live::round(&ctx).await) {
            ctx.heartbeats.ended(Round::Live).await;
        }
    });
    every(ctx, stopping, tasks, Duration::from_secs(1), |ctx| async move {
        told("hang-ups", hang_up::round(&ctx).await);
        told("calls that wait for a word", machine::round(&ctx).await);
    });
    every(ctx, stopping, tasks, Duration::from_secs(15), |ctx| async move {
        told("what is kept for a time only", retention::round(&ctx).await);
    });
    every(ctx, stopping, tasks, Duration::from_secs(15), |ctx| async move {
        if let Err(error) = ctx.bells.prune().await {
            tracing::warn!(%error, "finished bells could not be forgotten");
        }
        if let Err(error) = answers::prune(&ctx.stores.pg).await {
            tracing::warn!(%error, "old answers to idempotency keys could not be forgotten");
        }
    });
}

/// True where the round did what it is for.
fn told(what: &str, outcome: sqlx::Result<usize>) -> bool {
    outcome.inspect_err(|error| tracing::warn!(%error, "a round over {what} failed; the next one repeats it")).is_ok()
}

/// Runs `round` at once and then with `pause` between an end and the next begin. A panic ends one round, not the rounds.
fn every<F, R>(ctx: &Context, stopping: &CancellationToken, tasks: &TaskTracker, pause: Duration, round: R)
where
    R: Fn(Context) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (ctx, stopping) = (ctx.clone(), stopping.clone());
    tasks.spawn(async move {
        while !stopping.is_cancelled() {
            let one = tokio::spawn(round(ctx.clone()));
            let abort = one.abort_handle();
            tokio::select! {
                ended = one => if let Err(error) = ended { tracing::error!(%error, "a round panicked") },
                () = stopping.cancelled() => abort.abort(),
            }
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stopping.cancelled() => {} }
        }
    });
}
