//! Somebody rings a number of ours: the carrier asks what to do, at an address that names the business alone. The same address
//! takes the word that such a call is over.

use std::time::Instant;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};

use crate::{
    attempts::inbound,
    carriers::{
        CallState,
        twilio::{callback, twiml},
    },
    context::Context,
    dialing::{
        answer::Hears,
        finish,
        inbound::{Ringing, ring},
    },
    error::ApiError,
    ids::Carrier,
    telemetry::metrics::{self, Refused, Webhook},
    webhooks::{
        log_applied, refuse,
        twilio::{self, Sent},
    },
};

/// A request is some 1 kB.
const MOST_BYTES: usize = 64 * 1024;

pub(super) fn router() -> Router<Context> {
    Router::new().route("/webhooks/twilio/inbound/{token}", post(rung)).layer(DefaultBodyLimit::max(MOST_BYTES))
}

async fn rung(State(ctx): State<Context>, sent: Sent) -> Result<Response, ApiError> {
    let begin = Instant::now();
    let Some(business) = ctx.tokens.read_inbound(&sent.token) else { return Err(refuse(Refused::Token, "token")) };
    let read = |body: &[u8]| {
        let event = callback::call_event(body)?;
        Ok((event.account.clone().unwrap_or_default(), (event, callback::numbers(body)?)))
    };
    let (event, (theirs, ours)) = twilio::signed(&ctx, business, &sent, read).await?;
    let (Some(account), Some(call_id)) = (event.account.as_deref(), event.call_id.as_deref()) else {
        return Err(refuse(Refused::Body, "no call"));
    };
    if let CallState::Ended(_) = event.state {
        if let Some(attempt) = inbound::known(&ctx.stores.pg, business, account, call_id).await? {
            let change = finish::callback(&ctx, (business, attempt), &event).await?;
            log_applied(attempt, &event, change.as_ref());
        }
        metrics::webhook_applied(Webhook::Status, begin.elapsed());
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let ringing = Ringing { carrier: Carrier::Twilio, account, call_id, ours: &ours, theirs: &theirs };
    let (attempt, hears) = ring(&ctx, business, ringing, &event).await?;
    let document = match (attempt, hears) {
        (Some(attempt), hears) => {
            let token = ctx.tokens.make(business, attempt);
            twilio::document(&ctx, &token, attempt, hears)
        }
        (None, Hears::Speech(speech)) => {
            twiml::say_and_hang_up(&speech.text, &speech.language, speech.voice.as_deref())
        }
        (None, _) => twiml::hang_up(),
    };
    metrics::webhook_applied(Webhook::Answer, begin.elapsed());
    Ok(([(header::CONTENT_TYPE, twiml::CONTENT_TYPE)], document).into_response())
}
