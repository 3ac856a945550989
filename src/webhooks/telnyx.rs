//! Telnyx's webhooks: one address for all events of a call.
//!
//! Any answer but exactly 200 counts as a failure there, and a 4xx as one for good: what may succeed later is answered 503.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::{
    Router,
    extract::{DefaultBodyLimit, OriginalUri, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};

use crate::{
    attempts::{recordings, speech, state::Source},
    carriers::{
        Account, CallEvent, CallState, Told,
        telnyx::{
            incoming,
            signature::{self, SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER},
            webhook,
        },
    },
    context::Context,
    dialing::{answer, finish, inbound::by_command, machine},
    error::ApiError,
    ids::{AttemptId, BusinessId, Carrier},
    killpoints::{Point, reach},
    telemetry::{
        metrics::{self, Refused, Webhook},
        traces,
    },
    webhooks::{
        listened, log_applied, recorded, refuse,
        sent::{Token, Whole},
    },
};

/// An event is some 2 kB; nothing that Telnyx sends for a call comes near this.
const MOST_BYTES: usize = 64 * 1024;

pub(super) fn router() -> Router<Context> {
    Router::new().route("/webhooks/telnyx/{token}", post(told)).layer(DefaultBodyLimit::max(MOST_BYTES))
}

async fn told(
    State(ctx): State<Context>,
    Token(token): Token,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<StatusCode, ApiError> {
    let begin = Instant::now();
    let Some(key) = ctx.tokens.read(&token) else { return Err(refuse(Refused::Token, "token")) };
    let (account, told) = signed(&ctx, key.0, &headers, &body).await?;
    let webhook = match other_leg(&ctx, &account, &told, &body).await? {
        Some(webhook) => webhook,
        None => happened(&ctx, key, &account, told, (listened(&uri), begin)).await?,
    };
    metrics::webhook_applied(webhook, begin.elapsed());
    reach(Point::K7).await;
    Ok(StatusCode::OK)
}

/// What follows from an event of the other leg of a call that was put through; `None` where it is none: such a leg is nobody's
/// attempt.
pub(super) async fn other_leg(
    ctx: &Context,
    account: &Account,
    told: &Told,
    body: &[u8],
) -> Result<Option<Webhook>, ApiError> {
    let Some(call_id) = incoming::rung(body).and_then(|rung| rung.leg_of) else { return Ok(None) };
    if let Told::Moved(CallEvent { state: CallState::Ended(_), .. }) = told {
        by_command::leg_is_over(ctx, account, &call_id).await?;
    }
    Ok(Some(Webhook::Status))
}

/// Does what an authentic event asks for. `listened`: the carrier listens for who picks up.
pub(super) async fn happened(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    account: &Account,
    mut told: Told,
    (listened, begin): (bool, Instant),
) -> Result<Webhook, ApiError> {
    if let Some(event) = told.event_mut() {
        named(ctx, key, account, event).await?;
    }
    Ok(match told {
        Told::Moved(mut event) => {
            if listened {
                machine::ended(ctx, key, &mut event, begin).await;
            }
            let mut step = traces::asked_since(key.1, "webhook status", begin);
            step.says("state", event.state.as_str());
            moved(ctx, key, account, &event, begin).await?
        }
        Told::Detected(event) => {
            apply(ctx, key, &event, begin).await?;
            machine::detected(ctx, account, key, &event, false).await?;
            Webhook::Status
        }
        Told::GreetingOver(event) => {
            apply(ctx, key, &event, begin).await?;
            machine::detected(ctx, account, key, &event, true).await?;
            Webhook::Status
        }
        Told::SpeechOver(event) if listened => {
            machine::spoken(ctx, account, key, event.call_id.as_deref()).await?;
            Webhook::Answer
        }
        Told::SpeechOver(event) => {
            answer::over(ctx, account, key, event.call_id.as_deref()).await?;
            Webhook::Answer
        }
        Told::MessageLeft(event) => {
            machine::left(ctx, account, key, event.call_id.as_deref()).await?;
            Webhook::Answer
        }
        Told::StreamOver(event) => {
            if let Some(call_id) = &event.call_id {
                answer::stream_over(ctx, account, key, call_id).await?;
            }
            Webhook::Answer
        }
        Told::Recorded(_, recording) => {
            recorded(ctx, key, &recording).await?;
            Webhook::Recording
        }
        Told::RecordedSomewhere(_) => {
            recordings::ask_now(&ctx.stores.pg, key).await?;
            Webhook::Recording
        }
        Told::Other(name) => {
            tracing::debug!(attempt.id = %key.1, event = name, "an event that changes nothing");
            Webhook::Status
        }
    })
}

/// Telnyx leaves the call's id out of some events, and of a few the connection: the token names the attempt, the ledger knows its
/// call, and the key that signed is the account's.
async fn named(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    account: &Account,
    event: &mut CallEvent,
) -> sqlx::Result<()> {
    event.account.get_or_insert_with(|| account.reference.clone());
    if event.call_id.is_none() {
        event.call_id = speech::whom(&ctx.stores.pg, key.1).await?.and_then(|(_, call_id)| call_id);
    }
    Ok(())
}

/// Applies how far a call has come; one that was answered is told what it hears.
async fn moved(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    account: &Account,
    event: &CallEvent,
    begin: Instant,
) -> Result<Webhook, ApiError> {
    match (event.state, &event.call_id) {
        (CallState::Answered, Some(call_id)) => {
            let _step = traces::step(key.1, "say");
            answer::by_command(ctx, account, key, Source::Webhook, (call_id, event.at)).await?;
            Ok(Webhook::Answer)
        }
        _ => {
            apply(ctx, key, event, begin).await?;
            Ok(Webhook::Status)
        }
    }
}

async fn apply(ctx: &Context, key: (BusinessId, AttemptId), event: &CallEvent, begin: Instant) -> Result<(), ApiError> {
    let change = finish::callback(ctx, key, event, begin).await?;
    log_applied(key.1, event, change.as_ref());
    Ok(())
}

/// The account and what an authentic request tells, for a business that our token named.
///
/// A key of that business's account must have signed the body, lately, and what the body names must be that account.
pub(super) async fn signed(
    ctx: &Context,
    business: BusinessId,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Account, Told), ApiError> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(signed), Some(timestamp)) = (header(SIGNATURE_HEADER), header(TIMESTAMP_HEADER)) else {
        return Err(refuse(Refused::Signature, "no signature"));
    };
    let no_account = || refuse(Refused::Account, "account");
    let mut account = ctx.account_at(business, Carrier::Telnyx).await?.ok_or_else(no_account)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let verify = |account: &Account| signature::verify(&account.signers, signed, timestamp, body, now);
    let mut verdict = verify(&account);
    if verdict == Err(SignatureError::Mismatch) {
        // What is remembered of the account may be older than a key that was changed just now.
        ctx.profiles.forget(business);
        account = ctx.account_at(business, Carrier::Telnyx).await?.ok_or_else(no_account)?;
        verdict = verify(&account);
    }
    verdict.map_err(|error| refuse(Refused::Signature, &error.to_string()))?;
    let told = webhook::read(body).map_err(|error| refuse(Refused::Body, &error.to_string()))?;
    match told.event().and_then(|event| event.account.as_deref()) {
        Some(named) if named != account.reference => Err(refuse(Refused::Account, "another account")),
        _ => Ok((account, told)),
    }
}
