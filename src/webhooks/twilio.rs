//! Twilio's requests: status callbacks and the question what an answered call shall hear.
//!
//! The URL that a signature is checked over is built from `PUBLIC_BASE_URL` and the raw path and query, never from Host or
//! forwarded headers: those are the client's to choose.

use std::time::Instant;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, OriginalUri, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};

use crate::{
    attempts::ledger::Verdict,
    carriers::{
        CallEvent,
        twilio::{
            callback::call_event,
            signature::{self, Body, Keys},
            twiml,
        },
    },
    config::without_slash,
    context::Context,
    dialing::finish,
    error::{ApiError, Slug},
    ids::{AttemptId, BusinessId},
    killpoints::{Point, reach},
    telemetry::{
        metrics::{self, Refused, Webhook},
        traces,
    },
    webhooks::answer::{self, Hears},
};

/// A callback is some 1 kB; nothing that Twilio sends comes near this.
const MOST_BYTES: usize = 64 * 1024;

pub(super) fn router() -> Router<Context> {
    Router::new()
        .route("/webhooks/twilio/status/{token}", post(status))
        .route("/webhooks/twilio/answer/{token}", post(what_to_say))
        .route("/webhooks/twilio/resume/{token}", post(resume))
        .route("/webhooks/twilio/stream/{token}", post(stream_told))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
}

async fn status(
    State(ctx): State<Context>,
    Path(token): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let begin = Instant::now();
    let (key, event) = verified(&ctx, &token, &uri, &headers, &body).await?;
    let mut step = traces::asked_since(key.1, "webhook status", begin);
    step.says("state", event.state.as_str());
    match finish::callback(&ctx, key, &event).await? {
        Some(change) if change.verdict == Verdict::Stale => {}
        Some(_) => {
            tracing::debug!(attempt.id = %key.1, call.id = event.call_id, state = event.carrier_status, "callback applied")
        }
        None => {
            tracing::error!(attempt.id = %key.1, call.id = event.call_id, "a callback for an attempt that is not in the ledger")
        }
    }
    metrics::webhook_applied(Webhook::Status, begin.elapsed());
    reach(Point::K7).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn what_to_say(
    State(ctx): State<Context>,
    Path(token): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let begin = Instant::now();
    let (key, event) = verified(&ctx, &token, &uri, &headers, &body).await?;
    let mut step = traces::asked_since(key.1, "webhook answer", begin);
    let hears = answer::what_it_hears(&ctx, key, &event).await?;
    if matches!(hears, Hears::Nothing) {
        step.failed("it hears nothing");
    }
    let document = document(&ctx, &token, key.1, hears)?;
    metrics::webhook_applied(Webhook::Answer, begin.elapsed());
    Ok(([(header::CONTENT_TYPE, twiml::CONTENT_TYPE)], document).into_response())
}

/// A media stream of ours was closed and the call is still there: it goes on with another stream, or is over.
async fn resume(
    State(ctx): State<Context>,
    Path(token): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (key, _) = verified(&ctx, &token, &uri, &headers, &body).await?;
    let hears = answer::agent(&ctx, key).await?;
    let document = document(&ctx, &token, key.1, hears)?;
    Ok(([(header::CONTENT_TYPE, twiml::CONTENT_TYPE)], document).into_response())
}

/// What Twilio says of a stream is for the log: the session knows more, and the call's own end is told elsewhere.
async fn stream_told(
    State(ctx): State<Context>,
    Path(token): Path<String>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let Some((_, attempt)) = ctx.tokens.read(&token) else {
        return Err(ApiError::new(Slug::Forbidden, "This request is not for a call of ours."));
    };
    tracing::debug!(attempt.id = %attempt, bytes = body.len(), "the carrier told of a media stream");
    Ok(StatusCode::NO_CONTENT)
}

fn document(ctx: &Context, token: &str, attempt: AttemptId, hears: Hears) -> Result<String, ApiError> {
    Ok(match hears {
        Hears::Speech(speech) => twiml::say_and_hang_up(&speech.text, &speech.language, speech.voice.as_deref()),
        Hears::Agent(url) => {
            let resume = ctx.callback_url("twilio/resume", token)?;
            twiml::stream(&url, &[("attempt", &attempt.to_string())], &resume)
        }
        Hears::Nothing => twiml::hang_up(),
    })
}

/// The attempt and the event of an authentic request.
///
/// Our token says which business and attempt; the signature must be that business's account's, and the event must name
/// that account. Which of the three failed is for the log alone.
async fn verified(
    ctx: &Context,
    token: &str,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<((BusinessId, AttemptId), CallEvent), ApiError> {
    let refuse = |reason: Refused, why: &str| {
        metrics::webhook_refused(reason);
        tracing::warn!(why, "a webhook was refused");
        ApiError::new(Slug::Forbidden, "This request is not signed by the carrier for this call.")
    };
    let Some((business, attempt)) = ctx.tokens.read(token) else { return Err(refuse(Refused::Token, "token")) };
    let Some(signed) = headers.get(signature::SIGNATURE_HEADER).and_then(|value| value.to_str().ok()) else {
        return Err(refuse(Refused::Signature, "no signature"));
    };
    let event = call_event(body).map_err(|error| refuse(Refused::Body, &error.to_string()))?;
    let Some(account) = ctx.account(business, &event.account).await? else {
        return Err(refuse(Refused::Account, "account"));
    };
    let settings = headers.get(signature::SETTINGS_HEADER).and_then(|value| value.to_str().ok());
    let path = uri.path_and_query().map_or(uri.path(), |raw| raw.as_str());
    let url = format!("{}{path}", without_slash(&ctx.settings.public_base_url));
    let tokens = [account.secret];
    let keys = Keys { auth_tokens: &tokens, shared_keys: &[] };
    signature::verify(keys, signed, settings, &url, Body::Form(body))
        .map_err(|error| refuse(Refused::Signature, &error.to_string()))?;
    Ok(((business, attempt), event))
}
