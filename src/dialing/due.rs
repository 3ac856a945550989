//! What time alone moves: waiting jobs are queued again, jobs expire, windows open, runs start and end.
//!
//! Level-triggered, as the sweep is, on any number of workers at once.

use std::time::Duration;

use crate::{
    context::Context,
    dialing::windows,
    jobs::{due, queue::Why},
    runs::times,
};

/// Jobs moved by one statement, so that it ends long before its time limit.
const MOST: i32 = 5_000;
/// Such statements in one round.
const STEPS: usize = 4;

/// One round. Whoever has work now is rung for.
///
/// # Errors
/// Where a store does not answer; the next round goes on.
pub(crate) async fn round(ctx: &Context) -> anyhow::Result<()> {
    let pg = &ctx.stores.pg;
    windows::refresh(pg, Duration::from_secs(ctx.settings.carrier_queue_limit_secs)).await?;
    for (run, business) in times::start_scheduled(pg).await? {
        tracing::info!(run.id = %run, business.id = %business, "a scheduled run was started");
        ctx.bells.ring(business, Why::Work).await?;
    }
    for (run, reason) in times::pause_by_rule(pg).await? {
        tracing::warn!(run.id = %run, reason, "a run was paused by its own rule");
    }
    for _ in 0..STEPS {
        // What waits because of an earlier limit keeps nobody else waiting.
        let seen = due::review_caps(pg, MOST).await.inspect_err(|error| {
            tracing::warn!(%error, "jobs that an earlier limit held are not looked at yet");
        });
        if seen.unwrap_or_default() < i64::from(MOST) {
            break;
        }
    }
    for _ in 0..STEPS {
        let woken = due::wake(pg, MOST).await?;
        for business in &woken.businesses {
            ctx.bells.ring(*business, Why::Work).await?;
        }
        if woken.jobs < i64::from(MOST) {
            break;
        }
    }
    for run in times::over(pg).await? {
        let ended = due::end_waiting(pg, run, MOST).await?;
        tracing::info!(run.id = %run, jobs = ended, "the run's end has come; what waited is over");
    }
    for _ in 0..STEPS {
        // Nobody claims them while their window is closed.
        if due::expire(pg, MOST).await? < i64::from(MOST) {
            break;
        }
    }
    for (run, zone_set) in times::asleep_for_good(pg).await? {
        due::end_asleep(pg, run, zone_set, MOST).await?;
    }
    Ok(())
}
