//! Slots at the gate that no open attempt has, and open attempts that the gate has forgotten.

use super::{Action, Finding, Kind, span};
use crate::{
    businesses::store,
    context::Context,
    dialing::gate::{self, Look, NO_ROW_AFTER, SETTLED},
    slots::foreign::Foreign,
};

/// Where gate and ledger differ for longer than a sweep needs to put it right.
///
/// # Errors
/// Where a store does not answer.
pub(super) async fn find(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let mut look = gate::compare(ctx).await?.lasting(&gate::drift(ctx).await?);
    if !look.ready {
        // A gate that is being rebuilt is open a moment later.
        tokio::time::sleep(SETTLED).await;
        look.ready = ctx.gate.is_ready().await?;
    }
    let mut found = findings(&look);
    found.extend(foreign(ctx).await?);
    Ok(found)
}

async fn foreign(ctx: &Context) -> anyhow::Result<impl Iterator<Item = Finding>> {
    let found = ctx.gate.foreign(&store::active(&ctx.stores.pg).await?).await?;
    Ok(found.into_iter().map(|Foreign { key, entries }| {
        let evidence =
            format!("{entries} entries of this key of the gate belong to no holder; what they take nobody can use");
        Finding::new(Kind::Slot, key, evidence, Action::Forget)
    }))
}

fn findings(look: &Look) -> Vec<Finding> {
    let mut found = Vec::new();
    if !look.ready {
        let evidence = format!("gate:ready is missing, so nobody is let through; {} attempts are open", look.open);
        found.push(Finding::new(Kind::Gate, "gate", evidence, Action::RebuildGate));
    }
    for holder in &look.closed {
        let evidence = format!(
            "it holds slot {} and line {} at the gate for {}, and its attempt is closed in the ledger",
            holder.slot,
            holder.line,
            age(holder.age)
        );
        found.push(Finding::new(Kind::Slot, holder.attempt, evidence, Action::Release).of(holder.business));
    }
    for holder in look.rowless.iter().filter(|holder| holder.age >= NO_ROW_AFTER) {
        let evidence = format!(
            "it holds slot {} and line {} at the gate for {}, and the ledger has no such attempt",
            holder.slot,
            holder.line,
            age(holder.age)
        );
        found.push(Finding::new(Kind::Slot, holder.attempt, evidence, Action::Release).of(holder.business));
    }
    for row in &look.missing {
        let evidence =
            format!("the attempt is open with slot {} and line {}, and holds nothing at the gate", row.slot, row.line);
        found.push(Finding::new(Kind::Slot, row.attempt, evidence, Action::Hold).of(row.business));
    }
    found
}

fn age(age: std::time::Duration) -> String {
    span(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// One pass of the sweep's correction, and another look.
///
/// # Errors
/// Where a store does not answer.
pub(super) async fn apply(ctx: &Context, found: &mut [Finding]) -> anyhow::Result<()> {
    let ours = |finding: &&mut Finding| matches!(finding.kind, Kind::Gate | Kind::Slot);
    if !found.iter().any(|finding| matches!(finding.kind, Kind::Gate | Kind::Slot)) {
        return Ok(());
    }
    if found.iter().any(|finding| finding.action == Action::Forget) {
        gate::forget_foreign(ctx, &store::active(&ctx.stores.pg).await?).await?;
    }
    gate::correct(ctx).await?;
    let mut after = findings(&gate::compare(ctx).await?);
    after.extend(foreign(ctx).await?);
    for finding in found.iter_mut().filter(ours) {
        if after.iter().any(|still| (still.kind, &still.id) == (finding.kind, &finding.id)) {
            finding.left("gate and ledger still differ here; the next pass compares them again");
        } else {
            finding.done("gate and ledger agree");
        }
    }
    Ok(())
}
