//! Twilio's requests: status callbacks and the question what an answered call shall hear.
//!
//! The URL that a signature is checked over is built from `PUBLIC_BASE_URL` and the raw path and query, never from Host or
//! forwarded headers: those are the client's to choose.

use std::time::Instant;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequest, OriginalUri, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};

use crate::{
    carriers::{
        Account, AnsweredBy, CallEvent, Speech,
        twilio::{
            callback::{self, CallbackError},
            form::Form,
            signature::{self, Body, Keys, SignatureError},
            twiml,
        },
    },
    config::without_slash,
    context::Context,
    dialing::{
        answer::{self, Hears},
        finish,
        machine::{self, After},
    },
    error::ApiError,
    ids::{AttemptId, BusinessId},
    killpoints::{Point, reach},
    telemetry::{
        metrics::{self, Refused, Webhook},
        traces,
    },
    webhooks::{
        asked, listened, log_applied, recorded, refuse,
        sent::{Token, Whole},
    },
};

/// A callback is some 1 kB; nothing that Twilio sends comes near this.
const MOST_BYTES: usize = 64 * 1024;
/// A call that waits for who picked up asks again after so many seconds.
const WAIT_SECS: u32 = 1;

/// A request of Twilio's, not yet believed.
#[derive(FromRequest)]
pub(super) struct Sent {
    /// The last segment of the path.
    pub(super) token: Token,
    /// As the client wrote it.
    uri: OriginalUri,
    headers: HeaderMap,
    body: Whole,
}

pub(super) fn router() -> Router<Context> {
    Router::new()
        .route("/webhooks/twilio/status/{token}", post(status))
        .route("/webhooks/twilio/answer/{token}", post(what_to_say))
        .route("/webhooks/twilio/amd/{token}", post(detected))
        .route("/webhooks/twilio/resume/{token}", post(resume))
        .route("/webhooks/twilio/stream/{token}", post(stream_told))
        .route("/webhooks/twilio/recording/{token}", post(recording))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
}

