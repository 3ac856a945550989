//! The carriers' door: verify, apply in one round trip, answer.
//!
//! Invariant: an unauthentic request changes nothing; an authentic event is applied before it is answered 2xx, or it is not
//! answered 2xx. There is no inbox and no work after the answer.
//! Not here: what an event does (`dialing::finish`), and the carriers' formats (`carriers`).

mod answer;
mod twilio;

use axum::{Router, routing::post};

use crate::{context::Context, error::ApiError};

/// Routes of the public surface whose rule is not built yet: they say so, whoever asks.
const NOT_AVAILABLE: [(&str, &str); 5] = [
    ("/webhooks/twilio/amd/{token}", "Machine detection"),
    ("/webhooks/twilio/recording/{token}", "Recording"),
    ("/webhooks/twilio/inbound/{token}", "Inbound calls"),
    ("/webhooks/telnyx/{token}", "Calling through Telnyx"),
    ("/webhooks/telnyx/inbound/{token}", "Inbound calls through Telnyx"),
];

/// The routes that carriers call.
pub fn router() -> Router<Context> {
    NOT_AVAILABLE.into_iter().fold(twilio::router(), |router, (path, what)| {
        router.route(path, post(move || async move { ApiError::not_available("", what) }))
    })
}
