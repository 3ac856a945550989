//! Ends calls that nobody wants: cancelled ones, those that no open attempt answers for, those stuck in a carrier's queue, those
//! that have heard all.
//!
//! No answer to a hang-up frees a slot; only a final status does. So a hang-up may be asked for again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    attempts::{
        events,
        looks::{self, LiveCall},
        queued, speech,
        state::Source,
        strays::{self, Stray},
    },
    carriers::{Account, CallState, CallView, CarrierError, HangUp, How},
    context::Context,
    dialing::{
        answer,
        asked::{Asked, name},
        finish, machine, translate,
    },
    ids::BusinessId,
    slots::Learned,
    telemetry::traces,
};

/// Calls of one kind that are picked together.
const MOST: i64 = 50;
/// After so long a carrier shows every call that it has.
const SHOWN_BY_SECS: i64 = 60;
/// After so long a hang-up is asked for again, ms.
const AGAIN_MS: i64 = 3_000;

/// One round over all kinds, until nobody else is due; returns how many calls are being asked to end.
///
/// # Errors
/// Where Postgres does not answer; a carrier that does not answer is asked again in a later round.
pub async fn round(ctx: &Context, asked: &Asked) -> sqlx::Result<usize> {
    let pg = &ctx.stores.pg;
    let limit = ctx.settings.carrier_queue_limit_ms();
    let end = |call: LiveCall| asked.begin(name(call.business, &call.account), call.attempt, cancel(ctx.clone(), call));
    // Nobody's turn is taken by reading these: what is asked about, or was in this round, is left out.
    let seen = Mutex::new(asked.about());
    let leave = |call: LiveCall| {
        lock(&seen).push(call.attempt.to_string());
        asked.begin(name(call.business, &call.account), call.attempt, leave_queue(ctx.clone(), call))
    };
    let end_stray = |stray: Stray| {
        let (account, call_id) = (name(stray.business, &stray.account), stray.call_id.clone());
        asked.begin(account, call_id, end_stray(ctx.clone(), stray))
    };
    let wanted = |full: Vec<String>| async move { looks::pick_hangups(pg, MOST, AGAIN_MS, &full).await };
    let strays = |full: Vec<String>| async move { strays::pick(pg, MOST, AGAIN_MS, &full).await };
    let stuck = |full: Vec<String>| {
        let seen = lock(&seen).clone();
        async move { queued::stuck(pg, MOST, (limit, AGAIN_MS), (&full, &seen)).await }
    };
    let said = |full: Vec<String>| async move { speech::pick_over(pg, MOST, AGAIN_MS, &full).await };
    let ended = asked.all_due(MOST, wanted, end).await? + asked.all_due(MOST, said, end).await?;
    Ok(ended + asked.all_due(MOST, strays, end_stray).await? + asked.all_due(MOST, stuck, leave).await?)
}

