//! Runs that should have ended, or should be dialed and are not rung for.

use std::time::Duration;

use super::{Action, Finding, Kind, span};
use crate::{
    context::Context,
    dialing::{cancel, gate::SETTLED},
    ids::RunId,
    jobs::{
        queue::{Rung, Why},
        rung,
    },
    runs::{ending, stuck},
};

/// The sweep rings each second for a business with work and a free slot; this long without a bell is no chance.
const NOT_RUNG_FOR: Duration = Duration::from_secs(5);

/// Runs that are stuck. What is due is looked at twice, as far apart as a bell needs to arrive.
///
/// # Errors
/// Where a store does not answer.
pub(super) async fn find(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let pg = &ctx.stores.pg;
    let mut found = Vec::new();
    for run in stuck::unended(pg).await? {
        let evidence = format!("it is {} and every one of its {} jobs has its outcome", run.state.as_str(), run.jobs);
        found.push(Finding::new(Kind::Run, run.run, evidence, Action::EndRun).of(run.business));
    }
    for run in stuck::half_cancelled(pg).await? {
        let evidence = format!("it was cancelled, and {} of its jobs are not ended", run.left);
        found.push(Finding::new(Kind::Run, run.run, evidence, Action::CancelJobs).of(run.business));
    }
    let mut silent = silent(ctx).await?;
    if !silent.is_empty() {
        tokio::time::sleep(SETTLED).await;
        let still = self::silent(ctx).await?;
        silent.retain(|finding| still.iter().any(|later| later.id == finding.id));
    }
    found.extend(silent);
    Ok(found)
}

/// Runs with work, a free slot and a free line that nobody has rung for.
async fn silent(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let due = stuck::due(&ctx.stores.pg).await?;
    let businesses: Vec<_> = due.iter().map(|run| run.business).collect();
    let rung = rung::last(&ctx.stores, &businesses).await?;
    let silent = due.iter().zip(rung).filter(|(_, rung)| rung.is_none_or(|since| since >= NOT_RUNG_FOR));
    let finding = |(run, since): (&stuck::Due, Option<Duration>)| {
        let since = since.map_or("never".to_owned(), |since| {
            format!("{} ago", span(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
        });
        let evidence = format!(
            "it is running with {} jobs queued and {} slots free, and was last rung for: {since}",
            run.queued, run.free_slots
        );
        Finding::new(Kind::Run, run.run, evidence, Action::Ring).of(run.business)
    };
    Ok(silent.map(finding).collect())
}

/// The sweep's steps over runs, and another look.
///
/// # Errors
/// Where a store does not answer.
pub(super) async fn apply(ctx: &Context, found: &mut [Finding]) -> anyhow::Result<()> {
    let pg = &ctx.stores.pg;
    let any = |found: &[Finding], action| found.iter().any(|finding| finding.action == action);
    if any(found, Action::CancelJobs) {
        while cancel::finish(pg).await? > 0 {}
    }
    if any(found, Action::EndRun) {
        ending::end_finished(pg).await?;
    }
    let unended: Vec<RunId> = stuck::unended(pg).await?.into_iter().map(|run| run.run).collect();
    let cancelling: Vec<RunId> = stuck::half_cancelled(pg).await?.into_iter().map(|run| run.run).collect();
    for finding in found.iter_mut().filter(|finding| finding.kind == Kind::Run) {
        let still = |runs: &[RunId]| runs.iter().any(|run| run.to_string() == finding.id);
        match finding.action {
            Action::EndRun if still(&unended) => finding.left("somebody has it locked; the next pass ends it"),
            Action::EndRun => finding.done("it has ended"),
            Action::CancelJobs if still(&cancelling) => finding.left("jobs are left; the next pass ends them"),
            Action::CancelJobs => finding.done("no job of it is queued; it ends when nothing of it is in flight"),
            _ => {
                let Some(business) = finding.business_id else { continue };
                match ctx.bells.ring(business, Why::Work).await {
                    Ok(Rung::Yes) => finding.done("rung; a worker looks when there is one"),
                    Ok(Rung::Already) => finding.done("it was rung for already; a worker looks when there is one"),
                    Ok(Rung::Full) => finding.left("too many bells wait for a worker; the sweep rings when fewer do"),
                    Err(error) => finding.left(format!("the bell could not be rung: {error:#}")),
                }
            }
        }
    }
    Ok(())
}
