//! What is left when a worker is killed, or the carrier's callbacks and answers are lost.

use std::time::{Duration, Instant};

use rollcall::ops::installation::Installation;

use crate::{
    bench::{Bench, Tempo},
    client::{Client, Run},
    report::{Report, Target},
};

const CALLS: Tempo = Tempo { dial: "20", ring: "60..100", talk: "150..250", accept: "20..60" };
const JOBS: u64 = 1_000;
const SLOTS: u32 = 20;
/// A number whose POST may or may not have left is proven not placed after some 90 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// `K`: the worker is killed four times in 1,000 calls.
pub(crate) async fn killed(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut all = bench.install(&CALLS, &[]).await?;
    let client = Client::of(&all);
    let run = begin(&client).await?;
    for kill in 1..=4 {
        client.wait(&format!("created={}", kill * JOBS / 5), PATIENCE).await?;
        all.kill_worker(0).await?;
    }
    let last_kill = Instant::now();
    left("K worker killed 4 times in 1,000 calls", &mut all, &client, run, last_kill, report).await
}

/// `L`: 2 % of the callbacks are lost and 5 % of the POSTs accepted and then reset.
pub(crate) async fn lost(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let faults = ["--fault-callback-lost", "0.02", "--fault-reset", "0.05"];
    let mut all = bench.install(&CALLS, &faults).await?;
    let client = Client::of(&all);
    let run = begin(&client).await?;
    client.wait(&format!("created={}", JOBS * 19 / 20), Duration::from_secs(600)).await?;
    left("L 2 % of callbacks lost, 5 % of POSTs reset", &mut all, &client, run, Instant::now(), report).await
}

async fn begin(client: &Client) -> anyhow::Result<Run> {
    let business = client.business(0, SLOTS).await?;
    let run = client.draft(business, usize::try_from(JOBS)?).await?;
    client.start(run).await?;
    Ok(run)
}

/// Waits until the run has ended, at most as long as its promise allows, and says what is stuck.
async fn left(
    name: &str,
    all: &mut Installation,
    client: &Client,
    run: Run,
    since: Instant,
    report: &mut Report,
) -> anyhow::Result<()> {
    client.ended(run, PATIENCE.saturating_sub(since.elapsed())).await?;
    let (as_seen, figures) = (client.run(run).await?, client.figures().await?);
    let progress = &as_seen["progress"];
    let count = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
    let states = &progress["states"];
    let open = count(&states["queued"]) + count(&states["waiting"]) + count(&states["dialing"]);
    let none = Target::most(Some(0.0));
    let mut say = |what: &str, target: Target, value: f64| report.once(format!("{name}: {what}"), target, value);
    say("jobs not over after 120 s", none, open);
    say("slots held then", none, count(&progress["slots"]["held"]));
    say("numbers called twice", none, figures.total.numbers_called_twice as f64);
    say("most calls at once", Target::most(Some(f64::from(SLOTS))), figures.total.most_live as f64);
    say("s from the last of it to the end of the run", Target::None, since.elapsed().as_secs_f64());
    all.check()?;
    Ok(())
}
