//! What is heard of a machine by asking the carrier, because its own word is late or lost.

use std::time::Instant;

use crate::{
    attempts::{
        detection, events,
        ledger::Said,
        looks::LiveCall,
        state::{AttemptState, Source},
    },
    carriers::{Account, CallEvent, CallState, Disposition},
    context::Context,
    dialing::{
        asked::{Asked, name},
        finish,
        machine::{act, saw},
    },
    ids::{AttemptId, BusinessId},
    telemetry::traces,
};

/// Calls that are picked together.
const MOST: i64 = 50;
/// After so long a decision that was not carried out is tried again.
const AGAIN_MS: i64 = 5_000;

/// The end of a call that is listened to, with who had picked up where its carrier's word for that is still on its way: it is
/// asked, because an end does not change; for a moment after the event `arrived`.
pub async fn ended(ctx: &Context, key: (BusinessId, AttemptId), event: &mut CallEvent, arrived: Instant) {
    let picked_up = matches!(event.state, CallState::Ended(Disposition::Answered)) || event.unclear;
    if !picked_up || event.answered_by.is_some() {
        return;
    }
    let looked = async {
        let known = detection::of(&ctx.stores.pg, key).await?;
        let (Some(account), Some(call_id)) = (&event.account, &event.call_id) else { return Ok(None) };
        if known.is_none_or(|it| it.by.is_some()) {
            return Ok(None);
        }
        let Some(account) = ctx.account(key.0, account).await? else { return Ok(None) };
        let view = ctx.carriers.fetch(&account, call_id, None).await?;
        if let Some(view) = &view {
            saw(ctx, key, view).await?;
        }
        anyhow::Ok(view.and_then(|view| view.answered_by))
    };
    let looked = tokio::time::timeout_at(finish::looks_end(arrived), looked).await;
    match looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the carrier took too long"))) {
        Ok(by) => event.answered_by = by,
        Err(error) => {
            tracing::warn!(attempt.id = %key.1, error = format!("{error:#}"), "who had picked up could not be asked for");
        }
    }
}

/// Asks the carrier who picked up, and writes that down.
pub(super) async fn ask_carrier(ctx: &Context, account: &Account, key: (BusinessId, AttemptId), call_id: &str) {
    let asked = async {
        let Some(view) = ctx.carriers.fetch(account, call_id, None).await? else { return Ok(()) };
        saw(ctx, key, &view).await?;
        if let Some(by) = view.answered_by {
            let said = Said { call_id: Some(call_id), answered_by: Some(by.as_str()), ..Said::default() };
            events::apply(&ctx.stores.pg, key, Source::Reconcile, (AttemptState::Answered, None), &said).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = asked.await {
        tracing::warn!(attempt.id = %key.1, error = format!("{error:#}"), "who picked up could not be asked for");
    }
}

/// One round over calls that wait for a word that does not come, until none is left; returns how many are being decided.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn round(ctx: &Context, asked: &Asked) -> sqlx::Result<usize> {
    let pick =
        |full: Vec<String>| async move { detection::pick_undecided(&ctx.stores.pg, MOST, AGAIN_MS, &full).await };
    let begin =
        |call: LiveCall| asked.begin(name(call.business, &call.account), call.attempt, decide(ctx.clone(), call));
    asked.all_due(MOST, pick, begin).await
}

async fn decide(ctx: Context, call: LiveCall) {
    if !call.state.is_open() {
        return;
    }
    let _step = traces::step(call.attempt, "decide who picked up");
    let key = (call.business, call.attempt);
    let decided = async {
        let Some(account) = ctx.account(call.business, &call.account).await? else { return Ok(()) };
        ask_carrier(&ctx, &account, key, &call.call_id).await;
        act(&ctx, &account, key, &call.call_id, true).await
    };
    if let Err(error) = decided.await {
        tracing::warn!(attempt.id = %call.attempt, why = error.detail(), "a call that waits was not decided; it is tried again");
    }
}
