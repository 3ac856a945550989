//! The gate against the ledger: rebuilt where it is empty, corrected where it differs.
//!
//! Any number of workers may do this at once: every step is by attempt id and may repeat.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    attempts::{figures, looks},
    context::Context,
    ids::{AttemptId, Held},
    killpoints::{Point, reach},
    slots::{Holder, Learned},
    telemetry::metrics,
};

/// A holder without a row is older than any claim that may still insert it, or the claim failed. A claim that is later than
/// this is still safe: the ledger is the proof, and the next round adds its holder again.
const NO_ROW_AFTER: Duration = Duration::from_millis(1_500);

/// What is younger may be on its way from one store to the other; the sweep corrects the rest within a second.
const SETTLED: Duration = Duration::from_secs(2);

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
    metrics::gate_corrected(corrected.added, corrected.evicted, corrected.rebuilt);
    Ok(corrected)
}

/// What the gate and the ledger disagree about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Holders at the gate.
    pub held: usize,
    /// Of these, those that no open attempt stands behind: slots that nobody can use.
    pub holders_too_many: Vec<AttemptId>,
    /// Open attempts that the gate does not know of: slots that it would give away twice, were there no ledger.
    pub holders_missing: Vec<AttemptId>,
}

impl Drift {
    /// How many disagreements there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.holders_too_many.len() + self.holders_missing.len()
    }
}

/// Compares gate and ledger and changes neither. What moved within two seconds is left out, so that a healthy installation
/// shows nothing however busy it is.
///
/// # Errors
/// Where a store does not answer.
pub async fn drift(ctx: &Context) -> anyhow::Result<Drift> {
    let after_ms = i64::try_from(SETTLED.as_millis())?;
    // Holders first, rows second, as in `correct`.
    let holders = ctx.gate.holders().await?;
    let open = figures::open(&ctx.stores.pg, after_ms).await?;
    let is_open: HashSet<AttemptId> = open.iter().map(|row| row.attempt).collect();
    let others: Vec<&Holder> = holders.iter().filter(|holder| !is_open.contains(&holder.attempt)).collect();
    let ids: Vec<AttemptId> = others.iter().map(|holder| holder.attempt).collect();
    let closed = figures::closed(&ctx.stores.pg, &ids, after_ms).await?;
    let closed: HashMap<AttemptId, bool> = closed.iter().map(|row| (row.attempt, row.settled)).collect();
    let too_many = |holder: &&&Holder| match closed.get(&holder.attempt) {
        Some(settled) => *settled,
        None => holder.age >= SETTLED,
    };
    let held: HashSet<AttemptId> = holders.iter().map(|holder| holder.attempt).collect();
    Ok(Drift {
        held: holders.len(),
        holders_too_many: others.iter().filter(too_many).map(|holder| holder.attempt).collect(),
        holders_missing: open
            .iter()
            .filter(|row| row.settled && !held.contains(&row.attempt))
            .map(|row| row.attempt)
            .collect(),
    })
}
