//! Who picked up, and what a call does when it was a machine: it is hung up, left a message, or talked to as a person.
//!
//! Invariant: a message for machines is begun by one of those who could, and counts as left only when its end was heard of.
//! Not here: how carriers listen (`carriers`), and what an agent says (`voice`).
//!
//! Level-triggered: whatever is heard of a call that is listened to is written down first, and then [`act`] does what is due by
//! all that is known. So the carrier's words may come in any order, twice, or from a look at the carrier.

mod asks;
mod check;
mod late;

pub use asks::{After, goes_on, hears, resume_url};
pub(super) use check::{faults, needed};
pub use late::{ended, round};

use std::sync::Arc;

use serde_json::json;

use crate::{
    attempts::{
        detection::{self, Listened, Noted},
        speech,
    },
    carriers::{Account, CallEvent, CallView, CarrierError, Client, Detect, HangUp, How, Speech},
    context::Context,
    dialing::answer,
    error::ApiError,
    ids::{AttemptId, BusinessId},
    jobs::claim::Claimed,
    runs::{
        Machine,
        machine::{self, Then},
    },
};

/// So much longer than its ringing may take until a call that is listened to is spoken to, ms: the carrier's own limit, and its way.
pub(crate) const LISTENS_MS: i32 = 35_000;
/// A carrier that is told what to say, and has not said who picked up so long after the answer, seconds, does not know.
const VERDICT_SECS: i32 = 15;
/// A greeting is over so long after the answer, seconds, whatever the carrier says.
const GREETING_SECS: i32 = 60;
/// Who began to leave a message and was not heard of for so long has died.
const LEAVING_MS: i64 = 8_000;
/// Longer than any call.
const NEVER_MS: i64 = 864_000_000;

/// What is to be done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Talk as with a person.
    Talk,
    /// End it.
    HangUp,
    /// Leave a message once the greeting is over.
    Leave,
}

/// What is to be done by who picked up; `None` where that is not known yet.
fn deed(rule: &Machine, by: Option<&str>) -> Option<Deed> {
    Some(match (by?, rule.then) {
        ("machine", Then::LeaveMessage) => Deed::Leave,
        ("machine" | "fax", Then::HangUp) | ("fax", Then::LeaveMessage) => Deed::HangUp,
        _ => Deed::Talk,
    })
}

/// How the carrier is to listen to a call that is about to be dialed; `None`: not at all. From here on the call has a rule of its
/// own, whatever becomes of its run's.
pub(super) async fn to_listen(
    ctx: &Context,
    business: BusinessId,
    claimed: &Claimed,
) -> anyhow::Result<Option<Detect>> {
    let pg = &ctx.stores.pg;
    let rule = match claimed.run {
        Some(run) => {
            let Some(rule) = ctx.machines.of(pg, run).await? else { return Ok(None) };
            detection::begin(pg, (business, claimed.attempt), &json!(*rule)).await?;
            rule
        }
        None => match detection::rule(pg, claimed.attempt).await? {
            Some(rule) => Arc::new(serde_json::from_value(rule)?),
            None => return Ok(None),
        },
    };
    Ok(Some(Detect { first: rule.detect == machine::Detect::Sync, greeting: rule.leaves() }))
}

async fn listened(ctx: &Context, key: (BusinessId, AttemptId)) -> Result<Option<(Machine, Listened)>, ApiError> {
    let Some(it) = detection::of(&ctx.stores.pg, key).await? else { return Ok(None) };
    let rule = serde_json::from_value(it.rule.clone()).map_err(anyhow::Error::from)?;
    Ok(Some((rule, it)))
}

/// What is left on a machine; `None` where that is an agent's to say.
fn last_words(rule: &Machine, it: &Listened) -> anyhow::Result<Option<Speech>> {
    let Some(usual) = &it.message else { return Ok(None) };
    let message = rule.message.as_ref().map_or_else(|| usual.clone(), |message| json!(message));
    answer::speech(message, it.variables.clone()).map(Some)
}

/// Does what is due in a call that is listened to, by all that is known of it. `late`: what the carrier has not said by now, it
/// does not say.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again.
pub async fn act(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: &str,
    late: bool,
) -> Result<(), ApiError> {
    let pg = &ctx.stores.pg;
    let ours = |it: &Listened| it.open && it.call_id.as_deref() == Some(call_id);
    let Some((rule, it)) = listened(ctx, key).await?.filter(|(_, it)| ours(it)) else { return Ok(()) };
    let is_told = Client::is_told_what_to_say(account.carrier);
    let known = deed(&rule, it.by.as_deref()).or(late.then_some(Deed::Talk));
    match known {
        None if is_told && (rule.detect == machine::Detect::Sync || it.spoken) => {
            detection::waits(pg, key.1, VERDICT_SECS).await?;
        }
        None => {}
        Some(Deed::HangUp) => answer::over(ctx, account, key, Some(call_id)).await?,
        Some(Deed::Talk) => {
            if is_told && !it.said {
                answer::speak_to(ctx, account, key, call_id).await?;
            } else if it.spoken {
                answer::over(ctx, account, key, Some(call_id)).await?;
            }
            detection::decided(pg, key.1).await?;
        }
        Some(Deed::Leave) if it.left => answer::over(ctx, account, key, Some(call_id)).await?,
        Some(Deed::Leave) if it.greeting_over || late => leave(ctx, account, key, call_id, (&rule, &it), late).await?,
        Some(Deed::Leave) => detection::waits(pg, key.1, GREETING_SECS).await?,
    }
    Ok(())
}

