//! The gate against the ledger: rebuilt where it is empty, corrected where it differs.
//!
//! Any number of workers may do this at once: every step is by attempt id and may repeat.

use std::{collections::HashMap, time::Duration};

use crate::{
    attempts::looks::{self, OnTheLine},
    context::Context,
    ids::{AttemptId, Held},
    killpoints::{Point, reach},
    slots::{Holder, Learned},
};

/// A holder without a row is older than any claim that may still insert it, or the claim failed. A claim that is later than
/// this is still safe: the ledger is the proof, and the next round adds its holder again.
pub const NO_ROW_AFTER: Duration = Duration::from_millis(1_500);

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

/// Where gate and ledger differ, as one look saw it. Between the two reads of a look calls begin and end, so that a
/// difference is one only if a later look sees it too.
#[derive(Debug, Clone)]
pub struct Drift {
    /// True where the gate lets anybody in.
    pub ready: bool,
    /// Every holder, by attempt.
    pub holders: HashMap<AttemptId, Holder>,
    /// Holders of closed attempts.
    pub closed: Vec<Holder>,
    /// Holders without a row.
    pub rowless: Vec<Holder>,
    /// Open attempts that hold nothing.
    pub missing: Vec<OnTheLine>,
    /// How many attempts are open.
    pub open: usize,
}

impl Drift {
    /// What this look and a later one both saw: the later one's view of it.
    #[must_use]
    pub fn still_in(&self, mut later: Self) -> Self {
        let seen = |list: &[Holder], attempt| list.iter().any(|holder| holder.attempt == attempt);
        later.closed.retain(|holder| seen(&self.closed, holder.attempt));
        later.rowless.retain(|holder| seen(&self.rowless, holder.attempt));
        later.missing.retain(|row| self.missing.iter().any(|before| before.attempt == row.attempt));
        later.ready |= self.ready;
        later
    }

    /// True where nothing differs.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.ready && self.closed.is_empty() && self.rowless.is_empty() && self.missing.is_empty()
    }
}

/// Compares the gate with the ledger and changes nothing.
///
/// # Errors
/// Where a store does not answer.
pub async fn compare(ctx: &Context) -> anyhow::Result<Drift> {
    let ready = ctx.gate.is_ready().await?;
    // Holders first, rows second: whoever took a slot in between has a holder that this look does not judge.
    let holders: HashMap<AttemptId, Holder> = ctx.gate.holders().await?.into_iter().map(|h| (h.attempt, h)).collect();
    let known: Vec<AttemptId> = holders.keys().copied().collect();
    let rows = looks::on_the_line(&ctx.stores.pg, &known).await?;
    let missing: Vec<OnTheLine> =
        rows.iter().filter(|row| row.open && !holders.contains_key(&row.attempt)).copied().collect();
    let open = rows.iter().filter(|row| row.open).count();
    let rows: HashMap<AttemptId, bool> = rows.iter().map(|row| (row.attempt, row.open)).collect();
    let of = |state: Option<bool>| -> Vec<Holder> {
        holders.values().filter(|holder| rows.get(&holder.attempt).copied() == state).copied().collect()
    };
    let (closed, rowless) = (of(Some(false)), of(None));
    Ok(Drift { ready, closed, rowless, missing, open, holders })
}

/// Makes the gate say what the ledger says.
///
/// # Errors
/// Where a store does not answer.
pub async fn correct(ctx: &Context) -> anyhow::Result<Corrected> {
    let drift = compare(ctx).await?;
    let mut corrected = Corrected { rebuilt: !drift.ready, ..Corrected::default() };
    for row in &drift.missing {
        let held = Held { attempt: row.attempt, slot: row.slot, line: row.line };
        corrected.added += usize::from(ctx.gate.hold(row.business, held).await?);
    }
    let mut evicted = Vec::new();
    for holder in &drift.closed {
        let released = ctx.gate.release(holder.business, "", &[holder.attempt], Learned::NoCall).await?;
        evicted.extend((released > 0).then_some(holder.business));
    }
    for holder in drift.rowless.iter().filter(|holder| holder.age >= NO_ROW_AFTER) {
        evicted.extend((ctx.gate.evict(holder).await? > 0).then_some(holder.business));
    }
    corrected.evicted = evicted.len();
    for business in evicted {
        ctx.ring(business).await;
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
