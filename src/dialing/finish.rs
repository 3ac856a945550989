//! What follows from a change in the ledger: the slot is released, the next is rung for, a second call is written down.
//!
//! It runs after the commit and changes no fact; if the process dies before it, the sweep does the same within seconds.

use std::time::{Duration, Instant};

use crate::{
    attempts::{
        events::Event,
        ledger::{Change, Said, Verdict},
        queued, speech,
        state::Source,
    },
    businesses::health,
    carriers::{AnsweredBy, CallEvent, CallState, Disposition},
    config::Times,
    context::Context,
    dialing::translate,
    error::{ApiError, Slug},
    ids::{AttemptId, BusinessId},
    killpoints::{Point, reach},
    slots::Learned,
    telemetry::{metrics, traces},
};

/// A Redis that hangs must not keep a carrier waiting for its 2xx: what is left undone here, the sweep does.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);
/// What a callback leaves open is asked of the carrier for so long after it arrived, by all looks together: a carrier that does not
/// answer must not have its own word waiting until it takes that for lost. Then what is known is applied.
const LOOKS: Duration = Duration::from_secs(1);
/// A job that a carrier was too full for, or whose calls it kept in its queue, so often is not sent back any more.
const MOST_TURNED_AWAY: i64 = 5;

/// Why a callback was not applied: its carrier must not be answered 2xx.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// Postgres does not answer.
    #[error(transparent)]
    Store(#[from] sqlx::Error),
    /// It leaves open whether anybody had picked up, the carrier cannot be asked now, and it tells this again.
    #[error("whether anybody had picked up cannot be asked for now")]
    LeftOpen,
}

impl From<NotApplied> for ApiError {
    fn from(error: NotApplied) -> Self {
        match error {
            NotApplied::Store(error) => error.into(),
            NotApplied::LeftOpen => Self::new(Slug::Unavailable, error.to_string()).retry_after(1),
        }
    }
}

/// Until when what a callback that `arrived` then leaves open may be asked of its carrier.
pub(super) fn looks_end(arrived: Instant) -> tokio::time::Instant {
    (arrived + LOOKS).into()
}

/// Applies a verified callback. `None` where its attempt does not exist.
///
/// # Errors
/// Where Postgres does not answer, or where it does not say how the call ended, and will be told again.
pub async fn callback(
    ctx: &Context,
    (business, attempt): (BusinessId, AttemptId),
    event: &CallEvent,
    arrived: Instant,
) -> Result<Option<Change>, NotApplied> {
    let event = &completed(ctx, (business, attempt), event, arrived).await?;
    let said = Said {
        call_id: event.call_id.as_deref(),
        duration_secs: event.duration_secs.and_then(|secs| i32::try_from(secs).ok()),
        answered_by: event.answered_by.map(AnsweredBy::as_str),
        carrier_status: Some(&event.carrier_status),
        carrier_code: event.carrier_code.and_then(|code| i32::try_from(code).ok()),
        sip_code: event.sip_code.map(i32::from),
        ..Said::default()
    };
    let moved = translate::state(event.state);
    let event = Event::new((business, attempt), Source::Webhook, moved, &said);
    reach(Point::K8).await;
    #[cfg(feature = "killpoints")]
    if crate::killpoints::lacks(crate::killpoints::Bug::AckBeforeCommit) {
        let batches = ctx.batches.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            batches.apply(event).await
        });
        return Ok(None);
    }
    let (change, flush) = ctx.batches.apply(event).await?;
    if let Some(change) = &change {
        if change.closed {
            reach(Point::K9).await;
        }
        // The next number is dialed behind a claim that is on the disk only if this end is.
        after(ctx, attempt, change, Learned::Told).await;
    }
    flush.done().await?;
    Ok(change)
}

/// The event with what the carrier leaves out of it: whether anybody had picked up, for how long, and that nobody was called.
async fn completed(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    event: &CallEvent,
    arrived: Instant,
) -> Result<CallEvent, NotApplied> {
    let mut event = event.clone();
    let CallState::Ended(disposition) = event.state else { return Ok(event) };
    let picked_up = matches!(disposition, Disposition::Answered | Disposition::Machine | Disposition::Fax);
    if (picked_up || event.unclear) && event.duration_secs.is_none() {
        match speech::answered(&ctx.stores.pg, key, event.at).await? {
            Some(answered) => {
                event.state = CallState::Ended(of_whoever(answered.by.as_deref()));
                event.duration_secs = u32::try_from(answered.secs).ok();
            }
            None if event.unclear => {
                let looked = tokio::time::timeout_at(looks_end(arrived), looked_up(ctx, key.0, &event)).await;
                event.state = match looked.ok().flatten() {
                    Some(state) => state,
                    // Until then the reconciler asks, too.
                    None if event.comes_again => return Err(NotApplied::LeftOpen),
                    None => {
                        tracing::warn!(attempt.id = %key.1, "whether anybody had picked up could not be asked for");
                        event.state
                    }
                };
            }
            None => {}
        }
    }
    event.state = turned_away(ctx, key, event.state).await?;
    Ok(event)
}

