//! The gate against the ledger, and the gate's own places against each other.

use super::{Check, Fault};
use crate::{
    context::Context,
    dialing::{
        cleanup::{self, Action, Kind},
        gate::SETTLED,
    },
    slots::reading::Counts,
};

/// Differences that are named one by one.
const SHOWN: usize = 5;

/// What has lasted for longer than a sweep needs to put it right.
pub(super) async fn check(ctx: &Context) -> anyhow::Result<Check> {
    let found = cleanup::gate_findings(ctx).await?;
    let mut faults = Vec::new();
    for (action, kind, what) in [
        (Action::RebuildGate, Kind::Gate, "the gate is closed"),
        (Action::Release, Kind::Slot, "holders at the gate have no open attempt"),
        (Action::Hold, Kind::Slot, "open attempts have no holder at the gate"),
        (Action::Forget, Kind::Slot, "keys of the gate have entries that no holder has"),
    ] {
        let these: Vec<_> = found.iter().filter(|f| f.action == action && f.kind == kind).collect();
        if these.is_empty() {
            continue;
        }
        let named = these.iter().take(SHOWN).map(|f| format!("\n  {}: {}", f.id, f.evidence)).collect::<String>();
        let more = these.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let count = if kind == Kind::Gate { String::new() } else { format!("{} ", these.len()) };
        faults.push(Fault::fail(format!("{count}{what}:{named}{more}"), ADVICE));
    }
    let mut counts = counts(ctx).await?;
    if !counts.agree() {
        tokio::time::sleep(SETTLED).await;
        counts = self::counts(ctx).await?;
    }
    let Counts { holders, lines, slots, active } = counts;
    let active = active.map_or("none".to_owned(), |active| active.to_string());
    let each = format!("gate:holders {holders}, lines:held {lines}, slots held {slots}, calls:active_count {active}");
    if counts.only_counter_differs() {
        let advice = "the next call that begins or ends writes calls:active_count anew; nothing to do";
        faults.push(Fault::warn(format!("the counter differs from what it counts: {each}"), advice));
    } else if !counts.agree() {
        let advice = "somebody wrote to these keys by hand; while no worker runs, delete gate:ready, gate:holders, lines:held, \
                      lines:talking, calls:active_count and slots:*, then: rollcall-ops cleanup --apply";
        faults.push(Fault::fail(format!("the gate's own keys differ: {each}"), advice));
    }
    Ok(Check::of("gate", format!("gate:ready is there, and ledger and gate agree: {each}"), faults))
}

const ADVICE: &str =
    "a living worker puts this right within a second (see the check of workers); else: rollcall-ops cleanup --apply";

async fn counts(ctx: &Context) -> anyhow::Result<Counts> {
    let mut businesses: Vec<_> = ctx.gate.holders().await?.into_iter().map(|holder| holder.business).collect();
    businesses.sort_unstable();
    businesses.dedup();
    Ok(ctx.gate.counts(&businesses).await?)
}
