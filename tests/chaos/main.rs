//! Chaos: a whole installation under faults, judged by what the carrier, the client and SQL say.
//!
//! `make chaos` is one schedule of everything; `SEED=`, `FOR=`, `SEEDS=`, `ROW=`, `BUG=` and `KILLPOINT=` say what else. Without
//! words, or under a test runner, it is a selection of a few minutes, each part of it a test of its own.

mod bugs;
mod checker;
mod client;
mod deeds;
mod evidence;
mod figures;
mod kills;
mod load;
mod mixed;
mod plan;
mod proxy;
mod report;
mod rows;
mod selection;
mod site;
mod soak;
mod storm;
mod trial;
mod watch;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use rand::RngExt;

use plan::Plan;
use report::Summary;
use trial::Trial;

/// A whole installation under faults.
#[derive(Debug, Parser)]
struct Order {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Faults of every kind in one schedule.
    Mixed {
        #[command(flatten)]
        seeds: Seeds,
        /// How long the faults last, e.g. 30s or 10m.
        #[arg(long = "for", default_value = "60s", value_parser = secs)]
        secs: u32,
    },
    /// One row, e.g. F7, or `all`.
    Row {
        name: String,
        /// How long F29 lasts, e.g. 60m.
        #[arg(long = "for", value_parser = secs)]
        secs: Option<u32>,
        #[command(flatten)]
        seeds: Seeds,
    },
    /// One seeded bug, or `all`: the checker must find each.
    Bug {
        name: String,
        #[command(flatten)]
        seeds: Seeds,
    },
    /// One kill point, e.g. K4, or `all`, by abort and by freeze.
    Killpoint {
        name: String,
        /// How often each.
        #[arg(long, default_value_t = 20)]
        times: usize,
        /// Only this: abort or freeze.
        #[arg(long)]
        only: Option<String>,
        #[command(flatten)]
        seeds: Seeds,
    },
    /// The rows, the seeded bugs and the kill points that there are.
    Names,
}

#[derive(Debug, Clone, Copy, Args)]
struct Seeds {
    /// The first seed; a new one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// How many, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Every second business dials through Telnyx.
    #[arg(long)]
    both: bool,
}

impl Seeds {
    fn all(self) -> impl Iterator<Item = u64> {
        let first = self.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
        first..first + self.seeds
    }

    /// The plan over the carriers that were asked for.
    fn over(self, mut plan: Plan) -> Plan {
        plan.terms.both_carriers = self.both;
        plan
    }
}

