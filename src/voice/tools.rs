//! What an agent's tools do: some at once, some later, and some end the conversation.

use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use chrono_tz::Tz;
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};

use crate::{
    agents::{Definition, Tool, tools::outcome},
    calls::CallState,
    context::Context,
    dialing::{
        agreed::{self, Agreed},
        conversation,
    },
    voice::tool_http::ToolClient,
};

/// What using a tool comes to.
pub(super) enum Deed {
    /// This is its answer, and the agent goes on.
    Done(Value),
    /// Its answer comes later. It is done whatever becomes of the turn and of the call: the caller may have been promised it, and
    /// what has left for a customer's server is not taken back.
    Later(BoxFuture<'static, Came>),
    /// These keys are pressed, and the agent goes on.
    Keys(String),
    /// The agent has nothing more to say.
    End,
    /// The caller is put through to this number once what is being said was heard.
    Transfer(String),
}

/// What a tool came to.
pub(super) struct Came {
    /// For the model.
    pub(super) output: Value,
    /// For the outcome of the call, where it was done.
    pub(super) outcome: Option<(&'static str, Value)>,
}

impl Came {
    fn done(name: &'static str, value: Value) -> Self {
        Self { output: json!({"ok": true}), outcome: Some((name, value)) }
    }

    fn not(why: &str) -> Self {
        Self { output: json!({"error": why}), outcome: None }
    }
}

/// What the model says where Postgres does not take what was promised.
const NOT_WRITTEN: &str = "it could not be written down; say that a person will see to it";

/// What the model hears where the caller is to be called no more, and nobody could call them.
const NO_NUMBER: &str = "they rang without a number: we do not know it and cannot call them; tell them so";

/// Agrees on a time, or on the first one after it that the rules allow, and tells the model which it is.
async fn agree(ctx: &Context, state: &CallState, at: DateTime<FixedOffset>) -> Came {
    match agreed::agree(ctx, state, at.to_utc()).await {
        Ok(Agreed::At(will)) => {
            let text = match state.zones.as_slice() {
                [zone] => {
                    zone.parse::<Tz>().map_or_else(|_| will.to_rfc3339(), |zone| will.with_timezone(&zone).to_rfc3339())
                }
                // The model was told of several, and has written the offset of the right one.
                _ => will.with_timezone(at.offset()).to_rfc3339(),
            };
            let note = match will == at {
                true => "they are called then",
                false => {
                    "calls are not allowed at the time you gave: this is the first time after it at which they are called; tell them"
                }
            };
            Came { output: json!({"ok": true, "at": text, "note": note}), outcome: Some(("call_back_at", text.into())) }
        }
        Ok(Agreed::Not(why)) => Came::not(&why),
        Err(error) => {
            tracing::error!(attempt.id = %state.attempt, error = format!("{error:#}"), "a time to call back was not kept");
            Came::not(NOT_WRITTEN)
        }
    }
}

/// Uses a tool. What the model wrote is judged here; what does not fit is told to it.
pub(super) fn act(
    (ctx, client): (&Context, &ToolClient),
    agent: &Definition,
    state: &mut CallState,
    name: &str,
    arguments: &str,
) -> Deed {
    let Some(tool) = agent.tools.iter().find(|tool| tool.name() == name) else {
        return Deed::Done(json!({"error": "there is no such tool"}));
    };
    let given: Map<String, Value> =
        match serde_json::from_str(if arguments.trim().is_empty() { "{}" } else { arguments }) {
            Ok(Value::Object(given)) => given,
            _ => return Deed::Done(json!({"error": "the arguments must be a JSON object"})),
        };
    match tool {
        Tool::EndCall {} => Deed::End,
        Tool::Transfer { to, .. } => Deed::Transfer(to.clone()),
        Tool::PressDigits {} => {
            let keys = given.get("digits").and_then(Value::as_str).unwrap_or_default();
            let fits = (1..=32).contains(&keys.len()) && keys.chars().all(|key| "0123456789*#".contains(key));
            if fits {
                Deed::Keys(keys.to_owned())
            } else {
                Deed::Done(json!({"error": "digits must be 1 to 32 of 0-9, * and #"}))
            }
        }
        Tool::SuppressNumber {} => {
            let (ctx, state) = (ctx.clone(), state.clone());
            let suppress = async move {
                match conversation::suppress(&ctx, &state).await {
                    Ok(true) => Came::done("suppressed", true.into()),
                    Ok(false) => Came::not(NO_NUMBER),
                    Err(error) => {
                        tracing::error!(attempt.id = %state.attempt, error = format!("{error:#}"), "a number was not suppressed");
                        Came::not(NOT_WRITTEN)
                    }
                }
            };
            Deed::Later(suppress.boxed())
        }
        Tool::AgreeTime {} => {
            let at = given.get("at").and_then(Value::as_str).and_then(|at| DateTime::parse_from_rfc3339(at).ok());
            match at {
                Some(at) => {
                    let (ctx, state) = (ctx.clone(), state.clone());
                    Deed::Later(async move { agree(&ctx, &state, at).await }.boxed())
                }
                None => Deed::Done(json!({"error": "at must be a time such as 2026-11-20T15:00:00+01:00"})),
            }
        }
        Tool::RecordOutcome { fields } => match outcome(fields, &given) {
            Ok(fields) => {
                state.memory.outcome.extend(fields);
                Deed::Done(json!({"ok": true}))
            }
            Err(why) => Deed::Done(json!({"error": why})),
        },
        Tool::Http { url, time_limit_ms, .. } => {
            let (client, url, limit) = (client.clone(), url.clone(), Duration::from_millis((*time_limit_ms).into()));
            let body = json!({"call_id": state.attempt, "arguments": given});
            Deed::Later(async move { Came { output: client.ask(&url, &body, limit).await, outcome: None } }.boxed())
        }
    }
}
