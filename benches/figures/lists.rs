//! Long lists: how fast they come in, how soon their first call is placed, what dialing and reading cost then, and how long a short
//! list beside one waits for its turn.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rollcall::ops::installation::Installation;

use crate::{
    bench::{Bench, Tempo},
    client::{Business, Client, Run},
    meter,
    report::{Report, Target},
};

const CALLS: Tempo = Tempo { dial: "5", ring: "5", talk: "40", accept: "0" };
const SHORT: usize = 100;
const LONG: usize = 1_000_000;
/// Calls over which the cost of one is taken.
const COUNTED: usize = 5_000;
/// Numbers of a short list beside the long one, and how many such lists there are, one after the other.
const FEW: usize = 10;
const NEIGHBOURS: usize = 20;
/// Readings of each kind while the long list is dialed.
const READINGS: u32 = 200;

/// `S`: start of a run to its first POST, for a short and for a long list; `I`: the import of the long one; `R`: reads.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (long, some) = (LONG / bench.smaller, COUNTED / bench.smaller);
    let mut all = bench.install(&CALLS, &[]).await?;
    let client = Client::of(&all);
    let business = client.business(0, 200).await?;

    let mut firsts = Vec::new();
    for _ in 0..5 {
        let run = client.draft(business, SHORT).await?;
        firsts.push(first_post(&client, run).await?);
        client.wait(&format!("ended={SHORT}"), Duration::from_secs(60)).await?;
        client.ended(run, Duration::from_secs(30)).await?;
    }
    firsts.sort_by(f64::total_cmp);
    let range = (firsts[0], firsts[firsts.len() - 1]);
    report.row(
        0.0,
        format!("S start → first POST with {SHORT} numbers, ms"),
        Target::most(Some(30.0)),
        firsts[firsts.len() / 2],
        range,
    );
    let small = cost_per_call(&mut all, &client, client.draft(business, some).await?, some).await?;

    let before = meter::pss_mib(&mut all)?;
    let begun = Instant::now();
    let run = client.draft(business, long).await?;
    report.once(
        "I import, rows/s".to_owned(),
        Target::least(Some(50_000.0)),
        long as f64 / begun.elapsed().as_secs_f64(),
    );
    report.once("I memory that stayed after it, MiB".to_owned(), Target::None, meter::pss_mib(&mut all)? - before);
    client.reset_figures().await?;
    let first = first_post(&client, run).await?;
    report.once(format!("S start → first POST with {long} numbers, ms"), Target::most(Some(30.0)), first);
    let large = counted(&mut all, &client, some).await?;
    report.once(format!("R CPU per call at {long} jobs, of that at {some}"), Target::most(Some(1.1)), large / small);
    read(&client, run, long, report).await?;
    beside(&client, business, long, report).await?;
    all.check()?;
    all.end().await
}

/// ms from asking for the start to the receipt of the first POST.
async fn first_post(client: &Client, run: Run) -> anyhow::Result<f64> {
    client.reset_figures().await?;
    let begun = Instant::now();
    let (started, posted) = futures::join!(client.start(run), client.wait("requests=1", Duration::from_secs(60)));
    started?;
    posted?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

async fn cost_per_call(all: &mut Installation, client: &Client, run: Run, calls: usize) -> anyhow::Result<f64> {
    client.reset_figures().await?;
    client.start(run).await?;
    let cost = counted(all, client, calls).await?;
    client.ended(run, Duration::from_secs(60)).await?;
    Ok(cost)
}

/// CPU per call, ms, from now until so many calls have ended.
async fn counted(all: &mut Installation, client: &Client, calls: usize) -> anyhow::Result<f64> {
    let (before, already) = (meter::cpu(all)?, client.figures().await?.total.ended);
    client.wait(&format!("ended={calls}"), Duration::from_secs(300)).await?;
    let ended = client.figures().await?.total.ended - already;
    Ok(meter::cpu(all)?.since(&before).total() / ended as f64)
}

/// A business with few slots dials a long list: how long ten numbers of another run wait for their first call, from their start on,
/// by the ledger. What is promised is 2 s from the moment when a slot is free, which is later.
async fn beside(client: &Client, business: Business, jobs: usize, report: &mut Report) -> anyhow::Result<()> {
    client.limit(business, 3).await?;
    let mut waits = Vec::new();
    for round in 0..NEIGHBOURS {
        let run = client.short_draft(business, jobs + round * FEW..jobs + (round + 1) * FEW).await?;
        client.start(run).await?;
        anyhow::ensure!(
            client.ended(run, Duration::from_secs(60)).await?,
            "a short run beside a long one has not ended"
        );
        waits.push(client.first_dial_ms(run).await?);
    }
    waits.sort_by(f64::total_cmp);
    report.row(
        0.0,
        format!("R start → first dial of {FEW} numbers beside {jobs}, on 3 slots, ms"),
        Target::most(Some(2_000.0)),
        waits[waits.len() / 2],
        (waits[0], waits[waits.len() - 1]),
    );
    Ok(())
}

/// What a person reads, while calls are placed.
async fn read(client: &Client, run: Run, jobs: usize, report: &mut Report) -> anyhow::Result<()> {
    let base = format!("/v1/runs/{}", run.id);
    for (what, path) in [
        ("progress", base.clone()),
        ("why", format!("{base}/why")),
        ("jobs", format!("{base}/jobs?limit=50")),
        ("failed jobs", format!("{base}/jobs?state=failed&limit=50")),
        ("completed jobs", format!("{base}/jobs?state=completed&limit=50")),
        ("queued jobs", format!("{base}/jobs?state=queued&limit=50")),
        ("dialing jobs", format!("{base}/jobs?state=dialing&limit=50")),
        ("jobs to a number", "/v1/jobs?to=%2B447400000007".to_owned()),
    ] {
        let mut took = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        for _ in 0..READINGS {
            let begun = Instant::now();
            client.read(run, &path).await?;
            took.record(u64::try_from(begun.elapsed().as_micros())?)?;
        }
        let ms = |us: u64| us as f64 / 1000.0;
        let (half, most) = (ms(took.value_at_quantile(0.5)), ms(took.max()));
        let p99 = ms(took.value_at_quantile(0.99));
        report.row(
            0.0,
            format!("R {what} at {jobs} jobs while dialing, p99 ms"),
            Target::most(Some(20.0)),
            p99,
            (half, most),
        );
    }
    Ok(())
}
