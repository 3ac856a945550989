//! Progress against the jobs themselves, run by run, each in one snapshot.

use indicatif::{ProgressBar, ProgressStyle};

use super::{Check, Fault};
use crate::{context::Context, runs::audit};

/// Runs that are named one by one.
const SHOWN: usize = 10;

/// Counts the jobs of every run, or of those that are not over, and compares.
pub(super) async fn check(ctx: &Context, only_open: bool) -> anyhow::Result<Check> {
    let mut tx = audit::patiently(&ctx.stores.pg).await?;
    let runs = audit::runs(&mut *tx, only_open).await?;
    let style = ProgressStyle::with_template("  {elapsed_precise} [{bar:40.cyan/blue}] {pos}/{len} runs counted")?;
    let bar = ProgressBar::new(u64::try_from(runs.len())?).with_style(style.progress_chars("=> "));
    let mut wrong = Vec::new();
    for run in &runs {
        let differences = audit::differences(&mut *tx, *run).await?;
        if !differences.is_empty() {
            let each = differences.iter().map(|d| format!("{} {} tallied, {} counted", d.key, d.tallied, d.counted));
            wrong.push(format!("{run}: {}", each.collect::<Vec<_>>().join("; ")));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let which = if only_open { "runs that are not over" } else { "runs" };
    let mut faults = Vec::new();
    if !wrong.is_empty() {
        let shown = wrong.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect::<String>();
        let evidence = format!("{} of {} {which} differ:{shown}", wrong.len(), runs.len());
        let advice = "rows were changed with triggers off; the jobs are right. Say so to whoever did it, and see RUNBOOK: \
                      progress does not add up";
        faults.push(Fault::fail(evidence, advice));
    }
    Ok(Check::of("tallies", format!("{} {which}: every tally equals its count", runs.len()), faults))
}
