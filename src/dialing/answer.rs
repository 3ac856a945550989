//! What an answered call hears: an agent, the run's message with this callee's variables, or nothing behind the fence.
//!
//! One carrier asks for it, another has to be told. Telling may happen twice (a doubled event, a look that comes with it): the
//! carrier ignores a second command of the same name, and the ledger remembers what was said.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    attempts::{
        events::{Answer, Event},
        ledger::Said,
        speech,
        state::{AttemptState, Source},
    },
    carriers::{Account, AnsweredBy, CallEvent, CallState, CallView, CarrierError, Client, HangUp, How, Speech},
    context::Context,
    dialing::{
        conversation::{self, Stream},
        inbound::{Instead, by_command},
        machine,
    },
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

/// What an answered call hears.
#[derive(Clone)]
pub enum Hears {
    /// This, and then it is hung up.
    Speech(Speech),
    /// This, and then it asks what comes next: who picked up is not known yet.
    SpeechThenAsk(Speech),
    /// The message for machines, and then it says that it heard it.
    Voicemail(Speech),
    /// Nothing for a moment: then it asks again.
    Waits,
    /// An agent, over a media stream to this address.
    Agent(Url),
    /// Whoever talks at the number `to`; who is put through to it comes from our number `from`.
    Redirect {
        /// E.164.
        to: String,
        /// E.164.
        from: String,
    },
    /// Nothing: it is hung up.
    Nothing,
    /// Nothing more: its conversation is over, and whoever ended that has seen to the call.
    Over {
        /// But for one whose caller had hung up, as far as its session could know.
        hung_up: bool,
    },
}

/// What a call hears that was answered just now, and that nobody listens to ([`machine::hears`]).
///
/// # Errors
/// Where a store does not answer: nothing is known then.
pub async fn what_it_hears(ctx: &Context, key: (BusinessId, AttemptId), event: &CallEvent) -> Result<Hears, ApiError> {
    let said = Said {
        call_id: event.call_id.as_deref(),
        answered_by: event.answered_by.map(AnsweredBy::as_str),
        carrier_status: Some(&event.carrier_status),
        ..Said::default()
    };
    match may_hear(ctx, key, Source::Webhook, &said, 0).await? {
        Some(may) => heard(ctx, key, may).await,
        None => Ok(Hears::Nothing),
    }
}

/// What an answered call may hear; `None` where that is nothing. Its answer may be known so many milliseconds late.
pub(super) async fn may_hear(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    source: Source,
    said: &Said<'_>,
    more_ms: i32,
) -> Result<Option<Answer>, ApiError> {
    let fence = i32::try_from(ctx.settings.times.answer_fence_ms).unwrap_or(i32::MAX);
    let answered = Event::new(key, source, (AttemptState::Answered, None), said);
    let answer = ctx.batches.answer(answered.asks(fence.saturating_add(more_ms))).await?;
    if answer.is_none() {
        metrics::answer_fenced();
        tracing::warn!(attempt.id = %key.1, call.id = said.call_id, "answered behind the fence: it hears nothing");
    }
    Ok(answer)
}

/// What a person hears.
pub(super) async fn heard(ctx: &Context, key: (BusinessId, AttemptId), may: Answer) -> Result<Hears, ApiError> {
    let Answer { message: Some(message), variables } = may else { return agent(ctx, key, false).await };
    let speech = speech(message, variables).inspect_err(|error| {
        tracing::error!(attempt.id = %key.1, error = format!("{error:#}"), "the message cannot be said");
    });
    Ok(speech.map_or(Hears::Nothing, Hears::Speech))
}

/// What a call hears after a media stream that was closed.
///
/// # Errors
/// Where a store does not answer.
pub async fn once_more(ctx: &Context, key: (BusinessId, AttemptId)) -> Result<Hears, ApiError> {
    agent(ctx, key, true).await
}

async fn agent(ctx: &Context, (business, attempt): (BusinessId, AttemptId), closed: bool) -> Result<Hears, ApiError> {
    match conversation::stream(ctx, business, attempt, closed).await? {
        Stream::To(url) => Ok(Hears::Agent(url)),
        Stream::Nothing => Ok(Hears::Nothing),
        Stream::Over { hung_up } => Ok(Hears::Over { hung_up }),
        Stream::Broken(speech) => Ok(speech.map_or(Hears::Nothing, Hears::Speech)),
        Stream::NoRoom(instead, from) => {
            tracing::error!(attempt.id = %attempt, "no calls program has room for an answered call");
            Ok(match instead {
                Instead { redirect: Some(to), .. } => Hears::Redirect { to, from },
                Instead { speech: Some(speech), .. } => Hears::Speech(speech),
                Instead { .. } => Hears::Nothing,
            })
        }
    }
}

/// The words of a message with a callee's variables in them.
pub(super) fn speech(message: Value, variables: Map<String, Value>) -> anyhow::Result<Speech> {
    let message: Message = serde_json::from_value(message)?;
    let template = Template::parse(&message.text).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Speech {
        text: template.render(&variables).map_err(|error| anyhow::anyhow!("{error}"))?,
        language: message.language.unwrap_or_else(|| "en-US".to_owned()),
        voice: message.voice,
    })
}

