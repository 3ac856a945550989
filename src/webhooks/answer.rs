//! What an answered call hears: the run's message with this callee's variables, or nothing behind the fence.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    attempts::{
        events::{Answer, Event},
        ledger::Said,
        state::{AttemptState, Source},
    },
    carriers::{AnsweredBy, CallEvent},
    context::Context,
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

/// The speech for an answered call; `None` where it must hear nothing and be hung up.
pub(super) async fn what_to_say(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    event: &CallEvent,
) -> Result<Option<Speech>, ApiError> {
    let fence = i32::try_from(ctx.settings.times.answer_fence_ms).unwrap_or(i32::MAX);
    let said = Said {
        call_id: Some(&event.call_id),
        answered_by: event.answered_by.map(AnsweredBy::as_str),
        carrier_status: Some(&event.carrier_status),
        ..Said::default()
    };
    let answered = Event::new(key, Source::Webhook, (AttemptState::Answered, None), &said);
    let answer = ctx.batches.answer(answered.asks(fence)).await?;
    let Some(Answer { message: Some(message), variables }) = answer else {
        metrics::answer_fenced();
        tracing::warn!(attempt.id = %key.1, call.id = event.call_id, "answered behind the fence: it hears nothing");
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
