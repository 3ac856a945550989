//! The media door: where a carrier opens the WebSocket that carries the sound of an answered call.
//!
//! Invariant: a stream is refused in words, never opened and left silent; a token that is not ours learns nothing more.
//! Not here: what an answered call hears while there are no media sessions (`webhooks`).

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, header},
    routing::get,
};

use crate::{
    context::Context,
    error::{ApiError, Slug},
    telemetry::metrics,
};

/// The routes that carriers open. The carriers are named, so that any other word is a path that does not exist.
pub fn router() -> Router<Context> {
    Router::new().route("/media/twilio/{token}", get(media)).route("/media/telnyx/{token}", get(media))
}

/// Refuses a media stream: 403 for a token that we did not make, 422 for a request that opens no WebSocket, and 422
/// `not-available` for the rest, because media sessions are not built.
async fn media(State(ctx): State<Context>, Path(token): Path<String>, headers: HeaderMap) -> ApiError {
    let (error, why) = match ctx.tokens.read(&token) {
        None => (ApiError::new(Slug::Forbidden, "This request is not for a call of ours."), "token"),
        Some(_) if !opens_web_socket(&headers) => {
            let detail =
                "Open a WebSocket here: the headers `Connection: Upgrade` and `Upgrade: websocket` are missing.";
            (ApiError::new(Slug::Validation, detail), "no upgrade")
        }
        Some((_, attempt)) => {
            tracing::info!(attempt.id = %attempt, "a media stream was refused: media sessions are not available");
            (ApiError::new(Slug::NotAvailable, "Media sessions: not available yet."), "not available")
        }
    };
    metrics::media_refused(why);
    error
}

/// True where the client asks for a WebSocket (RFC 6455, section 4.2.1).
fn opens_web_socket(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}
