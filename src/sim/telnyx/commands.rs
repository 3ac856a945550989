//! Commands on a call: take or refuse it, hang up, speak, stream, send tones, and transfer.
use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::HeaderMap,
};
use serde_json::{Value, json};

use super::{
    Refusal, authenticate,
    conversation::{put_through, speak},
    incoming,
    streaming::{self, Streaming},
    struck,
};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    faults::{ApiFault, Subject, draw},
};

/// Longest text that is spoken, characters.
const MAX_SPOKEN: usize = 3_000;

/// `POST /calls/{id}/actions/{command}`.
pub(crate) async fn command(
    State(shared): State<Arc<Shared>>,
    Path((sid, command)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let id = find(&shared, &sid, &headers)?;
    let fault = {
        let mut world = shared.world();
        let world = &mut *world;
        draw(&mut world.faults.update, Subject::default(), &mut world.random)
            .map(|rule| (rule.kind, rule.retry_after_secs))
    };
    struck(fault.filter(|(kind, _)| *kind != ApiFault::LostAnswer))?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    act(&shared, id, &command, &body)?;
    struck(fault)?;
    Ok(Json(json!({ "data": { "result": "ok" } })))
}

fn act(shared: &Arc<Shared>, id: CallId, command: &str, body: &Value) -> Result<(), Refusal> {
    let now = shared.status(id);
    if now.is_final() {
        return Err(Refusal::ended());
    }
    let fields = body.as_object().cloned().unwrap_or_default();
    match command {
        "hangup" => {
            // Before the answer there is nothing to complete: the call counts as cancelled.
            let end = if now == Status::InProgress { Status::Completed } else { Status::Canceled };
            shared.advance(id, end, (end == Status::Completed && shared.config.telnyx_unclear_ends).then_some(0));
        }
        "answer" | "reject" if !shared.world().call(id).dial.inbound => return Err(Refusal::not_found()),
        // Which code Telnyx answers a second time with is not documented.
        "answer" | "reject" if now == Status::InProgress => {
            if is_new(shared, id, body) {
                return Err(Refusal::new(422, 10015, "Call has been answered already"));
            }
        }
        "answer" => {
            if is_new(shared, id, body) {
                incoming::answer(shared, id, &fields)?;
            }
        }
        "reject" => incoming::reject(shared, id, &fields)?,
        "speak" => {
            let words = words(body)?;
            if now != Status::InProgress {
                return Err(Refusal::new(422, 90034, "Call not answered yet"));
            }
            if is_new(shared, id, body) {
                let text = |name: &str| body[name].as_str().map(str::to_owned);
                speak(shared, id, words, text("stop").is_some(), text("client_state"));
            }
        }
        "streaming_start" | "streaming_stop" | "send_dtmf" | "transfer" if now != Status::InProgress => {
            return Err(Refusal::new(422, 90034, "Call not answered yet"));
        }
        "streaming_start" => {
            let streaming = Streaming::read(&fields)?;
            let streaming = streaming.ok_or_else(|| Refusal::field(10004, "/stream_url", "stream_url is required"))?;
            if is_new(shared, id, body) {
                streaming::start(shared, id, streaming)?;
            }
        }
        "streaming_stop" => streaming::stop(shared, id)?,
        "send_dtmf" => {
            let digits =
                body["digits"].as_str().ok_or_else(|| Refusal::field(10004, "/digits", "digits is required"))?;
            if is_new(shared, id, body) {
                shared.world().call_mut(id).heard.push(format!("[digits {digits}]"));
            }
        }
        "transfer" => {
            let to = body["to"].as_str().ok_or_else(|| Refusal::field(10004, "/to", "to is required"))?;
            if is_new(shared, id, body) {
                put_through(shared, id, to);
            }
        }
        _ => return Err(Refusal::not_found()),
    }
    Ok(())
}

/// The call of an id, if this key may see it.
pub(super) fn find(shared: &Shared, sid: &str, headers: &HeaderMap) -> Result<CallId, Refusal> {
    super::key(headers)?;
    let (id, account) = {
        let world = shared.world();
        let id = world.find(sid).filter(|id| world.call(*id).dial.telnyx().is_some()).ok_or_else(Refusal::not_found)?;
        (id, world.call(id).account.clone())
    };
    authenticate(shared, &account, headers)?;
    Ok(id)
}

fn words(body: &Value) -> Result<String, Refusal> {
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    let payload = text("payload").ok_or_else(|| Refusal::field(10004, "/payload", "payload is required"))?;
    text("voice").ok_or_else(|| Refusal::field(10004, "/voice", "voice is required"))?;
    if payload.chars().count() > MAX_SPOKEN {
        return Err(Refusal::field(10033, "/payload", "payload is too long"));
    }
    Ok(payload.to_owned())
}

/// False for a command whose id this call has had.
fn is_new(shared: &Shared, id: CallId, body: &Value) -> bool {
    let Some(command) = body["command_id"].as_str() else { return true };
    let mut world = shared.world();
    let scope = world.call(id).sid.clone();
    if world.telnyx.double_of(&scope, command).is_some() {
        return false;
    }
    world.telnyx.remember(&scope, command, id);
    true
}
