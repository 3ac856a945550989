//! The carriers' door: verify, apply in one round trip, answer.
//!
//! Invariant: an unauthentic request changes nothing; an authentic event is applied before it is answered 2xx, or it is not
//! answered 2xx. There is no inbox and no work after the answer.
//! Not here: what an event does (`dialing::finish`), and the carriers' formats (`carriers`).

mod telnyx;
mod twilio;

use axum::{Router, routing::post};

use crate::{
    attempts::ledger::{Change, Verdict},
    carriers::CallEvent,
    context::Context,
    error::{ApiError, Slug},
    ids::AttemptId,
    telemetry::metrics::{self, Refused},
};

/// Routes of the public surface whose rule is not built yet: they say so, whoever asks.
const NOT_AVAILABLE: [(&str, &str); 6] = [
    ("/webhooks/twilio/amd/{token}", "Machine detection"),
    ("/webhooks/twilio/resume/{token}", "A call that goes on after its conversation"),
    ("/webhooks/twilio/recording/{token}", "Recording"),
    ("/webhooks/twilio/stream/{token}", "Media streaming"),
    ("/webhooks/twilio/inbound/{token}", "Inbound calls"),
    ("/webhooks/telnyx/inbound/{token}", "Inbound calls through Telnyx"),
];

/// The routes that carriers call.
pub fn router() -> Router<Context> {
    NOT_AVAILABLE.into_iter().fold(twilio::router().merge(telnyx::router()), |router, (path, what)| {
        router.route(path, post(move || async move { ApiError::not_available("", what) }))
    })
}

/// Why a request is not believed is for the log alone.
fn refuse(reason: Refused, why: &str) -> ApiError {
    metrics::webhook_refused(reason);
    tracing::warn!(why, "a webhook was refused");
    ApiError::new(Slug::Forbidden, "This request is not signed by the carrier for this call.")
}

/// Says in the log what an event changed.
fn log_applied(attempt: AttemptId, event: &CallEvent, change: Option<&Change>) {
    match change {
        Some(change) if change.verdict == Verdict::Stale => {}
        Some(_) => {
            tracing::debug!(attempt.id = %attempt, call.id = event.call_id, state = event.carrier_status, "callback applied")
        }
        None => {
            tracing::error!(attempt.id = %attempt, call.id = event.call_id, "a callback for an attempt that is not in the ledger")
        }
    }
}
