//! `rollcall-ops jobs`: the jobs of a run, or one job with its attempts.

use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::{
    attempts::{self, Attempt},
    config::Settings,
    dialing::windows,
    ids::{JobId, RunId},
    jobs::{
        Job, JobState,
        decisions::{self, Decision},
        read, store,
    },
    ops::{
        exit, open,
        print::{Form, List, cell, masked, moment, table},
        runs::word,
    },
    runs::find,
};

/// Which jobs.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub(super) struct Jobs {
    /// The run whose jobs are listed.
    #[arg(long, group = "which")]
    run: Option<RunId>,
    /// One job, with its attempts and its whole number.
    #[arg(long, group = "which", conflicts_with_all = ["state", "after"])]
    job: Option<JobId>,
    /// Only those in this state: queued, waiting, dialing, completed, unreached, failed, skipped or cancelled.
    #[arg(long, value_parser = state)]
    state: Option<JobState>,
    /// How many at most, in the order of the list.
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Only those after this job.
    #[arg(long)]
    after: Option<JobId>,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

fn state(text: &str) -> Result<JobState, String> {
    word(text)
}

/// A job as the API shows one.
#[derive(Debug, Serialize)]
struct Detail {
    #[serde(flatten)]
    job: Job,
    attempts: Vec<Attempt>,
    decisions: Vec<Decision>,
}

/// Prints them. In a list, numbers of people are masked.
///
/// # Errors
/// Where there is no such run or job, or Postgres does not answer.
pub(super) async fn jobs(order: Jobs) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let pg = &stores.pg;
    if let Some(id) = order.job {
        let detail = match store::business_of(pg, id).await? {
            Some(business) => read::one(pg, business, id).await?.map(|job| (business, job)),
            None => None,
        };
        let Some((business, mut job)) = detail else { anyhow::bail!("there is no job {id}") };
        windows::tell_open(pg, business, std::slice::from_mut(&mut job), &order.settings).await?;
        let attempts = attempts::store::list(pg, business, None, Some(id)).await?;
        let decisions = decisions::of_job(pg, business, id).await?;
        order.form.print(&Detail { job, attempts, decisions }, one_text)?;
        return Ok(exit::OK);
    }
    let Some(run) = order.run else { anyhow::bail!("say --run or --job") };
    let Some(business) = find::business_of(pg, run).await? else { anyhow::bail!("there is no run {run}") };
    let after = order.after.map(|job| job.0);
    let mut jobs = read::of_run(pg, business, run, order.state, after, i64::from(order.limit) + 1).await?;
    windows::tell_open(pg, business, &mut jobs, &order.settings).await?;
    for job in &mut jobs {
        job.to = masked(&job.to);
    }
    order.form.print(&List::page(jobs, usize::from(order.limit), |job| job.id.to_string()), text)?;
    Ok(exit::OK)
}

fn text(list: &List<Job>) -> String {
    if list.data.is_empty() {
        return "There is no such job.".into();
    }
    format!("{}{}", table(HEADINGS, list.data.iter().map(row)), list.more())
}

const HEADINGS: [&str; 7] = ["job", "to", "external id", "state", "outcome", "attempts", "finished"];

fn row(job: &Job) -> [String; 7] {
    let outcome = [job.disposition.as_deref(), job.reason.as_deref()];
    [
        job.id.to_string(),
        job.to.clone(),
        cell(job.external_id.as_ref()),
        job.state.as_str().to_owned(),
        outcome.into_iter().flatten().collect::<Vec<_>>().join(", "),
        job.attempt_count.to_string(),
        cell(job.finished_at.map(moment)),
    ]
}

fn one_text(detail: &Detail) -> String {
    let job = table(HEADINGS, [row(&detail.job)]);
    let told = detail.decisions.iter().filter(|one| one.verdict != "dialed").map(|one| {
        [
            moment(one.at),
            one.verdict.clone(),
            cell(one.rule.as_ref()),
            cell(one.next_at.map(moment)),
            cell(one.detail.as_ref()),
        ]
    });
    let told: Vec<_> = told.collect();
    let decisions = match told.is_empty() {
        true => String::new(),
        false => format!("\n{}", table(["at", "verdict", "rule", "until", "why"], told)),
    };
    if detail.attempts.is_empty() {
        return format!("{job}\nIt was never dialed.{decisions}");
    }
    let attempts = detail.attempts.iter().map(|attempt| {
        let state = if attempt.needs_person { "needs a person" } else { attempt.state.as_str() };
        [
            attempt.n.to_string(),
            attempt.id.to_string(),
            state.to_owned(),
            cell(attempt.disposition.map(attempts::Disposition::as_str)),
            cell(attempt.carrier_call_id.as_ref()),
            moment(attempt.intent_at),
            cell(attempt.answered_at.map(moment)),
            cell(attempt.ended_at.map(moment)),
            cell(attempt.duration_secs.map(|secs| format!("{secs} s"))),
        ]
    });
    let headings = ["n", "attempt", "state", "disposition", "call", "intent", "answered", "ended", "length"];
    format!("{job}\n{}{decisions}", table(headings, attempts))
}
