//! The gate against the ledger: rebuilt where it is empty, corrected where it differs.
//!
//! Any number of workers may do this at once: every step is by attempt id and may repeat.

use std::{collections::HashMap, time::Duration};

use crate::{
    attempts::looks,
    context::Context,
    ids::{AttemptId, Held},
    killpoints::{Point, reach},
    slots::{Holder, Learned},
};

/// A holder without a row is older than any claim that may still insert it, or the claim failed. A claim that is later than
/// this is still safe: the ledger is the proof, and the next round adds its holder again.
const NO_ROW_AFTER: Duration = Duration::from_millis(1_500);

/// What one round changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Corrected {
    /// Holders of closed attempts, or of none, that were evicted.
    pub evicted: usize,
    /// Open attempts that were added.
    pub added: usize,
    /// True where the gate was empty and is open now.
    pub rebuilt: bool,
}

/// Makes the gate say what the ledger says.
///
/// # Errors
/// Where a store does not answer.
pub async fn correct(ctx: &Context) -> anyhow::Result<Corrected> {
    let mut corrected = Corrected { rebuilt: !ctx.gate.is_ready().await?, ..Corrected::default() };
    // Holders first, rows second: whoever took a slot in between has a holder that this round does not judge.
    let holders: HashMap<AttemptId, Holder> = ctx.gate.holders().await?.into_iter().map(|h| (h.attempt, h)).collect();
    let known: Vec<AttemptId> = holders.keys().copied().collect();
    let rows = looks::on_the_line(&ctx.stores.pg, &known).await?;
    for row in rows.iter().filter(|row| row.open && !holders.contains_key(&row.attempt)) {
        let held = Held { attempt: row.attempt, slot: row.slot, line: row.line };
        corrected.added += usize::from(ctx.gate.hold(row.business, held).await?);
    }
    let rows: HashMap<AttemptId, bool> = rows.iter().map(|row| (row.attempt, row.open)).collect();
    for holder in holders.values() {
        let evicted = match rows.get(&holder.attempt) {
            Some(true) => 0,
            Some(false) => ctx.gate.release(holder.business, "", &[holder.attempt], Learned::NoCall).await?,
            None if holder.age >= NO_ROW_AFTER => ctx.gate.evict(holder).await?,
            None => 0,
        };
        if evicted > 0 {
            corrected.evicted += 1;
            ctx.ring(holder.business).await;
        }
    }
    if corrected.rebuilt {
        reach(Point::K12).await;
        ctx.gate.open().await?;
        tracing::warn!(held = corrected.added, "the gate was empty and is rebuilt from the ledger");
    } else if corrected != Corrected::default() {
        tracing::info!(corrected.evicted, corrected.added, "the gate differed from the ledger and is corrected");
    }
    Ok(corrected)
}
