//! The gate against the ledger: rebuilt where it is empty, corrected where it differs.
//!
//! Any number of workers may do this at once: every step is by attempt id and may repeat.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    agents::store,
    attempts::{
        figures,
        looks::{self, OnTheLine},
    },
    context::Context,
    dialing::room,
    ids::{AttemptId, BusinessId, Held},
    killpoints::{Point, reach},
    slots::{Holder, Learned, foreign::Foreign},
    telemetry::metrics,
};

/// A holder without a row is older than any claim that may still insert it, or the claim failed. A claim that is later than
/// this is still safe: the ledger is the proof, and the next round adds its holder again.
pub const NO_ROW_AFTER: Duration = Duration::from_millis(1_500);

/// What is younger may be on its way from one store to the other; the sweep corrects the rest within a second.
pub const SETTLED: Duration = Duration::from_secs(2);

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

/// Gate and ledger side by side, as one look saw them. Calls begin and end between its two reads: [`drift`] says what lasts.
#[derive(Debug, Clone)]
pub struct Look {
    /// True where the gate lets anybody in.
    pub ready: bool,
    /// Holders of closed attempts.
    pub closed: Vec<Holder>,
    /// Holders without a row.
    pub rowless: Vec<Holder>,
    /// Open attempts that hold nothing.
    pub missing: Vec<OnTheLine>,
    /// How many attempts are open.
    pub open: usize,
}

impl Look {
    /// Of what this look saw, that which has lasted.
    #[must_use]
    pub fn lasting(mut self, drift: &Drift) -> Self {
        self.closed.retain(|holder| drift.holders_too_many.contains(&holder.attempt));
        self.rowless.retain(|holder| drift.holders_too_many.contains(&holder.attempt));
        self.missing.retain(|row| drift.holders_missing.contains(&row.attempt));
        self
    }
}

/// Compares the gate with the ledger and changes nothing.
///
/// # Errors
/// Where a store does not answer.
pub async fn compare(ctx: &Context) -> anyhow::Result<Look> {
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
    Ok(Look { ready, closed, rowless, missing, open })
}

/// Makes the gate say what the ledger says.
///
/// # Errors
/// Where a store does not answer.
pub async fn correct(ctx: &Context) -> anyhow::Result<Corrected> {
    let look = compare(ctx).await?;
    let mut corrected = Corrected { rebuilt: !look.ready, ..Corrected::default() };
    corrected.added = add(ctx, &look.missing).await?;
    let mut evicted = Vec::new();
    for holder in &look.closed {
        let freed = ctx.gate.release(holder.business, "", &[holder.attempt], Learned::NoCall).await?;
        evicted.extend((freed.held > 0).then_some(holder.business));
        ctx.ring_turns(&freed.turns).await;
    }
    for holder in look.rowless.iter().filter(|holder| holder.age >= NO_ROW_AFTER) {
        let freed = ctx.gate.evict(holder).await?;
        evicted.extend((freed.held > 0).then_some(holder.business));
        ctx.ring_turns(&freed.turns).await;
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
    metrics::gate_corrected(corrected.added, corrected.evicted, corrected.rebuilt);
    Ok(corrected)
}

/// Removes what stands in the gate's keys and no holder has: of the whole installation, and of these businesses. How many entries.
///
/// # Errors
/// Where Redis does not answer.
pub async fn forget_foreign(ctx: &Context, businesses: &[BusinessId]) -> redis::RedisResult<usize> {
    let mut all = 0;
    for Foreign { key, entries } in ctx.gate.forget_foreign(businesses).await? {
        tracing::error!(
            key,
            entries,
            "entries of the gate that no holder has were removed; somebody else writes into this Redis"
        );
        all += usize::try_from(entries).unwrap_or(usize::MAX);
    }
    if all > 0 {
        metrics::gate_corrected(0, all, false);
    }
    Ok(all)
}

/// Adds holders for these open attempts; how many the gate took.
async fn add(ctx: &Context, missing: &[OnTheLine]) -> anyhow::Result<usize> {
    if missing.is_empty() {
        return Ok(0);
    }
    let attempts: Vec<AttemptId> = missing.iter().map(|row| row.attempt).collect();
    let talking: HashMap<_, _> = store::talking_among(&ctx.stores.pg, &attempts).await?.into_iter().collect();
    let mut added = 0;
    for row in missing {
        let held = Held { attempt: row.attempt, slot: row.slot, line: row.line };
        let talks = match talking.get(&row.attempt) {
            Some(pipeline) => Some(room::conversations(ctx, row.business, &[*pipeline]).await?),
            None => None,
        };
        added += usize::from(ctx.gate.hold(row.business, held, talks.as_ref()).await?);
    }
    Ok(added)
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
    /// Entries of the gate's keys, but for the slots of businesses, that no holder has.
    pub foreign: u64,
}

impl Drift {
    /// How many disagreements there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.holders_too_many.len() + self.holders_missing.len() + usize::try_from(self.foreign).unwrap_or(usize::MAX)
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
        foreign: ctx.gate.foreign(&[]).await?.iter().map(|foreign| foreign.entries).sum(),
    })
}
