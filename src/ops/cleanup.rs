//! `rollcall-ops cleanup`: what is stuck, with evidence; put right only with `--apply`.

use clap::Args;
use serde::Serialize;

use crate::{
    clock::Time,
    config::Settings,
    dialing::cleanup::{self, Finding},
    ops::{
        exit, open,
        print::{Form, cell, counting, table},
    },
};

/// Exit codes of this command.
pub(super) const AFTER_HELP: &str = "\
Nothing here guesses: the carrier is asked first, no slot is freed because a time has passed, and no number is called
again because the carrier does not show a call. It may run from many hosts at once, as often as you like, with or
without workers.

Exit codes:
  0   nothing is stuck, or all of it was put right
  1   a store does not answer
  2   the command line is wrong, or a variable of the environment cannot be read
  3   without --apply: something is stuck. With --apply: something is still stuck, the table says why
  64  settings contradict each other, or ROLLCALL_SEALING_KEY is missing";

/// What to do.
#[derive(Debug, Args)]
pub(super) struct Cleanup {
    /// Put right what was found; without it nothing is changed.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

#[derive(Debug, Serialize)]
struct Answer {
    at: Time,
    applied: bool,
    findings: Vec<Finding>,
}

/// Finds what is stuck and, if asked to, puts it right.
///
/// # Errors
/// Where a store does not answer.
pub(super) async fn cleanup(order: Cleanup) -> anyhow::Result<u8> {
    let ctx = open::context(order.settings)?;
    let at = ctx.stores.postgres_time().await?.into();
    let bar = counting(0, "attempts asked about at the carrier")?;
    let told = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let mut findings = cleanup::find(&ctx, &told).await?;
    if order.apply {
        bar.reset();
        bar.set_message("attempts put right");
        cleanup::apply(&ctx, &mut findings, &told).await?;
    }
    bar.finish_and_clear();
    let left = findings.iter().any(|finding| finding.outcome.as_ref().is_none_or(|outcome| !outcome.done));
    order.form.print(&Answer { at, applied: order.apply, findings }, text)?;
    Ok(if left { exit::FOUND } else { exit::OK })
}

fn text(answer: &Answer) -> String {
    if answer.findings.is_empty() {
        return "Nothing is stuck.".into();
    }
    let last = if answer.applied { "how it stands now" } else { "action" };
    let rows = answer.findings.iter().map(|finding| {
        let outcome = finding
            .outcome
            .as_ref()
            .map(|outcome| format!("{}: {}", if outcome.done { "done" } else { "left" }, outcome.detail));
        [
            cell(serde_json::to_value(finding.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned))),
            finding.id.clone(),
            finding.evidence.clone(),
            outcome.unwrap_or_else(|| finding.action.sentence().to_owned()),
        ]
    });
    let hint = if answer.applied { "" } else { "\nNothing was changed. --apply does what the last column says." };
    format!("{}{hint}", table(["what", "id", "evidence", last], rows))
}