/// Leaves the message: by command, by what the call asks for next, or by the agent that talks in it.
async fn leave(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: &str,
    (rule, it): (&Machine, &Listened),
    late: bool,
) -> Result<(), ApiError> {
    let (pg, attempt) = (&ctx.stores.pg, key.1);
    let Some(speech) = last_words(rule, it)? else {
        if Client::is_told_what_to_say(account.carrier) && !it.said {
            answer::speak_to(ctx, account, key, call_id).await?;
        } else {
            ctx.calls.tell(call_id).await?;
        }
        return Ok(detection::decided(pg, attempt).await?);
    };
    if !detection::takes_leave(pg, attempt, if late { LEAVING_MS } else { NEVER_MS }).await? {
        return Ok(());
    }
    let token = ctx.tokens.make(key.0, attempt);
    let url = resume_url(ctx, &token, After::Detection);
    let name = format!("{attempt}-voicemail");
    match ctx.carriers.leave(account, call_id, &speech, (&name, &token), &url).await {
        Ok(HangUp::Done) => {
            speech::said(pg, attempt).await?;
            detection::decided(pg, attempt).await?;
        }
        Ok(HangUp::AlreadyEnded | HangUp::NotFound) => {}
        Err(error @ (CarrierError::Refused { .. } | CarrierError::NotACallId)) => {
            tracing::error!(attempt.id = %attempt, call.id = call_id, %error, "the carrier will not leave a message; it hangs up");
            ctx.carriers.hang_up(account, call_id, How::Complete).await.map_err(|error| answer::away(&error))?;
        }
        Err(error) => {
            detection::gives_up_leave(pg, attempt).await?;
            return Err(answer::away(&error));
        }
    }
    Ok(())
}

/// It became known who picked up.
///
/// # Errors
/// Where a store or the carrier does not answer: the carrier must then say it again.
pub async fn detected(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    event: &CallEvent,
    greeting_over: bool,
) -> Result<(), ApiError> {
    if greeting_over {
        detection::note(&ctx.stores.pg, key, Noted::GreetingOver).await?;
    }
    match &event.call_id {
        Some(call_id) => act(ctx, account, key, call_id, false).await,
        None => Ok(()),
    }
}

/// All was said that is said to a person: the call ends, but where it may still have been a machine.
///
/// # Errors
/// Where a store or the carrier does not answer.
pub async fn spoken(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: Option<&str>,
) -> Result<(), ApiError> {
    let leaves = listened(ctx, key).await?.is_some_and(|(rule, _)| rule.leaves());
    match call_id.filter(|_| leaves) {
        Some(call_id) => {
            detection::note(&ctx.stores.pg, key, Noted::Spoken).await?;
            act(ctx, account, key, call_id, false).await
        }
        None => answer::over(ctx, account, key, call_id).await,
    }
}

/// The message for machines was said to its end: the call ends.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn left(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: Option<&str>,
) -> Result<(), ApiError> {
    detection::note(&ctx.stores.pg, key, Noted::Left).await?;
    answer::over(ctx, account, key, call_id).await
}

/// Writes down what a look showed of a machine, before the call's own state is applied.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn saw(ctx: &Context, key: (BusinessId, AttemptId), view: &CallView) -> sqlx::Result<()> {
    if view.greeting_over {
        detection::note(&ctx.stores.pg, key, Noted::GreetingOver).await?;
    }
    if view.message_left {
        detection::note(&ctx.stores.pg, key, Noted::Left).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_follows_from_the_rule_and_who_picked_up() {
        let done = |then, by| deed(&Machine { detect: machine::Detect::Async, then, message: None }, by);
        for then in [Then::HangUp, Then::LeaveMessage, Then::Continue] {
            assert_eq!(done(then, None), None);
            assert_eq!(done(then, Some("human")), Some(Deed::Talk));
            assert_eq!(done(then, Some("unknown")), Some(Deed::Talk), "nobody is hung up on by a guess");
        }
        assert_eq!(done(Then::HangUp, Some("machine")), Some(Deed::HangUp));
        assert_eq!(done(Then::LeaveMessage, Some("machine")), Some(Deed::Leave));
        assert_eq!(done(Then::Continue, Some("machine")), Some(Deed::Talk));
        assert_eq!(done(Then::LeaveMessage, Some("fax")), Some(Deed::HangUp), "a fax hears no message");
    }
}
