//! Room for conversations, decided before anybody is dialed or taken in: nobody answers into silence.
//!
//! Every call holds a line, so the limit is one on lines: while a call that talks is made, no more lines may be held than there
//! is room for conversations, beside the calls that do not talk. The gate compares in one step, whoever asks at the same time.

use std::time::{Duration, Instant};

use crate::{agents::store, context::Context, heartbeats};

/// A call that was dialed because there is room waits so long for the conversation before it to be gone. Carriers wait longer
/// for an answer, the more impatient one 2 s.
const MOMENT: Duration = Duration::from_millis(1_500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

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

/// The most lines that may be held with one more call that talks to an agent, of an installation that has `lines`.
///
/// # Errors
/// Where a store does not answer.
pub async fn lines_for_a_talk(ctx: &Context, lines: i32) -> anyhow::Result<i32> {
    let room = heartbeats::room(&ctx.stores, &ctx.replicas).await?;
    let talks = i32::try_from(room.most).unwrap_or(i32::MAX);
    if talks >= lines {
        return Ok(lines);
    }
    let silent = i32::try_from(store::calls_without(&ctx.stores.pg).await?).unwrap_or(i32::MAX);
    Ok(lines.min(talks.saturating_add(silent)))
}