/// How a call ended that somebody or something had picked up.
fn of_whoever(by: Option<&str>) -> Disposition {
    match by {
        Some(word) if word == AnsweredBy::Machine.as_str() => Disposition::Machine,
        Some(word) if word == AnsweredBy::Fax.as_str() => Disposition::Fax,
        _ => Disposition::Answered,
    }
}

/// The end as the carrier tells it when asked: the word that somebody picked up may still be on its way. `None`: it does not say
/// now. A call that it does not know is none of which more could be said.
async fn looked_up(ctx: &Context, business: BusinessId, event: &CallEvent) -> Option<CallState> {
    let (account, call_id) = (event.account.as_ref()?, event.call_id.as_ref()?);
    let account = ctx.account(business, account).await.ok()??;
    let view = match ctx.carriers.fetch(&account, call_id, None).await.ok()? {
        Some(view) => view,
        None => return Some(event.state),
    };
    match view.state? {
        state @ CallState::Ended(_) => Some(state),
        // What it shows is a moment old.
        CallState::Answered => Some(CallState::Ended(of_whoever(view.answered_by.map(AnsweredBy::as_str)))),
        _ => None,
    }
}

/// The state to apply where the carrier ended a call because it was full, or had it in its queue until it was cancelled there: the
/// job goes back, and the account waits. A number to which that happens again and again has failed.
pub(crate) async fn turned_away(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    state: CallState,
) -> sqlx::Result<CallState> {
    let pg = &ctx.stores.pg;
    let back = match state {
        CallState::Ended(Disposition::TurnedAway) => speech::turned_away(pg, key, MOST_TURNED_AWAY).await?,
        CallState::Ended(Disposition::Cancelled) => {
            match queued::left(pg, key, ctx.settings.carrier_queue_limit_ms()).await? {
                Some((call, before)) => (before < MOST_TURNED_AWAY).then_some(call),
                None => return Ok(state),
            }
        }
        _ => return Ok(state),
    };
    let Some(call) = back else { return Ok(CallState::Ended(Disposition::Failed)) };
    let sent_ago = Times::ms(call.sent_ms_ago.unsigned_abs());
    // As long as one whose credentials are refused: much longer, and room that came free stays empty.
    let longest = Times::ms(ctx.settings.times.refused_retry_ms);
    health::too_full(pg, key.0, &call.account, sent_ago, longest).await?;
    ctx.profiles.forget(key.0);
    Ok(CallState::Ended(Disposition::Cancelled))
}

/// Does what follows from a change: release and ring where it closed its attempt, an alarm where a call is one too many.
pub async fn after(ctx: &Context, attempt: AttemptId, change: &Change, learned: Learned) {
    match change.verdict {
        Verdict::Late | Verdict::OtherCall => {
            metrics::stray_call();
            tracing::error!(
                attempt.id = %attempt, business.id = %change.business, call.id = change.call_id, verdict = ?change.verdict,
                "a call that no open attempt answers for; it is hung up"
            );
        }
        Verdict::Applied | Verdict::Stale => {}
    }
    if !change.closed {
        return;
    }
    let _step = traces::step(attempt, "release and ring");
    // Both are on their way at once, in this order, on one connection.
    let attempts = [attempt];
    let release = ctx.gate.release(change.business, &change.account, &attempts, learned);
    let done = tokio::time::timeout(REDIS_PATIENCE, futures::future::join(release, ctx.ring_freed(change.business)));
    match done.await {
        Ok((Ok(freed), ())) => ctx.ring_turns(&freed.turns).await,
        _ => {
            tracing::warn!(attempt.id = %attempt, "the slot is free in the ledger but not at the gate yet; the sweep releases it");
        }
    }
    tracing::info!(
        attempt.id = %attempt, business.id = %change.business, run.id = change.run.map(|r| r.to_string()),
        run_ended = change.run_ended, "[ProcessNext] slot freed, next rung"
    );
}
