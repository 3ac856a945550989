//! The rounds that run by the clock rather than by a bell: sweep, reconciliation, hang-ups, forgetting, pruning.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    businesses::answers,
    config::WorkClass,
    context::Context,
    dialing::{asked::Asked, doubt, hang_up, live, machine, recordings, retention, sweep},
    heartbeats::Round,
};

/// Starts every round of these classes as a task of its own. What a round asks of carriers it does not wait for: one that hangs
/// delays no sweep, and no other account.
pub(super) fn start(ctx: &Context, classes: &[WorkClass], stopping: &CancellationToken, tasks: &TaskTracker) {
    if classes.contains(&WorkClass::Runs) {
        every(ctx, stopping, tasks, Duration::from_secs(1), |ctx| async move {
            if sweep::round(&ctx).await {
                ctx.heartbeats.ended(Round::Sweep).await;
            }
        });
    }
    if classes.contains(&WorkClass::Recordings) {
        asking(ctx, Asked::new(tasks, stopping), (stopping, tasks), Duration::from_secs(2), |ctx, asked| async move {
            told("recordings", recordings::round(&ctx, &asked).await);
        });
    }
    if classes.contains(&WorkClass::Maintenance) {
        maintain(ctx, stopping, tasks);
    }
}

fn maintain(ctx: &Context, stopping: &CancellationToken, tasks: &TaskTracker) {
    let look = Duration::from_millis(500.min(ctx.settings.times.live_look_fast_ms / 2).max(20));
    let (new, run) = (|| Asked::new(tasks, stopping), (stopping, tasks));
    asking(ctx, new(), run, look, |ctx, asked| async move {
        if told("attempts in doubt", doubt::round(&ctx, &asked).await) {
            ctx.heartbeats.ended(Round::Doubt).await;
        }
    });
    asking(ctx, Asked::one_each(tasks, stopping), run, look, |ctx, asked| async move {
        if told("live lists", live::round(&ctx, &asked).await) {
            ctx.heartbeats.ended(Round::Live).await;
        }
    });
    asking(ctx, new(), run, Duration::from_secs(1), |ctx, asked| async move {
        told("hang-ups", hang_up::round(&ctx, &asked).await);
    });
    asking(ctx, new(), run, Duration::from_secs(1), |ctx, asked| async move {
        told("calls that wait for a word", machine::round(&ctx, &asked).await);
    });
    asking(ctx, new(), run, Duration::from_secs(15), |ctx, asked| async move {
        told("what is kept for a time only", retention::round(&ctx, &asked).await);
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

/// As [`every`], of a round that asks carriers.
fn asking<F, R>(
    ctx: &Context,
    asked: Asked,
    (stopping, tasks): (&CancellationToken, &TaskTracker),
    pause: Duration,
    round: R,
) where
    R: Fn(Context, Asked) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    every(ctx, stopping, tasks, pause, move |ctx| round(ctx, asked.clone()));
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
