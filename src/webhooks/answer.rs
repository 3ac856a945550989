//! What an answered call hears: an agent, the run's message with this callee's variables, or nothing behind the fence.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    attempts::{
        events::{Answer, Event},
        ledger::Said,
        state::{AttemptState, Source},
    },
    carriers::{AnsweredBy, CallEvent},
    context::Context,
    dialing::conversation::{self, Stream},
    error::ApiError,
    ids::{AttemptId, BusinessId},
    leads::message::Template,
    telemetry::metrics,
};

/// What to say, and how.
pub(super) struct Speech {
    pub(super) text: String,
    pub(super) language: String,
    pub(super) voice: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    text: String,
    language: Option<String>,
    voice: Option<String>,
}

/// What an answered call hears.
pub(super) enum Hears {
    /// This, and then it is hung up.
    Speech(Speech),
    /// An agent, over a media stream to this address.
    Agent(Url),
    /// Nothing: it is hung up.
    Nothing,
}

/// What an answered call hears.
pub(super) async fn what_it_hears(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    event: &CallEvent,
) -> Result<Hears, ApiError> {
    let fence = i32::try_from(ctx.settings.times.answer_fence_ms).unwrap_or(i32::MAX);
    let said = Said {
        call_id: Some(&event.call_id),
        answered_by: event.answered_by.map(AnsweredBy::as_str),
        carrier_status: Some(&event.carrier_status),
        ..Said::default()
    };
    let answered = Event::new(key, Source::Webhook, (AttemptState::Answered, None), &said);
    let answer = ctx.batches.answer(answered.asks(fence)).await?;
    match answer {
        None => {
            metrics::answer_fenced();
            tracing::warn!(attempt.id = %key.1, call.id = event.call_id, "answered behind the fence: it hears nothing");
            Ok(Hears::Nothing)
        }
        Some(Answer { message: Some(message), variables }) => {
            let speech = speech(message, variables).inspect_err(|error| {
                tracing::error!(attempt.id = %key.1, error = format!("{error:#}"), "the message cannot be said");
            });
            Ok(speech.map_or(Hears::Nothing, Hears::Speech))
        }
        Some(Answer { message: None, .. }) => agent(ctx, key).await,
    }
}

/// The agent of a call, now or once more after a stream that we closed.
pub(super) async fn agent(ctx: &Context, (business, attempt): (BusinessId, AttemptId)) -> Result<Hears, ApiError> {
    match conversation::stream(ctx, business, attempt).await? {
        Stream::To(url) => Ok(Hears::Agent(url)),
        Stream::Nothing => Ok(Hears::Nothing),
        Stream::NoRoom(text, language) => {
            tracing::error!(attempt.id = %attempt, "no calls program has room for an answered call");
            let speech = text.map(|text| Hears::Speech(Speech { text, language, voice: None }));
            Ok(speech.unwrap_or(Hears::Nothing))
        }
    }
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
