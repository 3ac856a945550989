//! Room for conversations, decided before anybody is dialed or taken in: nobody answers into silence.
//!
//! The gate counts the holders that may talk, in the step in which it gives a line, whoever asks at the same time.

use std::time::{Duration, Instant};

use crate::{context::Context, heartbeats};

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

/// How many conversations there may be at once, for the gate to count those that talk by.
///
/// # Errors
/// Where Redis does not answer.
pub async fn conversations(ctx: &Context) -> anyhow::Result<i32> {
    let room = heartbeats::room(&ctx.stores, &ctx.replicas).await?;
    Ok(i32::try_from(room.most).unwrap_or(i32::MAX))
}
