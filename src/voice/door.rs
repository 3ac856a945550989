//! The handshake of a media stream: a ticket of its own, the carrier's signature, and room.

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    calls::Ticket,
    carriers::twilio::signature::{self, Body, Keys},
    dialing::overview,
    error::{ApiError, Slug},
    ids::Carrier,
    telemetry::metrics::{self, TurnedAway},
    voice::{opening, registry::Sessions, wire::Wire},
};

/// Largest message of a stream, bytes: a second of sound is some 11 kB.
const MOST_BYTES: usize = 64 * 1024;
/// Characters of a ticket: 32 bytes in base64url.
const TICKET_CHARS: usize = 43;

/// The routes that carriers open. The carriers are named, so that any other word is a path that does not exist.
pub fn router(sessions: Sessions) -> Router {
    Router::new()
        .route("/media/twilio/{token}", get(twilio))
        .route("/media/telnyx/{token}", get(telnyx))
        .route("/media/session/{token}", get(without_carrier))
        .with_state(sessions)
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

async fn twilio(
    State(sessions): State<Sessions>,
    Path(token): Path<String>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    media(sessions, Some(Carrier::Twilio), &token, &headers, upgrade).await
}

async fn telnyx(
    State(sessions): State<Sessions>,
    Path(token): Path<String>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    media(sessions, Some(Carrier::Telnyx), &token, &headers, upgrade).await
}

async fn without_carrier(
    State(sessions): State<Sessions>,
    Path(token): Path<String>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    media(sessions, None, &token, &headers, upgrade).await
}

/// Takes a stream, or refuses it in words: 403 without a ticket for it, 422 for a request that opens no WebSocket, 503 where
/// there is no room or the program stops. What is refused for want of room has not used its ticket up.
async fn media(
    sessions: Sessions,
    carrier: Option<Carrier>,
    token: &str,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let refuse = |why: &'static str, error: ApiError| {
        metrics::media_refused(why);
        tracing::info!(why, "a media stream was refused");
        error
    };
    let forbidden = || ApiError::new(Slug::Forbidden, "This stream is not for a call of ours.");
    if token.len() != TICKET_CHARS {
        return Err(refuse("token", forbidden()));
    }
    let Ok(upgrade) = upgrade else {
        let detail = "Open a WebSocket here: the headers `Connection: Upgrade` and `Upgrade: websocket` are missing.";
        return Err(refuse("no upgrade", ApiError::new(Slug::Validation, detail)));
    };
    let full = || ApiError::new(Slug::AtCapacity, "This program takes on no more conversations.").retry_after(1);
    let Some(seat) = sessions.seat() else {
        // The ticket is not used up: the carrier may come again. Who has none is not counted as a call.
        let known = sessions.ctx().calls.look_at(token).await?;
        if known.is_none_or(|ticket| ticket.carrier != carrier) {
            return Err(refuse("token", forbidden()));
        }
        overview::count_rejected(sessions.ctx(), TurnedAway::Rejected).await;
        return Err(refuse("full", full()));
    };
    let ticket = sessions.ctx().calls.take(token).await?.filter(|ticket| ticket.carrier == carrier);
    let Some(ticket) = ticket else { return Err(refuse("token", forbidden())) };
    if carrier == Some(Carrier::Twilio)
        && let Err(why) = signed(&sessions, &ticket, token, headers).await?
    {
        tracing::warn!(attempt.id = %ticket.attempt, why, "a media stream with a ticket and without the carrier's signature");
        return Err(refuse("signature", forbidden()));
    }
    let wire = match (carrier, ticket.frames.as_deref()) {
        (Some(Carrier::Twilio), _) => Wire::Twilio,
        (Some(Carrier::Telnyx), _) => Wire::Telnyx,
        (None, Some("pcm16")) => Wire::Pcm16,
        (None, Some("twilio")) => Wire::Twilio,
        (None, _) => Wire::Mulaw,
    };
    // The library's read buffer of 128 KiB would be touched for every call.
    let upgrade =
        upgrade.read_buffer_size(4_096).write_buffer_size(0).max_message_size(MOST_BYTES).max_frame_size(MOST_BYTES);
    let response = upgrade.on_upgrade(move |socket| async move {
        opening::run(sessions, seat, socket, wire, ticket).await;
    });
    debug_assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    Ok(response.into_response())
}

/// Whether the handshake is signed by the account of the call, over the address that the ticket was given for.
async fn signed(
    sessions: &Sessions,
    ticket: &Ticket,
    token: &str,
    headers: &HeaderMap,
) -> Result<Result<(), &'static str>, ApiError> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(given) = header(signature::SIGNATURE_HEADER) else { return Ok(Err("no signature")) };
    let Some(account) = sessions.ctx().account(ticket.business, &ticket.account).await? else {
        return Ok(Err("no account"));
    };
    let keys = Keys { auth_tokens: &account.signers, shared_keys: &[] };
    let settings = header(signature::SETTINGS_HEADER);
    // Twilio: "if it fails, try with a trailing slash".
    let fits = ["", "/"].into_iter().any(|end| {
        let url = format!("{}/{token}{end}", ticket.media_url);
        signature::verify(keys, given, settings, &url, Body::None).is_ok()
    });
    Ok(if fits { Ok(()) } else { Err("signature") })
}
