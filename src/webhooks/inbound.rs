//! Somebody rings a number of ours: the carrier asks what to do, at an address that names the business alone. The same address
//! takes the word that such a call is over.

use std::time::Instant;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};

use crate::{
    attempts::inbound,
    carriers::{
        Away, CallState, Told,
        telnyx::incoming::{self, Rung},
        twilio::{callback, form::Form, twiml},
    },
    context::Context,
    dialing::{
        answer, finish,
        inbound::{Instead, Ringing, Welcome, by_command, welcome},
    },
    error::ApiError,
    ids::Carrier,
    telemetry::metrics::{self, Refused, Webhook},
    webhooks::{
        log_applied, refuse,
        sent::{Token, Whole},
        telnyx,
        twilio::{self, Sent},
    },
};

/// A request is some 1 kB.
const MOST_BYTES: usize = 64 * 1024;

pub(super) fn router() -> Router<Context> {
    Router::new()
        .route("/webhooks/twilio/inbound/{token}", post(rung))
        .route("/webhooks/telnyx/inbound/{token}", post(rung_by_event))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
}

async fn rung(State(ctx): State<Context>, sent: Sent) -> Result<Response, ApiError> {
    let begin = Instant::now();
    let Some(business) = ctx.tokens.read_inbound(&sent.token.0) else { return Err(refuse(Refused::Token, "token")) };
    let read = |form: &Form| {
        let event = callback::call_event(form)?;
        Ok((event.account.clone().unwrap_or_default(), (event, callback::numbers(form))))
    };
    let (event, (theirs, ours)) = twilio::signed(&ctx, business, &sent, read).await?;
    let (Some(account), Some(call_id)) = (event.account.as_deref(), event.call_id.as_deref()) else {
        return Err(refuse(Refused::Body, "no call"));
    };
    if let CallState::Ended(_) = event.state {
        if let Some(attempt) = inbound::known(&ctx.stores.pg, business, account, call_id).await? {
            let change = finish::callback(&ctx, (business, attempt), &event, begin).await?;
            log_applied(attempt, &event, change.as_ref());
        }
        metrics::webhook_applied(Webhook::Status, begin.elapsed());
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let ringing = Ringing { carrier: Carrier::Twilio, account, call_id, ours: &ours, theirs: &theirs };
    let document = match welcome(&ctx, business, ringing).await? {
        Welcome::Taken(attempt) => {
            let hears = answer::what_it_hears(&ctx, (business, attempt), &event).await?;
            twilio::document(&ctx, &ctx.tokens.make(business, attempt), attempt, hears)
        }
        Welcome::TurnedAway(Instead { speech, redirect: Some(to) }) => {
            twiml::say_dial_and_hang_up(speech.as_ref(), &to, &ours)
        }
        Welcome::TurnedAway(Instead { speech: Some(speech), redirect: None }) => {
            twiml::say_and_hang_up(&speech.text, &speech.language, speech.voice.as_deref())
        }
        Welcome::TurnedAway(_) | Welcome::Nobody => twiml::reject(),
    };
    metrics::webhook_applied(Webhook::Answer, begin.elapsed());
    Ok(([(header::CONTENT_TYPE, twiml::CONTENT_TYPE)], document).into_response())
}

/// Telnyx tells everything of a call here until it is answered for its attempt, and all of one that is turned away.
async fn rung_by_event(
    State(ctx): State<Context>,
    Token(token): Token,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<StatusCode, ApiError> {
    let begin = Instant::now();
    let Some(business) = ctx.tokens.read_inbound(&token) else { return Err(refuse(Refused::Token, "token")) };
    let (account, told) = telnyx::signed(&ctx, business, &headers, &body).await?;
    let no_call = || refuse(Refused::Body, "no call");
    let rung = incoming::rung(&body).ok_or_else(no_call)?;
    let Some(event) = told.event().cloned() else { return Ok(StatusCode::OK) };
    let call_id = event.call_id.as_deref().ok_or_else(no_call)?;
    if let Some(webhook) = telnyx::other_leg(&ctx, &account, &told, &body).await? {
        metrics::webhook_applied(webhook, begin.elapsed());
        return Ok(StatusCode::OK);
    }
    let Rung { ours, theirs, incoming, away, .. } = &rung;
    let ringing = Ringing { carrier: Carrier::Telnyx, account: &account.reference, call_id, ours, theirs };
    let known = inbound::known(&ctx.stores.pg, business, &account.reference, call_id).await?;
    let webhook = match (&told, known) {
        (Told::Moved(event), _) if event.state == CallState::Initiated && *incoming => {
            by_command::ring(&ctx, &account, business, ringing).await?;
            Webhook::Answer
        }
        (_, Some(attempt)) => telnyx::happened(&ctx, (business, attempt), &account, told, (false, begin)).await?,
        (Told::Moved(event), None) if event.state == CallState::Answered && *away == Some(Away::Answered) => {
            by_command::answered(&ctx, &account, business, ringing).await?;
            Webhook::Answer
        }
        (Told::SpeechOver(_), None) if *away == Some(Away::Said) => {
            by_command::said(&ctx, &account, business, ringing).await?;
            Webhook::Answer
        }
        (_, None) => {
            tracing::debug!(call.id = call_id, event = event.carrier_status, "an event of a call that has no attempt");
            Webhook::Status
        }
    };
    metrics::webhook_applied(webhook, begin.elapsed());
    Ok(StatusCode::OK)
}
