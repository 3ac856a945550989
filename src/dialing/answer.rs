//! What an answered call hears: the run's message with this callee's variables, or nothing behind the fence.
//!
//! One carrier asks for it, another has to be told. Telling may happen twice (a doubled event, a look that comes with it): the
//! carrier ignores a second command of the same name, and the ledger remembers what was said.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    attempts::{
        events::{Answer, Event},
        ledger::Said,
        speech,
        state::{AttemptState, Source},
    },
    carriers::{Account, AnsweredBy, CallEvent, CallState, CallView, CarrierError, Client, HangUp, How, Speech},
    context::Context,
    error::{ApiError, Slug},
    ids::{AttemptId, BusinessId},
    leads::message::Template,
    telemetry::metrics,
};

#[derive(Deserialize)]
struct Message {
    text: String,
    language: Option<String>,
    voice: Option<String>,
}

/// The speech for an answered call; `None` where it must hear nothing and be hung up.
///
/// # Errors
/// Where Postgres does not answer: nothing is known then.
pub async fn what_to_say(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    event: &CallEvent,
) -> sqlx::Result<Option<Speech>> {
    let said = Said {
        call_id: event.call_id.as_deref(),
        answered_by: event.answered_by.map(AnsweredBy::as_str),
        carrier_status: Some(&event.carrier_status),
        ..Said::default()
    };
    heard(ctx, key, Source::Webhook, &said).await
}

async fn heard(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    source: Source,
    said: &Said<'_>,
) -> sqlx::Result<Option<Speech>> {
    let fence = i32::try_from(ctx.settings.times.answer_fence_ms).unwrap_or(i32::MAX);
    let answered = Event::new(key, source, (AttemptState::Answered, None), said);
    let answer = ctx.batches.answer(answered.asks(fence)).await?;
    let Some(Answer { message: Some(message), variables }) = answer else {
        metrics::answer_fenced();
        tracing::warn!(attempt.id = %key.1, call.id = said.call_id, "answered behind the fence: it hears nothing");
        return Ok(None);
    };
    Ok(speech(message, variables)
        .inspect_err(
            |error| tracing::error!(attempt.id = %key.1, error = format!("{error:#}"), "the message cannot be said"),
        )
        .ok())
}

fn speech(message: Value, variables: Map<String, Value>) -> anyhow::Result<Speech> {
    let message: Message = serde_json::from_value(message)?;
    let template = Template::parse(&message.text).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Speech {
        text: template.render(&variables).map_err(|error| anyhow::anyhow!("{error}"))?,
        language: message.language.unwrap_or_else(|| "en-US".to_owned()),
        voice: message.voice,
    })
}

/// Tells the carrier what an answered call is to hear, or hangs it up where that is nothing. True where it hears something.
///
/// # Errors
/// Where Postgres or the carrier does not answer: the same may be asked for again.
pub async fn by_command(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    source: Source,
    call_id: &str,
) -> Result<bool, ApiError> {
    if speech::is_said(&ctx.stores.pg, key).await? {
        return Ok(true);
    }
    let said = Said { call_id: Some(call_id), carrier_status: Some("answered"), ..Said::default() };
    let Some(speech) = heard(ctx, key, source, &said).await? else {
        hang_up(ctx, account, call_id).await?;
        return Ok(false);
    };
    match ctx.carriers.say(account, call_id, &speech, &key.1.to_string()).await {
        Ok(HangUp::Done) => speech::said(&ctx.stores.pg, key.1).await?,
        Ok(HangUp::AlreadyEnded | HangUp::NotFound) => {}
        Err(error @ (CarrierError::Refused { .. } | CarrierError::NotACallId)) => {
            tracing::error!(attempt.id = %key.1, call.id = call_id, %error, "the carrier will not say the message; it hangs up");
            hang_up(ctx, account, call_id).await?;
            return Ok(false);
        }
        Err(error) => return Err(away(&error)),
    }
    Ok(true)
}

/// All is said: the call ends. Should the carrier not take that now, a worker asks again.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn over(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: Option<&str>,
) -> Result<(), ApiError> {
    if speech::over(&ctx.stores.pg, key).await?
        && let Some(call_id) = call_id
        && let Err(error) = ctx.carriers.hang_up(account, call_id, How::Complete).await
    {
        tracing::warn!(attempt.id = %key.1, call.id = call_id, %error, "the hang-up was not taken; it is asked for again");
    }
    Ok(())
}

/// Does what the carrier's own word would have done, had it come: speaks to whoever picked up, or hangs up what has heard all.
pub async fn catch_up(ctx: &Context, account: &Account, key: (BusinessId, AttemptId), view: &CallView) {
    if !Client::is_told_what_to_say(account.carrier) || view.state != Some(CallState::Answered) {
        return;
    }
    let done = if view.speech_over {
        over(ctx, account, key, Some(&view.call_id)).await
    } else {
        by_command(ctx, account, key, Source::Reconcile, &view.call_id).await.map(drop)
    };
    if let Err(error) = done {
        tracing::warn!(attempt.id = %key.1, why = error.detail(), "an answered call was not told what to hear; it is tried again");
    }
}

async fn hang_up(ctx: &Context, account: &Account, call_id: &str) -> Result<(), ApiError> {
    ctx.carriers.hang_up(account, call_id, How::Complete).await.map(drop).map_err(|error| away(&error))
}

fn away(error: &CarrierError) -> ApiError {
    tracing::warn!(%error, "the carrier did not take a command on a call");
    ApiError::new(Slug::Unavailable, "The carrier does not take commands now. Send it again.").retry_after(1)
}