fn lock(seen: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A round, and all that it begins.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn whole_round(ctx: &Context) -> sqlx::Result<usize> {
    let asked = Asked::alone();
    let count = round(ctx, &asked).await?;
    asked.ended().await;
    Ok(count)
}

async fn account(ctx: &Context, business: BusinessId, reference: &str) -> Option<Account> {
    match ctx.account(business, reference).await {
        Ok(account) => account,
        Err(error) => {
            tracing::error!(business.id = %business, error = format!("{error:#}"), "a call cannot be ended without its account");
            None
        }
    }
}

async fn cancel(ctx: Context, call: LiveCall) {
    let Some(account) = account(&ctx, call.business, &call.account).await else { return };
    match ctx.carriers.hang_up(&account, &call.call_id, How::Complete).await {
        Ok(HangUp::Done) => {
            tracing::info!(attempt.id = %call.attempt, call.id = call.call_id, "asked the carrier to hang up")
        }
        Ok(HangUp::AlreadyEnded | HangUp::NotFound) => look(&ctx, &account, &call).await,
        Err(error) => {
            tracing::warn!(attempt.id = %call.attempt, %error, "the hang-up was not taken; it is asked for again")
        }
    }
}

async fn end_stray(ctx: Context, stray: Stray) {
    let Some(account) = account(&ctx, stray.business, &stray.account).await else { return };
    let ended = match ctx.carriers.hang_up(&account, &stray.call_id, How::Complete).await {
        Ok(HangUp::Done) => ctx
            .carriers
            .fetch(&account, &stray.call_id, None)
            .await
            .is_ok_and(|view| view.is_some_and(|v| matches!(v.state, Some(CallState::Ended(_))))),
        Ok(HangUp::AlreadyEnded) => true,
        // A call that was made a moment ago may not be shown yet.
        Ok(HangUp::NotFound) => stray.age_secs >= SHOWN_BY_SECS,
        Err(error) => {
            tracing::warn!(call.id = stray.call_id, %error, "a stray call was not hung up; it is asked for again");
            false
        }
    };
    if ended && let Err(error) = strays::ended(&ctx.stores.pg, &stray).await {
        tracing::warn!(call.id = stray.call_id, %error, "the end of a stray call was not written down; it is asked for again");
    }
}

/// A call that waits in the carrier's queue would ring at a time that nobody chose: it is cancelled there and, when the
/// carrier says `canceled`, queued again here.
async fn leave_queue(ctx: Context, call: LiveCall) {
    let Some(account) = account(&ctx, call.business, &call.account).await else { return };
    match ctx.carriers.fetch(&account, &call.call_id, None).await {
        Ok(Some(view)) if view.state == Some(CallState::Queued) => {
            if let Ok(true) = queued::cancelling(&ctx.stores.pg, call.attempt, AGAIN_MS).await {
                let asked = ctx.carriers.hang_up(&account, &call.call_id, How::CancelQueued).await;
                tracing::warn!(attempt.id = %call.attempt, call.id = call.call_id, ?asked, "asked the carrier to cancel it in its queue");
            }
        }
        Ok(Some(view)) => applied(&ctx, &account, &call, &view).await,
        Ok(None) => {}
        Err(error) => report(&call, &error),
    }
}

/// Asks the carrier about one live call and applies what it says.
pub(crate) async fn look(ctx: &Context, account: &Account, call: &LiveCall) {
    let _step = traces::step(call.attempt, "look for it");
    match fetched(ctx, account, call).await {
        Ok(Some(view)) => applied(ctx, account, call, &view).await,
        Ok(None) => {
            tracing::warn!(attempt.id = %call.attempt, call.id = call.call_id, "the carrier does not show this call now")
        }
        Err(error) => report(call, &error),
    }
}

/// The call as the carrier shows it; by the number called where the carrier has forgotten its id.
pub(crate) async fn fetched(
    ctx: &Context,
    account: &Account,
    call: &LiveCall,
) -> Result<Option<CallView>, CarrierError> {
    let seen = ctx.carriers.fetch(account, &call.call_id, None).await?;
    if seen.is_some() {
        return Ok(seen);
    }
    match speech::whom(&ctx.stores.pg, call.attempt).await {
        Ok(Some((to, _))) => ctx.carriers.fetch(account, &call.call_id, Some(&to)).await,
        _ => Ok(None),
    }
}

/// Applies what a look showed, as if it were a callback.
pub(crate) async fn applied(ctx: &Context, account: &Account, call: &LiveCall, view: &CallView) {
    let Some(state) = view.state else { return };
    let key = (call.business, call.attempt);
    let applied = async {
        machine::saw(ctx, key, view).await?;
        let moved = translate::state(finish::turned_away(ctx, key, state).await?);
        events::apply(&ctx.stores.pg, key, Source::Reconcile, moved, &translate::said(view)).await
    };
    match applied.await {
        Ok(Some(change)) => finish::after(ctx, call.attempt, &change, Learned::Asked).await,
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(attempt.id = %call.attempt, %error, "what the carrier said was not stored; it is asked again")
        }
    }
    answer::catch_up(ctx, account, key, view).await;
}

fn report(call: &LiveCall, error: &CarrierError) {
    tracing::warn!(attempt.id = %call.attempt, call.id = call.call_id, %error, "the carrier could not be asked; its slot stays held");
}
