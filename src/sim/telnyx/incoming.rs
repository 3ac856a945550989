//! Calls that come in: parked until they are answered, refused, or given up by whoever rings.
use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::{
    Order, Refusal,
    request::{Detects, retries},
};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    dial::{self, Dial},
    twilio::token_of,
};

/// So long somebody lets it ring.
const PATIENCE: Duration = Duration::from_secs(60);
/// Telnyx ends a call that came in after so long at the latest.
const TIME_LIMIT: Duration = Duration::from_secs(14_400);

/// A call from somebody to a number of a connection whose webhooks go to `url`.
pub(crate) fn inbound(from: &str, to: &str, url: &str) -> Dial {
    let order = Order {
        client_state: None,
        webhook_url: Some(url.to_owned()),
        retries: Map::new(),
        detects: Detects::Nothing,
        streaming: None,
        record: false,
        leg: Uuid::new_v4(),
        session: Uuid::new_v4(),
    };
    Dial {
        to: to.to_owned(),
        from: from.to_owned(),
        ring_limit: PATIENCE,
        time_limit: TIME_LIMIT,
        token: None,
        order: dial::Order::Telnyx(order),
        inbound: true,
    }
}

/// `answer`: what it says of later webhooks holds from now on.
pub(super) fn answer(shared: &Arc<Shared>, id: CallId, body: &Map<String, Value>) -> Result<(), Refusal> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let (state, url, policies) = (text("client_state"), text("webhook_url"), retries(body)?);
    if state.as_deref().is_some_and(|state| STANDARD.decode(state).is_err()) {
        return Err(Refusal::field(90017, "/client_state", "client_state is not base64"));
    }
    if url.as_deref().is_some_and(|url| Url::parse(url).is_err()) {
        return Err(Refusal::field(10015, "/webhook_url", "webhook_url is not a URL"));
    }
    {
        let mut world = shared.world();
        let call = world.call_mut(id);
        if let Some(url) = &url {
            call.token = token_of(url);
        }
        if let dial::Order::Telnyx(order) = &mut call.dial.order {
            order.client_state = state.or_else(|| order.client_state.take());
            order.webhook_url = url.or_else(|| order.webhook_url.take());
            order.retries = policies;
        }
    }
    if shared.advance(id, Status::InProgress, None) { Ok(()) } else { Err(Refusal::ended()) }
}

/// `reject`, with the SIP answer that its cause stands for.
pub(super) fn reject(shared: &Arc<Shared>, id: CallId, body: &Map<String, Value>) -> Result<(), Refusal> {
    let (end, sip) = match body.get("cause").and_then(Value::as_str) {
        Some("USER_BUSY") => (Status::Busy, 486),
        Some("CALL_REJECTED") => (Status::Failed, 603),
        Some("NOT_FOUND") => (Status::Failed, 404),
        Some("TEMPORARILY_UNAVAILABLE") => (Status::NoAnswer, 480),
        Some(_) => return Err(Refusal::field(10032, "/cause", "cause is not one of those that there are")),
        None => return Err(Refusal::field(10004, "/cause", "cause is required")),
    };
    if shared.advance(id, end, Some(sip)) { Ok(()) } else { Err(Refusal::ended()) }
}
