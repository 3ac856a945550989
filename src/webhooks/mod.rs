//! The carriers' door: verify, apply in one round trip, answer.
//!
//! Invariant: an unauthentic request changes nothing; an authentic event is applied before it is answered 2xx, or it is not
//! answered 2xx. There is no inbox and no work after the answer.
//! Not here: what an event does (`dialing::finish`), and the carriers' formats (`carriers`).

mod inbound;
mod sent;
mod telnyx;
mod twilio;

use axum::{Router, http::Uri};

use crate::{
    attempts::{
        ledger::{Change, Verdict},
        recordings,
    },
    carriers::{CallEvent, Recording},
    context::Context,
    error::{ApiError, Slug},
    ids::{AttemptId, BusinessId},
    telemetry::metrics::{self, Refused},
};

/// The routes that carriers call.
pub fn router() -> Router<Context> {
    twilio::router().merge(telnyx::router()).merge(inbound::router())
}

/// True where an address says that the carrier listens for who picks up (`DialRequest::detect`).
fn listened(uri: &Uri) -> bool {
    asked(uri, "detect").is_some()
}

/// A value of an address's query.
fn asked<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Why a request is not believed is for the log alone.
fn refuse(reason: Refused, why: &str) -> ApiError {
    metrics::webhook_refused(reason);
    tracing::warn!(why, "a webhook was refused");
    ApiError::new(Slug::Forbidden, "This request is not signed by the carrier for this call.")
}

/// Writes down a recording that is ready.
async fn recorded(ctx: &Context, key: (BusinessId, AttemptId), recording: &Recording) -> Result<(), ApiError> {
    let secs = recording.duration_secs.and_then(|secs| i32::try_from(secs).ok());
    let channels = recording.channels.map(i16::from);
    if recordings::saved(&ctx.stores.pg, key, &recording.id, secs, channels).await? {
        tracing::debug!(attempt.id = %key.1, recording.id = recording.id, "a recording is ready");
    }
    Ok(())
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
