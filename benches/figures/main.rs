//! The figures of the product as one table: `make bench`, or `make bench CASES="A D"`.
//!
//! Every case has an installation of its own with stores that flush as in production, and the sandbox carrier on loopback.
//! What is counted is what the carrier saw. Times are never asserted: a figure that misses its target is shown as missed.

mod bench;
mod client;
mod dialing;
mod lists;
mod machine;
mod many;
mod meter;
mod proc;
mod report;
mod rest;
mod rules;
mod setting;
mod statements;
mod trouble;

use std::path::Path;

use clap::Parser;

use bench::Bench;
use report::{Beside, Report};

/// Above this much CPU per call the carrier, not the product, is what was measured.
const CARRIER: Beside = Beside { heading: "carrier ms/call", whose: "carrier", most: 0.4 };

/// Which cases to measure.
#[derive(Debug, Parser)]
struct Order {
    /// Names of cases (A C D E: dialing; W: A with all campaign rules beside A without; P: statements per call; Q: at rest; L K: trouble; B: many businesses; T: many jobs
    /// due at once; S I R: long lists; M: memory); all without one.
    cases: Vec<String>,
    /// A setting of api and workers that differs from the default, as NAME=VALUE; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting::setting)]
    set: Vec<(&'static str, String)>,
    /// Makes the large cases (B, T, P, S, I, R) that many times smaller, to see whether they run. The figures mean nothing then.
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1000))]
    smaller: u16,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let order = Order::parse();
    let programs = Path::new(env!("CARGO_BIN_EXE_rollcall-ops")).parent().unwrap_or(Path::new("."));
    let wanted = |name: &str| order.cases.is_empty() || order.cases.iter().any(|case| case.eq_ignore_ascii_case(name));
    let bench = Bench { programs: programs.to_owned(), set: order.set.clone(), smaller: order.smaller.into() };
    let mut report = Report::new(CARRIER);
    machine::describe(&bench, &mut report).await?;
    for case in dialing::CASES.iter().filter(|case| wanted(case.name)) {
        dialing::measure(case, &bench, &mut report).await?;
    }
    if wanted("W") {
        rules::measure(&bench, &mut report).await?;
    }
    if wanted("P") {
        statements::measure(&bench, &mut report).await?;
    }
    if wanted("Q") {
        rest::quiet(&bench, &mut report).await?;
    }
    if wanted("L") {
        trouble::lost(&bench, &mut report).await?;
    }
    if wanted("K") {
        trouble::killed(&bench, &mut report).await?;
    }
    if wanted("B") {
        many::businesses(&bench, &mut report).await?;
    }
    if wanted("T") {
        many::due_at_once(&bench, &mut report).await?;
    }
    if wanted("S") || wanted("I") || wanted("R") {
        lists::measure(&bench, &mut report).await?;
    }
    if wanted("M") {
        rest::memory(&bench, &mut report).await?;
    }
    report.print();
    Ok(())
}
