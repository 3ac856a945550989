//! OpenAI chat completions: `POST /v1/chat/completions`, at once or as server-sent events.
use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{OriginalUri, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Provider, ProviderFault, Session,
    brain::{Question, Reply},
    key_of,
};
use crate::sim::{Shared, clock::Stamp};

/// What is read of a request.
#[derive(Debug, Deserialize)]
struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    tools: Vec<Tool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: bool,
    include_obfuscation: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
}

impl Message {
    /// The words, in one part or several.
    fn text(&self) -> String {
        match &self.content {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }
}

pub(super) async fn complete(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let session = match Session::open(&shared, Provider::Chat, key_of(&headers, &["bearer"]), &uri.to_string()) {
        Ok(session) => session,
        Err(refusal) => return refusal.openai(),
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return invalid(&error.to_string()),
    };
    if request.messages.is_empty() {
        return invalid("`messages` is empty");
    }
    let reply = decide(&session, &request);
    session.said(reply.says.clone());
    if session.has(ProviderFault::Silent) || session.has(ProviderFault::HalfOpen) {
        shared.stop.cancelled().await;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let first = session.delay(shared.config.providers.chat_first_ms);
    if !request.stream {
        tokio::time::sleep(first).await;
        return Json(whole(&request, &reply)).into_response();
    }
    let events = Events::new(session, &request, &reply, first);
    let body = Body::from_stream(stream::unfold(events, |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, Infallible>(chunk), events))
    }));
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}

fn invalid(why: &str) -> Response {
    let error = json!({"error": {"message": why, "type": "invalid_request_error", "param": null, "code": null}});
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

fn decide(session: &Session, request: &Request) -> Reply {
    let words = request.messages.iter().rev().find(|message| message.role == "user").map(Message::text);
    let last = request.messages.last().filter(|message| message.role == "tool").map(Message::text);
    let tools: Vec<String> = request.tools.iter().map(|tool| tool.function.name.clone()).collect();
    if let Some(words) = &words {
        session.heard(words.clone());
    }
    session.answer(&Question {
        words: words.as_deref(),
        result: last.as_deref(),
        answers: request.messages.iter().filter(|message| message.role == "assistant").count(),
        tools: &tools,
    })
}

fn usage(request: &Request, reply: &Reply) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let (prompt, completion) = (request.messages.iter().map(|m| words(&m.text())).sum::<usize>(), words(&reply.says));
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

/// The answer in one piece.
fn whole(request: &Request, reply: &Reply) -> Value {
    let mut message = json!({"role": "assistant", "content": reply.says, "refusal": null});
    let mut reason = "stop";
    if !reply.calls.is_empty() {
        reason = "tool_calls";
        let calls = reply.calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
            json!({"id": call_id(), "type": "function", "function": function})
        });
        message["tool_calls"] = calls.collect();
    }
    json!({
        "id": format!("chatcmpl-{}", Uuid::new_v4().simple()), "object": "chat.completion",
        "created": Stamp::now().unix_ms() / 1000, "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": null}],
        "usage": usage(request, reply),
    })
}

fn call_id() -> String {
    format!("call_{}", &Uuid::new_v4().simple().to_string()[..24])
}

/// The answer as events. Each has its delay before it.
struct Events {
    session: Session,
    chunks: std::vec::IntoIter<(Duration, Bytes)>,
}

impl Events {
    fn new(session: Session, request: &Request, reply: &Reply, first: Duration) -> Self {
        let options = request.stream_options.as_ref();
        let pads = options.and_then(|options| options.include_obfuscation).unwrap_or(true);
        let (id, created) = (format!("chatcmpl-{}", Uuid::new_v4().simple()), Stamp::now().unix_ms() / 1000);
        let chunk = |delta: Value, reason: Option<&str>| {
            let mut chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": created, "model": request.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            });
            if pads {
                chunk["obfuscation"] = json!("Xq3p");
            }
            chunk
        };
        let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
        events.extend(reply.says.split_inclusive(' ').map(|word| chunk(json!({"content": word}), None)));
        for (index, call) in reply.calls.iter().enumerate() {
            let function = json!({"name": call.name, "arguments": ""});
            let head = json!({"index": index, "id": call_id(), "type": "function", "function": function});
            events.push(chunk(json!({"tool_calls": [head]}), None));
            let arguments = call.arguments.to_string();
            let half = (0..=arguments.len() / 2).rev().find(|at| arguments.is_char_boundary(*at)).unwrap_or(0);
            for part in [&arguments[..half], &arguments[half..]] {
                let piece = json!({"index": index, "function": {"arguments": part}});
                events.push(chunk(json!({"tool_calls": [piece]}), None));
            }
        }
        events.push(chunk(json!({}), Some(if !reply.calls.is_empty() { "tool_calls" } else { "stop" })));
        if options.is_some_and(|options| options.include_usage) {
            let mut last = chunk(json!({}), None);
            (last["choices"], last["usage"]) = (json!([]), usage(request, reply));
            events.push(last);
        }
        let mut lines: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        lines.push("data: [DONE]\n\n".to_owned());
        let chunks = super::chunks::spoil(&session, lines, first).into_iter();
        Self { session, chunks }
    }

    async fn next(&mut self) -> Option<Bytes> {
        let (delay, chunk) = self.chunks.next()?;
        if chunk.is_empty() {
            // By a fault the answer breaks off here, and nobody says so.
            self.session.shared.stop.cancelled().await;
            return None;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Some(chunk)
    }
}
