//! Once a second, on any worker: whatever a lost bell, an emptied Redis or a death left behind is picked up again.
//!
//! Level-triggered: it reads what is, not what happened, so that it may run on many workers at once.

use std::time::Duration;

use crate::{
    attempts::{
        events,
        ledger::{self, Closing, JobThen, Said},
        looks,
        state::{AttemptState, Disposition, Source},
    },
    context::Context,
    dialing::{cancel, due, finish, gate, suppress, untaken},
    jobs::queue::{Rung, Why},
    killpoints::{Bug, lacks},
    runs::ending,
    slots::Learned,
    telemetry::metrics,
};

/// A worker that has not swept for longer cannot say what was idle in the meantime.
const MOST_IDLE: Duration = Duration::from_secs(5);
/// Businesses per round whose slots at the gate are read.
const MOST_READ: usize = 50;
/// Expired attempts per round.
const MOST: i64 = 100;

/// One round: gate, single calls that wait, expired attempts, ended runs, suppressed lists, what is due, bells. Each part goes on where another fails; true where none did.
pub async fn round(ctx: &Context) -> bool {
    let gate = gate::correct(ctx).await.inspect_err(|error| {
        tracing::warn!(
            error = format!("{error:#}"),
            "the gate could not be compared with the ledger; dialing may pause"
        );
    });
    let untaken = untaken::round(ctx).await.inspect_err(
        |error| tracing::warn!(%error, "single calls that wait could not be looked at; none is dialed late"),
    );
    let expired = expire(ctx).await.inspect_err(|error| tracing::warn!(%error, "expired attempts could not be read"));
    let cancelled = cancel::finish(&ctx.stores.pg)
        .await
        .inspect_err(|error| tracing::warn!(%error, "cancelled runs could not be finished"));
    let suppressed = suppress::go_on(&ctx.stores.pg)
        .await
        .inspect_err(|error| tracing::warn!(%error, "suppressed jobs that wait could not be ended; none is dialed"));
    let ended = ending::end_finished(&ctx.stores.pg)
        .await
        .inspect(|ended| ended.iter().for_each(|run| tracing::info!(run.id = %run, "the run ended")))
        .inspect_err(|error| tracing::warn!(%error, "ended runs could not be read"));
    let due = due::round(ctx).await.inspect_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "what waits for its time could not be moved");
    });
    let rung =
        ring(ctx).await.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "the sweep could not ring"));
    let lists = cancelled.is_ok() && suppressed.is_ok() && ended.is_ok();
    gate.is_ok() && untaken.is_ok() && expired.is_ok() && lists && due.is_ok() && rung.is_ok()
}

/// Rings for every business with work and a free slot, longest not rung first, until too many bells are outstanding.
async fn ring(ctx: &Context) -> anyhow::Result<()> {
    let waiting = ending::businesses_with_work(&ctx.stores.pg).await?;
    metrics::idle_slots(ending::idle(&waiting), ctx.heartbeats.own().sweep.unwrap_or_default().min(MOST_IDLE));
    let businesses = waiting.iter().map(|one| one.business).collect();
    let businesses = ctx.bells.oldest_first(businesses).await?;
    // A business that has work and a free slot is not held up by what holds nothing.
    gate::forget_foreign(ctx, businesses.get(..MOST_READ).unwrap_or(&businesses)).await?;
    for business in businesses {
        if ctx.bells.ring(business, Why::Work).await? == Rung::Full {
            break;
        }
    }
    Ok(())
}

async fn expire(ctx: &Context) -> sqlx::Result<()> {
    let pg = &ctx.stores.pg;
    let mut after = i64::try_from(ctx.settings.times.expire_after_ms).unwrap_or(i64::MAX);
    if lacks(Bug::SlotFreedOnTimeout) {
        after = 500 - i64::from(ctx.settings.call_time_limit_secs) * 1_000;
    }
    for (attempt, business, call_id) in looks::expired(pg, MOST, after).await? {
        let change = if call_id.is_some() {
            // The carrier has said nothing final of it for a day beyond its own time limit.
            let said = Said { call_id: call_id.as_deref(), carrier_status: Some("expired"), ..Said::default() };
            let failed = (AttemptState::Ended, Some(Disposition::Failed));
            events::apply(pg, (business, attempt), Source::Reconcile, failed, &said).await?
        } else {
            let closing = Closing {
                state: AttemptState::NotPlaced,
                job: JobThen::Fail,
                disposition: Some(Disposition::NotPlaced),
                reason: Some("expired"),
                carrier_status: None,
                carrier_code: None,
            };
            ledger::close(pg, attempt, Source::Reconcile, closing).await?
        };
        if let Some(change) = change {
            tracing::error!(attempt.id = %attempt, "given up as expired; its job is never dialed again");
            finish::after(ctx, attempt, &change, Learned::NoCall).await;
        }
    }
    Ok(())
}
