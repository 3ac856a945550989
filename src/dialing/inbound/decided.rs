//! Who decides about a call that rings, where its word comes from several sides at once: one of them, and what it decided holds.
//!
//! A slot is taken before the row is written, so that for a moment a second look would see no row and no room. That moment is
//! kept in Redis; should it be emptied, the ledger's unique indexes still leave one row for a call.

use std::time::{Duration, Instant};

use crate::{
    carriers::CarrierError,
    context::Context,
    dialing::{
        answer,
        inbound::{Ringing, known},
    },
    error::ApiError,
    ids::{AttemptId, BusinessId},
};

/// Who decides and dies is followed by the next after so long, ms.
const DECIDING_MS: u64 = 5_000;
/// That a call was turned away is kept for longer than a carrier repeats itself, ms.
const AWAY_MS: u64 = 600_000;
/// Nobody waits longer for another's decision: carriers wait 2 s for an answer.
const PATIENCE: Duration = Duration::from_millis(1_200);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(40);

const DECIDING: &str = "deciding";
const AWAY: &str = "away";

/// Whose turn it is.
pub(super) enum Turn {
    /// Ours: nobody has decided.
    Ours,
    /// It was taken meanwhile.
    Taken(AttemptId),
    /// It was turned away.
    TurnedAway,
}

/// Waits until it is known whose turn it is.
pub(super) async fn turn(ctx: &Context, business: BusinessId, ringing: Ringing<'_>) -> Result<Turn, ApiError> {
    let (key, begin) = (key(ctx, ringing), Instant::now());
    let mut redis = ctx.stores.redis.clone();
    loop {
        let mut set = redis::cmd("SET");
        let first: Option<String> =
            set.arg(&key).arg(DECIDING).arg("NX").arg("PX").arg(DECIDING_MS).query_async(&mut redis).await?;
        if first.is_some() {
            // Whoever had the turn before wrote the row before that ended.
            let Some(attempt) = known(ctx, business, ringing).await? else { return Ok(Turn::Ours) };
            is(ctx, ringing, false).await;
            return Ok(Turn::Taken(attempt));
        }
        let word: Option<String> = redis::cmd("GET").arg(&key).query_async(&mut redis).await?;
        if word.as_deref() == Some(AWAY) {
            return Ok(Turn::TurnedAway);
        }
        if begin.elapsed() >= PATIENCE {
            let why = "this call is being decided about".to_owned();
            return Err(answer::away(&CarrierError::Unavailable { why }));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Our turn is over.
pub(super) async fn is(ctx: &Context, ringing: Ringing<'_>, away: bool) {
    let key = key(ctx, ringing);
    let mut redis = ctx.stores.redis.clone();
    let done: redis::RedisResult<()> = match away {
        true => redis::cmd("SET").arg(key).arg(AWAY).arg("PX").arg(AWAY_MS).query_async(&mut redis).await,
        false => redis::cmd("DEL").arg(key).query_async(&mut redis).await,
    };
    if let Err(error) = done {
        tracing::debug!(%error, "what was decided about a call that rings was not kept; it is decided again");
    }
}

fn key(ctx: &Context, ringing: Ringing<'_>) -> String {
    ctx.stores.keys.key(format!("inbound:{}:{}", ringing.account, ringing.call_id))
}
