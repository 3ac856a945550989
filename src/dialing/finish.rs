//! What follows from a change in the ledger: the slot is released, the next is rung for, a second call is written down.
//!
//! It runs after the commit and changes no fact; if the process dies before it, the sweep does the same within seconds.

use std::time::Duration;

use crate::{
    attempts::{
        events::Event,
        ledger::{Change, Said, Verdict},
        state::Source,
    },
    carriers::{AnsweredBy, CallEvent},
    context::Context,
    dialing::translate,
    ids::{AttemptId, BusinessId},
    killpoints::{Point, reach},
    slots::Learned,
    telemetry::{metrics, traces},
};

/// A Redis that hangs must not keep a carrier waiting for its 2xx: what is left undone here, the sweep does.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);

/// Applies a verified callback. `None` where its attempt does not exist.
///
/// # Errors
/// Where Postgres does not answer: the carrier must then not be answered 2xx.
pub async fn callback(
    ctx: &Context,
    (business, attempt): (BusinessId, AttemptId),
    event: &CallEvent,
) -> sqlx::Result<Option<Change>> {
    let said = Said {
        call_id: Some(&event.call_id),
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
    if !matches!(done.await, Ok((Ok(_), ()))) {
        tracing::warn!(attempt.id = %attempt, "the slot is free in the ledger but not at the gate yet; the sweep releases it");
    }
    tracing::info!(
        attempt.id = %attempt, business.id = %change.business, run.id = change.run.map(|r| r.to_string()),
        run_ended = change.run_ended, "[ProcessNext] slot freed, next rung"
    );
}
