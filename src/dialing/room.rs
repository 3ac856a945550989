//! Room for calls that go ahead of lists, and for conversations, decided before anybody is dialed or taken in: nobody answers into silence.
//!
//! The gate counts the holders that may talk, in the step in which it gives a line, whoever asks at the same time.

use std::time::{Duration, Instant};

use crate::{
    attempts::open::{self, InCalls},
    context::Context,
    heartbeats,
    ids::AttemptId,
    slots::{Ask, Short, Taken},
};

/// A call that was dialed because there is room waits so long for the conversation before it to be gone. Carriers wait longer
/// for an answer, the more impatient one 2 s.
const MOMENT: Duration = Duration::from_millis(1_500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// A worker that looks what is due has given back by then what it took for it, unless it has died.
const LOOKED: Duration = Duration::from_millis(500);
/// Between two tries meanwhile.
const TRY: Duration = Duration::from_millis(10);

/// A slot and a line for one call that goes ahead of lists. A full gate is no full house: a worker takes slots before it sees whether
/// anything is due. Where the ledger has fewer calls than the gate has holders, the gate is asked again for a moment.
///
/// # Errors
/// Where a store does not answer.
pub async fn ahead(ctx: &Context, ask: &Ask<'_>, attempt: AttemptId) -> anyhow::Result<Taken> {
    let begin = Instant::now();
    loop {
        let taken = ctx.gate.take_ahead(ask, attempt).await?;
        let Taken::Some { held, short: Some(Short::Slots | Short::Lines), .. } = &taken else { return Ok(taken) };
        if !held.is_empty() || begin.elapsed() >= LOOKED {
            return Ok(taken);
        }
        let InCalls { business, all } = open::in_calls(&ctx.stores.pg, ask.business).await?;
        if business >= i64::from(ask.slot_limit) || all >= i64::from(ask.lines) {
            return Ok(taken);
        }
        tokio::time::sleep(TRY).await;
    }
}

/// Where the stream of an answered call goes, its first or after one that was `closed`; `None` where no calls program has room.
///
/// # Errors
/// Where Redis does not answer.
pub async fn replica(ctx: &Context, closed: bool) -> anyhow::Result<Option<String>> {
    let begin = Instant::now();
    loop {
        let found = heartbeats::replica_with_room(&ctx.stores, &ctx.replicas, closed).await?;
        if found.is_some() || begin.elapsed() >= MOMENT {
            return Ok(found);
        }
        if heartbeats::room(&ctx.stores, &ctx.replicas).await?.ready == 0 {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many conversations there may be at once, for the gate to count those that talk by.
///
/// # Errors
/// Where Redis does not answer.
pub async fn conversations(ctx: &Context) -> anyhow::Result<i32> {
    let room = heartbeats::room(&ctx.stores, &ctx.replicas).await?;
    Ok(i32::try_from(room.most).unwrap_or(i32::MAX))
}
