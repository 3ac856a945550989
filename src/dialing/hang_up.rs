//! Ends calls that nobody wants: cancelled ones, those that no open attempt answers for, those stuck in a carrier's queue, those
//! that have heard all.
//!
//! No answer to a hang-up frees a slot; only a final status does. So a hang-up may be asked for again and again.

use futures::{FutureExt, StreamExt, stream};

use crate::{
    attempts::{
        events,
        looks::{self, LiveCall},
        speech,
        state::Source,
        strays::{self, Stray},
    },
    carriers::{Account, CallState, CallView, CarrierError, HangUp, How},
    context::Context,
    dialing::{answer, finish, machine, translate},
    ids::BusinessId,
    slots::Learned,
    telemetry::traces,
};

/// Calls handled per round; the rest waits for the next.
const MOST: i64 = 50;
/// Calls handled at once, that is all of a round: a carrier that hangs must not keep the others waiting.
const AT_ONCE: usize = 200;
/// After so long a carrier shows every call that it has.
const SHOWN_BY_SECS: i64 = 60;
/// After so long a hang-up is asked for again, ms.
const AGAIN_MS: i64 = 3_000;

/// One round over all kinds; returns how many calls were asked to end.
///
/// # Errors
/// Where Postgres does not answer; a carrier that does not answer is asked again in a later round.
pub async fn round(ctx: &Context) -> sqlx::Result<usize> {
    let pg = &ctx.stores.pg;
    let wanted = looks::pick_hangups(pg, MOST, AGAIN_MS).await?;
    let strays = strays::pick(pg, MOST, AGAIN_MS).await?;
    let limit = i64::try_from(ctx.settings.carrier_queue_limit_secs * 1_000).unwrap_or(i64::MAX);
    let stuck = looks::stuck_in_carriers_queue(pg, MOST, limit, AGAIN_MS).await?;
    let said = speech::pick_over(pg, MOST, AGAIN_MS).await?;
    let count = wanted.len() + strays.len() + stuck.len() + said.len();
    let wanted = wanted.into_iter().chain(said).map(|call| cancel(ctx, call).boxed());
    let strays = strays.into_iter().map(|stray| end_stray(ctx, stray).boxed());
    let stuck = stuck.into_iter().map(|call| leave_queue(ctx, call).boxed());
    let all: Vec<_> = wanted.chain(strays).chain(stuck).collect();
    stream::iter(all).buffer_unordered(AT_ONCE).collect::<()>().await;
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

async fn cancel(ctx: &Context, call: LiveCall) {
    let Some(account) = account(ctx, call.business, &call.account).await else { return };
    match ctx.carriers.hang_up(&account, &call.call_id, How::Complete).await {
        Ok(HangUp::Done) => {
            tracing::info!(attempt.id = %call.attempt, call.id = call.call_id, "asked the carrier to hang up")
        }
        Ok(HangUp::AlreadyEnded | HangUp::NotFound) => look(ctx, &account, &call).await,
        Err(error) => {
            tracing::warn!(attempt.id = %call.attempt, %error, "the hang-up was not taken; it is asked for again")
        }
    }
}

async fn end_stray(ctx: &Context, stray: Stray) {
    let Some(account) = account(ctx, stray.business, &stray.account).await else { return };
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
async fn leave_queue(ctx: &Context, call: LiveCall) {
    let Some(account) = account(ctx, call.business, &call.account).await else { return };
    match ctx.carriers.fetch(&account, &call.call_id, None).await {
        Ok(Some(view)) if view.state == Some(CallState::Queued) => {
            if let Ok(true) = looks::cancelling_in_queue(&ctx.stores.pg, call.attempt, AGAIN_MS).await {
                let asked = ctx.carriers.hang_up(&account, &call.call_id, How::CancelQueued).await;
                tracing::warn!(attempt.id = %call.attempt, call.id = call.call_id, ?asked, "asked the carrier to cancel it in its queue");
            }
        }
        Ok(Some(view)) => applied(ctx, &account, &call, &view).await,
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