async fn status(State(ctx): State<Context>, sent: Sent) -> Result<StatusCode, ApiError> {
    let begin = Instant::now();
    let (key, mut event) = verified(&ctx, &sent).await?;
    if listened(&sent.uri) {
        machine::ended(&ctx, key, &mut event, begin).await;
    }
    let mut step = traces::asked_since(key.1, "webhook status", begin);
    step.says("state", event.state.as_str());
    let change = finish::callback(&ctx, key, &event, begin).await?;
    log_applied(key.1, &event, change.as_ref());
    metrics::webhook_applied(Webhook::Status, begin.elapsed());
    reach(Point::K7).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn what_to_say(State(ctx): State<Context>, sent: Sent) -> Result<Response, ApiError> {
    let begin = Instant::now();
    let (key, event) = verified(&ctx, &sent).await?;
    let mut step = traces::asked_since(key.1, "webhook answer", begin);
    let hears = match listened(&sent.uri) {
        true => machine::hears(&ctx, key, &event).await?,
        false => answer::what_it_hears(&ctx, key, &event).await?,
    };
    if matches!(hears, Hears::Nothing) {
        step.failed("it hears nothing");
    }
    let document = document(&ctx, &sent.token.0, key.1, hears);
    metrics::webhook_applied(Webhook::Answer, begin.elapsed());
    Ok(([(header::CONTENT_TYPE, twiml::CONTENT_TYPE)], document).into_response())
}

/// Who picked up, where that is told beside the call.
async fn detected(State(ctx): State<Context>, sent: Sent) -> Result<StatusCode, ApiError> {
    let begin = Instant::now();
    let read = |form: &Form| {
        let event = callback::detection(form)?;
        Ok((event.account.clone().unwrap_or_default(), event))
    };
    let (key, event) = authentic(&ctx, &sent, read).await?;
    let _step = traces::asked_since(key.1, "webhook detection", begin);
    let change = finish::callback(&ctx, key, &event, begin).await?;
    log_applied(key.1, &event, change.as_ref());
    let named = event.account.as_deref().unwrap_or_default();
    if let Some(account) = ctx.account(key.0, named).await? {
        // Where it was asked for, Twilio tells of a machine when its greeting is over.
        machine::detected(&ctx, &account, key, &event, event.answered_by == Some(AnsweredBy::Machine)).await?;
    }
    metrics::webhook_applied(Webhook::Status, begin.elapsed());
    Ok(StatusCode::NO_CONTENT)
}

/// What was said is said and the call is still there: it goes on, or is over. So it is after a media stream that we closed.
async fn resume(State(ctx): State<Context>, sent: Sent) -> Result<Response, ApiError> {
    let (key, event) = verified(&ctx, &sent).await?;
    let hears = machine::goes_on(&ctx, key, &event, After::read(asked(&sent.uri, "after"))).await?;
    let document = document(&ctx, &sent.token.0, key.1, hears);
    Ok(([(header::CONTENT_TYPE, twiml::CONTENT_TYPE)], document).into_response())
}

/// What Twilio says of a stream is for the log: the session knows more, and the call's own end is told elsewhere.
async fn stream_told(
    State(ctx): State<Context>,
    Token(token): Token,
    Whole(body): Whole,
) -> Result<StatusCode, ApiError> {
    let Some((_, attempt)) = ctx.tokens.read(&token) else { return Err(refuse(Refused::Token, "token")) };
    tracing::debug!(attempt.id = %attempt, bytes = body.len(), "the carrier told of a media stream");
    Ok(StatusCode::NO_CONTENT)
}

/// What Twilio is told to do with a call.
pub(super) fn document(ctx: &Context, token: &str, attempt: AttemptId, hears: Hears) -> String {
    let resume = |after| machine::resume_url(ctx, token, after);
    let then = |Speech { text, language, voice }: Speech, after| {
        twiml::say_and_ask(&text, &language, voice.as_deref(), &resume(after))
    };
    match hears {
        Hears::Speech(speech) => twiml::say_and_hang_up(&speech.text, &speech.language, speech.voice.as_deref()),
        Hears::SpeechThenAsk(speech) => then(speech, After::Message),
        Hears::Voicemail(speech) => then(speech, After::Voicemail),
        Hears::Waits => twiml::wait_and_ask(WAIT_SECS, &resume(After::Message)),
        Hears::Redirect { to, from } => twiml::dial_and_hang_up(&to, &from),
        Hears::Agent(url) => twiml::stream(&url, &[("attempt", &attempt.to_string())], &resume(After::Stream)),
        Hears::Nothing | Hears::Over { .. } => twiml::hang_up(),
    }
}

async fn recording(State(ctx): State<Context>, sent: Sent) -> Result<StatusCode, ApiError> {
    let begin = Instant::now();
    let read = |form: &Form| Ok((callback::account(form)?, callback::recording(form)?));
    let (key, recording) = authentic(&ctx, &sent, read).await?;
    if let Some(recording) = recording {
        recorded(&ctx, key, &recording).await?;
    }
    metrics::webhook_applied(Webhook::Recording, begin.elapsed());
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt and the event of an authentic request.
async fn verified(ctx: &Context, sent: &Sent) -> Result<((BusinessId, AttemptId), CallEvent), ApiError> {
    let read = |form: &Form| {
        let event = callback::call_event(form)?;
        Ok((event.account.clone().unwrap_or_default(), event))
    };
    authentic(ctx, sent, read).await
}

/// The attempt of an authentic request, and what `read` finds in its body besides the account that it says it is of.
///
/// Our token says which business and attempt; the signature must be that business's account's, and the event must name
/// that account. Which of the three failed is for the log alone.
async fn authentic<T>(
    ctx: &Context,
    sent: &Sent,
    read: impl FnOnce(&Form) -> Result<(String, T), CallbackError>,
) -> Result<((BusinessId, AttemptId), T), ApiError> {
    let Some(key) = ctx.tokens.read(&sent.token.0) else { return Err(refuse(Refused::Token, "token")) };
    Ok((key, signed(ctx, key.0, sent, read).await?))
}

/// The same for a business that a token named, whatever else it named.
pub(super) async fn signed<T>(
    ctx: &Context,
    business: BusinessId,
    Sent { uri: OriginalUri(uri), headers, body: Whole(body), .. }: &Sent,
    read: impl FnOnce(&Form) -> Result<(String, T), CallbackError>,
) -> Result<T, ApiError> {
    let Some(signed) = headers.get(signature::SIGNATURE_HEADER).and_then(|value| value.to_str().ok()) else {
        return Err(refuse(Refused::Signature, "no signature"));
    };
    let form = Form::parse(body).map_err(|error| refuse(Refused::Body, &error.to_string()))?;
    let (account, told) = read(&form).map_err(|error| refuse(Refused::Body, &error.to_string()))?;
    let no_account = || refuse(Refused::Account, "account");
    let signer = ctx.account(business, &account).await?.ok_or_else(no_account)?;
    let settings = headers.get(signature::SETTINGS_HEADER).and_then(|value| value.to_str().ok());
    let path = uri.path_and_query().map_or(uri.path(), |raw| raw.as_str());
    let url = format!("{}{path}", without_slash(&ctx.settings.public_base_url));
    let verify = |signer: &Account| {
        let keys = Keys { auth_tokens: &signer.signers, shared_keys: &[] };
        signature::verify(keys, signed, settings, &url, Body::Form(&form))
    };
    let mut verdict = verify(&signer);
    if verdict == Err(SignatureError::Mismatch) {
        // What is remembered of the account may be older than a key that was changed just now.
        ctx.profiles.forget(business);
        verdict = verify(&ctx.account(business, &account).await?.ok_or_else(no_account)?);
    }
    verdict.map_err(|error| refuse(Refused::Signature, &error.to_string()))?;
    Ok(told)
}
