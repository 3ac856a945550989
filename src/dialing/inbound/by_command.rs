//! The same where the carrier is told: the call is answered by a command, and what it hears follows on the carrier's word for that.
//!
//! Each command has a name made of the call, so that the same word of the carrier's may come twice. What is not surely done or
//! refused is left to the carrier, which repeats what it was not thanked for; of a call with a row the reconciler is a second net.

use sha2::{Digest, Sha256};

use crate::{
    attempts::{self, inbound, looks::LiveCall, state::AttemptState},
    carriers::{Account, Away, CallState, CarrierError, HangUp, How, PickUp},
    config::without_slash,
    context::Context,
    dialing::{
        answer, hang_up,
        inbound::{Instead, Ringing, Welcome, instead, welcome},
    },
    error::ApiError,
    ids::{AttemptId, BusinessId},
};

/// Takes a call that rings here, or turns it away.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again.
pub async fn ring(
    ctx: &Context,
    account: &Account,
    business: BusinessId,
    ringing: Ringing<'_>,
) -> Result<(), ApiError> {
    match welcome(ctx, business, ringing).await? {
        Welcome::Taken(attempt) => pick_up(ctx, account, (business, attempt), ringing.call_id).await,
        Welcome::TurnedAway(Instead { speech: None, redirect: None }) | Welcome::Nobody => {
            reject(ctx, account, ringing.call_id).await
        }
        Welcome::TurnedAway(_) => {
            let pick_up = PickUp { mark: Away::Answered.mark(), tell_at: None };
            let key = name(ringing.call_id, "answer");
            match ctx.carriers.pick_up(account, ringing.call_id, &pick_up, &key).await {
                Err(error) if is_refusal(&error) => {
                    tracing::error!(call.id = ringing.call_id, %error, "a call that is turned away cannot be answered; it is refused");
                    reject(ctx, account, ringing.call_id).await
                }
                done => taken(done),
            }
        }
    }
}

/// Answers a call that has its row, if it waits for that; what it hears follows when the carrier says that it did.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again, and the row stays open.
pub async fn pick_up(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: &str,
) -> Result<(), ApiError> {
    if !inbound::is_waiting(&ctx.stores.pg, key).await? {
        return Ok(());
    }
    let token = ctx.tokens.make(key.0, key.1);
    let url = format!("{}/webhooks/telnyx/{token}", without_slash(&ctx.settings.public_base_url));
    let pick_up = PickUp { mark: &token, tell_at: Some(&url) };
    match ctx.carriers.pick_up(account, call_id, &pick_up, &format!("{}-answer", key.1)).await {
        Ok(HangUp::Done) => Ok(()),
        Ok(HangUp::AlreadyEnded | HangUp::NotFound) => ask(ctx, account, key, call_id).await.map(drop),
        Err(error) if is_refusal(&error) => {
            if !ask(ctx, account, key, call_id).await? {
                tracing::error!(attempt.id = %key.1, call.id = call_id, %error, "a call that came in cannot be answered; it is hung up");
                attempts::store::want_ended(&ctx.stores.pg, key.1).await?;
            }
            Ok(())
        }
        Err(error) => Err(answer::away(&error)),
    }
}

/// Asks the carrier what it has done with a call that it would not answer, or again, and applies that. False where it says no more
/// than was known.
async fn ask(
    ctx: &Context,
    account: &Account,
    (business, attempt): (BusinessId, AttemptId),
    call_id: &str,
) -> Result<bool, ApiError> {
    let view = ctx.carriers.fetch(account, call_id, None).await.map_err(|error| answer::away(&error))?;
    let Some(view) = view.filter(|view| matches!(view.state, Some(CallState::Answered | CallState::Ended(_)))) else {
        return Ok(false);
    };
    let call = LiveCall {
        attempt,
        business,
        account: account.reference.clone(),
        call_id: call_id.to_owned(),
        state: AttemptState::Ringing,
        silent_ms: 0,
    };
    hang_up::applied(ctx, account, &call, &view).await;
    Ok(true)
}

/// A call that is turned away was answered: it hears so, or is put through at once.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again.
pub async fn answered(
    ctx: &Context,
    account: &Account,
    business: BusinessId,
    ringing: Ringing<'_>,
) -> Result<(), ApiError> {
    let Instead { speech: Some(speech), .. } = instead(ctx, business, ringing.ours, ringing.theirs).await? else {
        return said(ctx, account, business, ringing).await;
    };
    let key = name(ringing.call_id, "say");
    match ctx.carriers.say_no_room(account, ringing.call_id, &speech, &key).await {
        Err(error) if is_refusal(&error) => {
            tracing::error!(call.id = ringing.call_id, %error, "the fallback message cannot be said");
            said(ctx, account, business, ringing).await
        }
        done => taken(done),
    }
}

/// A call that is turned away has heard so: it is put through, or over.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again.
pub async fn said(
    ctx: &Context,
    account: &Account,
    business: BusinessId,
    ringing: Ringing<'_>,
) -> Result<(), ApiError> {
    let call_id = ringing.call_id;
    if let Some(to) = instead(ctx, business, ringing.ours, ringing.theirs).await?.redirect {
        match ctx.carriers.transfer(account, call_id, &to, ringing.ours, &name(call_id, "transfer")).await {
            Err(error) if is_refusal(&error) => {
                tracing::error!(call.id = call_id, %error, "a call is not put through; it is hung up");
            }
            done => return taken(done),
        }
    }
    taken(ctx.carriers.hang_up(account, call_id, How::Complete).await)
}

/// The other leg of a call that was put through is over, by itself or because nobody picked up: so is the call, which would wait in
/// silence otherwise.
///
/// # Errors
/// Where the carrier does not answer: the same may be asked for again.
pub async fn leg_is_over(ctx: &Context, account: &Account, call_id: &str) -> Result<(), ApiError> {
    match ctx.carriers.hang_up(account, call_id, How::Complete).await {
        Err(error) if is_refusal(&error) => {
            tracing::error!(call.id = call_id, %error, "a call whose other leg is over cannot be hung up");
            Ok(())
        }
        done => taken(done),
    }
}

async fn reject(ctx: &Context, account: &Account, call_id: &str) -> Result<(), ApiError> {
    match ctx.carriers.reject(account, call_id, &name(call_id, "reject")).await {
        Err(error) if is_refusal(&error) => {
            tracing::warn!(call.id = call_id, %error, "a call was not refused; it is hung up");
            taken(ctx.carriers.hang_up(account, call_id, How::Complete).await)
        }
        done => taken(done),
    }
}

/// That a call is over is as good as a command that was done.
fn taken(done: Result<HangUp, CarrierError>) -> Result<(), ApiError> {
    done.map(drop).map_err(|error| answer::away(&error))
}

fn is_refusal(error: &CarrierError) -> bool {
    matches!(error, CarrierError::Refused { .. } | CarrierError::NotACallId)
}

/// The name of a command on a call that has no attempt.
fn name(call_id: &str, command: &str) -> String {
    let hash = Sha256::digest(format!("{call_id} {command}"));
    hex::encode(&hash[..16])
}
