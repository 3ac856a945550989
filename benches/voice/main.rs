//! What conversations cost, as one table: `make bench-voice`, or `make bench-voice CASES=full SESSIONS=100`.
//!
//! The calls program of this build talks as many cascaded conversations at once as are asked for, over TLS to the sandbox's voice
//! providers, with callers made here, all on this machine. They are sessions without a carrier that speak Twilio's messages, so
//! that no dialer and no webhook is in the figures. Times are never asserted: a figure that misses its target is shown as missed,
//! and one that was taken by callers that were late themselves as invalid.

mod caller;
mod churn;
mod client;
mod crowd;
mod cuts;
mod full;
mod meter;
mod place;
#[path = "../figures/proc.rs"]
mod proc;
#[path = "../figures/report.rs"]
mod report;
mod script;
#[path = "../figures/setting.rs"]
mod setting;
mod turns;

use std::{path::Path, time::Duration};

use clap::Parser;

use place::Place;
use report::{Beside, Report};

/// Callers that are later than this send and measure too late.
const CALLERS: Beside = Beside { heading: "callers late p99, ms", whose: "callers", most: 5.0 };

/// What to measure.
#[derive(Debug, Parser)]
struct Order {
    /// Names of cases: `full` (so many at once), `churn` (ten rounds of a fifth of them), `cuts` (ten times as many, cut at random
    /// moments); all without one.
    cases: Vec<String>,
    /// Conversations at once.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(10..=5_000))]
    sessions: u32,
    /// For so long `full` measures once all of them talk, s.
    #[arg(long, default_value = "30", value_parser = clap::value_parser!(u32).range(5..=3_600))]
    secs: u32,
    /// Of the moments of `cuts`.
    #[arg(long, default_value = "1")]
    seed: u64,
    /// A setting of the calls program that differs from the default, as NAME=VALUE; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting::setting)]
    set: Vec<(&'static str, String)>,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let order = Order::parse();
    let programs = Path::new(env!("CARGO_BIN_EXE_rollcall-calls")).parent().unwrap_or(Path::new("."));
    let wanted = |name: &str| order.cases.is_empty() || order.cases.iter().any(|case| case.eq_ignore_ascii_case(name));
    let sessions = order.sessions as usize;
    let mut report = Report::new(CALLERS);
    report.note(proc::host());
    report.note(place::DELAYS.note());
    for (name, value) in &order.set {
        report.note(format!("{name}={value}"));
    }
    if wanted("full") {
        let place = Place::open(programs, sessions, &order.set).await?;
        full::measure(place, sessions, Duration::from_secs(order.secs.into()), &mut report).await?;
    }
    if wanted("churn") {
        let place = Place::open(programs, sessions, &order.set).await?;
        churn::measure(place, sessions / 5, &mut report).await?;
    }
    if wanted("cuts") {
        let place = Place::open(programs, sessions, &order.set).await?;
        cuts::measure(place, sessions * 10, order.seed, &mut report).await?;
    }
    report.print();
    Ok(())
}