/// Tells the carrier what an answered call is to hear, or hangs it up where that is nothing. True where it hears something. `at`: when
/// it was answered, by the carrier's clock.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again.
pub async fn by_command(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    source: Source,
    (call_id, at): (&str, Option<DateTime<Utc>>),
) -> Result<bool, ApiError> {
    let known = speech::known(&ctx.stores.pg, key).await?;
    if known.said {
        return Ok(true);
    }
    let said = Said { call_id: Some(call_id), carrier_status: Some("answered"), at, ..Said::default() };
    let may = may_hear(ctx, key, source, &said, if known.listened_first { machine::LISTENS_MS } else { 0 }).await?;
    if known.listened_first && may.is_some() {
        machine::act(ctx, account, key, call_id, false).await?;
        return Ok(true);
    }
    let hears = match may {
        Some(may) => heard(ctx, key, may).await?,
        None => Hears::Nothing,
    };
    // A double of the carrier's own word comes within seconds, and is ignored there by this name.
    told(ctx, account, key.1, call_id, hears, &key.1.to_string()).await
}

/// Speaks to whoever it was that picked up, by command, now that it is known who it was.
pub(super) async fn speak_to(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: &str,
) -> Result<(), ApiError> {
    let said = Said { call_id: Some(call_id), ..Said::default() };
    let hears = match may_hear(ctx, key, Source::Webhook, &said, machine::LISTENS_MS).await? {
        Some(may) => heard(ctx, key, may).await?,
        None => Hears::Nothing,
    };
    told(ctx, account, key.1, call_id, hears, &key.1.to_string()).await.map(drop)
}

/// A media stream of a call that was told to stream is over: it gets another one, or is hung up. One whose caller seemed to have
/// hung up is open all the same if it comes to this, and nobody else would end it.
///
/// # Errors
/// Where a store or the carrier does not answer: the same may be asked for again.
pub async fn stream_over(
    ctx: &Context,
    account: &Account,
    key: (BusinessId, AttemptId),
    call_id: &str,
) -> Result<(), ApiError> {
    let hears = match once_more(ctx, key).await? {
        Hears::Over { hung_up: true } => Hears::Nothing,
        hears => hears,
    };
    let name = match hears {
        // What stands in for the agent is said once, however often the end of its last stream is told.
        Hears::Speech(_) => format!("{}-trouble", key.1),
        _ => uuid::Uuid::new_v4().to_string(),
    };
    told(ctx, account, key.1, call_id, hears, &name).await.map(drop)
}

async fn told(
    ctx: &Context,
    account: &Account,
    attempt: AttemptId,
    call_id: &str,
    hears: Hears,
    name: &str,
) -> Result<bool, ApiError> {
    let done = match &hears {
        Hears::Speech(speech) | Hears::SpeechThenAsk(speech) | Hears::Voicemail(speech) => {
            ctx.carriers.say(account, call_id, speech, name).await
        }
        // A name of its own: an earlier command may be remembered under the other.
        Hears::Agent(url) => ctx.carriers.stream(account, call_id, url, &format!("{name}-stream")).await,
        Hears::Redirect { to, from } => {
            ctx.carriers.transfer(account, call_id, to, from, &format!("{name}-transfer")).await
        }
        Hears::Over { .. } | Hears::Waits => return Ok(true),
        Hears::Nothing => {
            hang_up(ctx, account, call_id).await?;
            return Ok(false);
        }
    };
    match done {
        Ok(HangUp::Done) => speech::said(&ctx.stores.pg, attempt).await?,
        Ok(HangUp::AlreadyEnded | HangUp::NotFound) => {}
        Err(error @ (CarrierError::Refused { .. } | CarrierError::NotACallId)) => {
            tracing::error!(attempt.id = %attempt, call.id = call_id, %error, "the carrier will not do what the call is to hear; it hangs up");
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
    let call_id = view.call_id.as_str();
    let parked = view.state == Some(CallState::Initiated) && !view.direction_outbound_api;
    if view.state != Some(CallState::Answered) && !parked {
        return;
    }
    let done = async {
        if parked {
            return match Client::is_told_what_to_say(account.carrier) {
                // It came in, and the command to answer it was lost.
                true => Box::pin(by_command::pick_up(ctx, account, key, call_id)).await,
                false => Ok(()),
            };
        }
        if view.answered_by.is_some() || view.greeting_over {
            machine::act(ctx, account, key, call_id, false).await?;
        }
        match Client::is_told_what_to_say(account.carrier) {
            false => Ok(()),
            true if view.message_left => over(ctx, account, key, Some(call_id)).await,
            true if view.speech_over => machine::spoken(ctx, account, key, Some(call_id)).await,
            true => by_command(ctx, account, key, Source::Reconcile, (call_id, None)).await.map(drop),
        }
    };
    if let Err(error) = done.await {
        tracing::warn!(attempt.id = %key.1, why = error.detail(), "an answered call was not told what to hear; it is tried again");
    }
}

async fn hang_up(ctx: &Context, account: &Account, call_id: &str) -> Result<(), ApiError> {
    ctx.carriers.hang_up(account, call_id, How::Complete).await.map(drop).map_err(|error| away(&error))
}

/// A carrier that may take the same command later.
pub(super) fn away(error: &CarrierError) -> ApiError {
    tracing::warn!(%error, "the carrier did not take a command on a call");
    ApiError::new(Slug::Unavailable, "The carrier does not take commands now. Send it again.").retry_after(1)
}