fn secs(text: &str) -> Result<u32, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let count: u32 = number.parse().map_err(|_| format!("`{text}` is no time; write 30s or 10m"))?;
    match unit {
        "" | "s" => Ok(count),
        "m" => Ok(count * 60),
        _ => Err(format!("`{unit}` is no unit; write s or m")),
    }
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = match selection::asked(&words) {
        Some(asked) => runtime.block_on(selection::run(asked)),
        None => runtime.block_on(obey(Order::parse().what)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn obey(what: What) -> anyhow::Result<bool> {
    match what {
        What::Mixed { seeds, secs } => {
            trials(seeds.all().map(|seed| seeds.over(mixed::plan(seed, secs))).collect()).await
        }
        What::Row { name, secs, seeds } => {
            let rows: Vec<&rows::Row> = match name.as_str() {
                "all" => rows::ROWS.iter().collect(),
                name => vec![rows::find(name).with_context(|| format!("there is no row {name}; see `names`"))?],
            };
            let (mut plans, all) = (Vec::new(), seeds.all().collect::<Vec<_>>());
            for (row, seed) in rows.iter().flat_map(|row| all.iter().map(move |seed| (row, *seed))) {
                plans.push(seeds.over(row.plan_for(seed, secs)?));
            }
            trials(plans).await
        }
        What::Bug { name, seeds } => {
            let found: Vec<&bugs::Bug> = bugs::BUGS.iter().filter(|bug| name == "all" || bug.name == name).collect();
            if found.is_empty() {
                bail!("there is no seeded bug {name}; see `names`");
            }
            let mut caught = 0;
            for bug in &found {
                caught += usize::from(is_caught(bug, &seeds.over(bug.plan(seeds.seed.unwrap_or(1)))).await?);
            }
            println!("{caught} of {} seeded bugs were found by name", found.len());
            Ok(caught == found.len())
        }
        What::Killpoint { name, times, only, seeds } => killpoints(&name, times, only.as_deref(), seeds).await,
        What::Names => {
            rows::ROWS.iter().for_each(|row| println!("{:6} {}", row.name, row.plan(1).what));
            bugs::BUGS.iter().for_each(|bug| println!("{:24} {} ({})", bug.name, bug.does, bug.breaks));
            kills::POINTS.iter().for_each(|point| println!("{point:?}"));
            Ok(true)
        }
    }
}

/// Trials one after the other, with a table at the end; false where a promise was broken or a figure missed.
async fn trials(plans: Vec<Plan>) -> anyhow::Result<bool> {
    let mut summary = Summary::default();
    for plan in &plans {
        // One that could not be judged does not keep the others from it.
        if let Err(error) = trial(plan, plans.len() == 1, &mut summary).await {
            summary.fail(plan, &error);
        }
    }
    if plans.len() > 1 {
        println!("\n{}", summary.markdown());
    } else {
        println!("{}", summary.line());
    }
    Ok(summary.reached())
}

/// One trial. In full where it is the only one, or went wrong.
async fn trial(plan: &Plan, in_full: bool, summary: &mut Summary) -> anyhow::Result<()> {
    if let Some(why) = deeds::missing(plan) {
        summary.skip(plan, why);
        return Ok(());
    }
    let outcome = Trial::open(plan).await?.run().await.with_context(|| report::again(plan))?;
    if in_full || outcome.violations() > 0 {
        report::print(plan, &outcome);
    } else {
        outcome.ended_alone.iter().for_each(|line| println!("  {line}"));
    }
    summary.add(plan, &outcome);
    Ok(())
}

/// True where the checker finds the promise broken that this bug breaks.
async fn is_caught(bug: &bugs::Bug, plan: &Plan) -> anyhow::Result<bool> {
    let outcome = Trial::open(plan).await?.run().await.with_context(|| format!("BUG={}", bug.name))?;
    let caught = outcome.broken().contains(&bug.breaks);
    let verdict = if caught { "found" } else { "NOT FOUND" };
    println!("{verdict}: {} ({}) breaks {}; broken: {}", bug.name, bug.does, bug.breaks, outcome.broken().join(" "));
    if !caught {
        report::print(plan, &outcome);
    }
    Ok(caught)
}

async fn killpoints(name: &str, times: usize, only: Option<&str>, seeds: Seeds) -> anyhow::Result<bool> {
    let (mut summary, mut all_reached) = (Summary::default(), true);
    let points: Vec<_> =
        kills::POINTS.into_iter().filter(|point| name == "all" || format!("{point:?}") == name).collect();
    if points.is_empty() {
        bail!("there is no kill point {name}; see `names`");
    }
    for point in points {
        for how in [kills::How::Abort, kills::How::Freeze] {
            if only.is_some_and(|only| !format!("{how:?}").eq_ignore_ascii_case(only)) {
                continue;
            }
            let plan = seeds.over(kills::plan(point, how, seeds.seed.unwrap_or(1)));
            let (reached, outcome) = kills::run(&plan, (point, how), times).await?;
            println!("{point:?} {how:?}: reached {reached} of {times} times");
            if outcome.violations() > 0 {
                report::print(&plan, &outcome);
            }
            summary.add(&plan, &outcome);
            all_reached &= reached >= times;
        }
    }
    println!("\n{}", summary.markdown());
    Ok(all_reached && summary.kept())
}
