//! `POST /calls`: reading and answering a dial.
use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{Refusal, authenticate, key, request};
use crate::sim::{
    Shared,
    call::Call,
    clock::Stamp,
    create::{self, Admitted, Manner},
    twilio::token_of,
    wire::Cut,
    world::LogEntry,
};

/// How the double of a dial is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Double {
    /// As the first one was.
    Same,
    /// 200 without a body.
    Empty,
    /// 422.
    Refused,
}

impl std::fmt::Display for Double {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Empty => "empty",
            Self::Refused => "refused",
        })
    }
}

const MANNER: Manner = Manner { refuse: |trouble| Refusal::of(trouble).into(), taken, status: StatusCode::OK };

fn taken(call: &Call) -> Response {
    Json(json!({ "data": row(call) })).into_response()
}

/// The answer to a dial: dialing is asynchronous, so that it never says that the call lives.
fn row(call: &Call) -> Value {
    let Some(order) = call.dial.telnyx() else { return Value::Null };
    json!({
        "record_type": "call", "call_control_id": call.sid, "call_leg_id": order.leg, "call_session_id": order.session,
        "is_alive": false, "client_state": order.client_state,
    })
}

pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = key(&headers) {
        return refusal.into_response();
    }
    let Ok(body) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return Refusal::new(400, 10015, "The body is not a JSON object").into_response();
    };
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let connection = text("connection_id");
    if connection.is_empty() {
        return Refusal::field(10004, "/connection_id", "connection_id is required").into_response();
    }
    if let Err(refusal) = authenticate(&shared, &connection, &headers) {
        return refusal.into_response();
    }
    let entry = LogEntry {
        at_ms: Stamp::now().unix_ms(),
        account: connection.clone(),
        to: text("to"),
        from: text("from"),
        token: token_of(&text("webhook_url")),
        verdict: "accepted".to_owned(),
        code: None,
        sid: None,
        ignored: request::unknown_fields(&body),
    };
    create::create(shared, cut, MANNER, entry, move |shared, tempo, place| {
        let dial = request::read(&body)?;
        let command = body.get("command_id").and_then(Value::as_str);
        if let Some(double) = command.and_then(|command| double(shared, &connection, command)) {
            return Ok(Admitted::Double(double));
        }
        if !shared.world().telnyx.paced(&connection, shared.config.telnyx_dps) {
            return Err(Refusal::dials_per_second().into());
        }
        let id = shared.accept(&connection, dial, tempo, place).map_err(Refusal::of)?;
        if let Some(command) = command {
            shared.world().telnyx.remember(&connection, command, id);
        }
        Ok(Admitted::New(id))
    })
    .await
}

/// The answer to a dial whose `command_id` was there before; none where it was not.
fn double(shared: &Shared, connection: &str, command: &str) -> Option<Response> {
    let world = shared.world();
    let id = world.telnyx.double_of(connection, command)?;
    Some(match shared.config.telnyx_double {
        Double::Same => taken(world.call(id)),
        Double::Empty => StatusCode::OK.into_response(),
        Double::Refused => Refusal::new(422, 10015, "Duplicate command_id").into_response(),
    })
}
