//! `rollcall-ops runs` and `why`: the runs of every business, and what keeps one from dialing.

use clap::Args;

use crate::{
    businesses,
    clock::Time,
    config::Settings,
    dialing::why::{self, Why},
    ids::{BusinessId, RunId},
    ops::{
        exit, open,
        print::{Form, List, cell, moment, table},
    },
    runs::{self, Run, RunState, find},
    slots::Gate,
};

/// Which runs.
#[derive(Debug, Args)]
pub(super) struct Runs {
    /// Only this business's.
    #[arg(long)]
    business: Option<BusinessId>,
    /// Only those in this state: draft, scheduled, running, paused, cancelling, cancelled or completed.
    #[arg(long, value_parser = state)]
    state: Option<RunState>,
    /// How many at most, newest first.
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Only those made before this run.
    #[arg(long)]
    after: Option<RunId>,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// A word of the API, as a value of the command line.
///
/// # Errors
/// Where it is none.
pub(super) fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn state(text: &str) -> Result<RunState, String> {
    word(text)
}

/// Prints them.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn runs(order: Runs) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let before = order.after.map(|run| run.0);
    if let Some(business) = order.business
        && !businesses::store::exists(&stores.pg, business).await?
    {
        anyhow::bail!("there is no business {business}");
    }
    let found = find::list(&stores.pg, order.business, order.state, before, i64::from(order.limit) + 1).await?;
    let mut runs: Vec<Run> = Vec::new();
    for (business, run) in found {
        // One that is deleted meanwhile is gone.
        runs.extend(runs::store::one(&stores.pg, business, run).await?);
    }
    order.form.print(&List::page(runs, usize::from(order.limit), |run| run.id.to_string()), text)?;
    Ok(exit::OK)
}

fn text(list: &List<Run>) -> String {
    if list.data.is_empty() {
        return "There is no such run.".into();
    }
    let rows = list.data.iter().map(|run| {
        let (states, progress) = (&run.progress.states, &run.progress);
        let over = states.completed + states.unreached + states.failed + states.skipped + states.cancelled;
        let pause = run.pause.as_ref().map(|pause| format!(" ({})", pause.reason)).unwrap_or_default();
        [
            run.id.to_string(),
            run.business_id.to_string(),
            run.rules.name.clone(),
            format!("{}{pause}", run.state.as_str()),
            format!("{over} of {}", progress.total),
            states.queued.to_string(),
            format!("{} ({} live)", progress.attempts_open, progress.calls_live),
            cell(run.started_at.map(moment)),
            cell(run.ended_at.map(moment)),
        ]
    });
    let headings = ["run", "business", "name", "state", "jobs over", "queued", "in flight", "started", "ended"];
    format!("{}{}", table(headings, rows), list.more())
}

/// Which run.
#[derive(Debug, Args)]
pub(super) struct WhyNot {
    /// The run.
    run: RunId,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// Prints what keeps a run from dialing, as the API says it.
///
/// # Errors
/// Where there is no such run, or Postgres does not answer.
pub(super) async fn why(order: WhyNot) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let Some(business) = find::business_of(&stores.pg, order.run).await? else {
        anyhow::bail!("there is no run {}", order.run);
    };
    let gate = Gate::new(&stores);
    let installation = (&stores, &gate, &order.settings);
    let why = why::of_run(installation, &stores.pg, business, order.run).await.map_err(open::plain)?;
    order.form.print(&why, why_text)?;
    Ok(exit::OK)
}

fn why_text(why: &Why) -> String {
    let head = format!(
        "{} · {} of {} slots · {} of {} lines · next call {}",
        if why.dialing { "dialing" } else { "not dialing" },
        why.slots.held,
        why.slots.limit,
        why.lines.held,
        why.lines.limit,
        why.next_possible_at.map_or("when the reasons below are gone".to_owned(), |at: Time| at.to_string()),
    );
    if why.blockers.is_empty() {
        return format!("{head}\nNothing is in the way.");
    }
    let rows = why.blockers.iter().map(|blocker| {
        [blocker.code.to_owned(), blocker.count.to_string(), cell(blocker.next_at), blocker.detail.clone()]
    });
    format!("{head}\n{}", table(["reason", "count", "until", "what it means"], rows))
}
