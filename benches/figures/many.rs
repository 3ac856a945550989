//! Work of many at once: of 10,000 businesses when a worker comes back, and of 100,000 jobs that become due in one second.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use rollcall::{ops::installation::Installation, sim::Figures};

use crate::{
    bench::{Bench, Tempo},
    client::{Client, Run},
    meter,
    report::{Report, Target},
};

/// Calls of 50 ms.
const CALLS: Tempo = Tempo { dial: "5", ring: "5", talk: "40", accept: "0" };
const BUSINESSES: usize = 10_000;
const JOBS_EACH: usize = 3;
/// As many as a business has jobs: a first dial waits for the others, not for its own.
const SLOTS: u32 = 3;
const DUE: usize = 100_000;
const DUE_BUSINESSES: usize = 100;
/// Of every business in that case: together as many as there are lines.
const DUE_SLOTS: u32 = 10;
/// Requests on their way at once while a case is set up.
const AT_ONCE: usize = 16;

/// `B`: so many businesses have work when the only worker starts. How long each waits for its first call, by the carrier's
/// clock from the start of the worker's program, and how fast all are served.
pub(crate) async fn businesses(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let businesses = BUSINESSES / bench.smaller;
    let mut plan = bench.plan(&CALLS, &[]);
    plan.workers = 0;
    let mut all = Installation::start(plan).await?;
    let client = Client::of(&all);
    let runs = drafts(&client, businesses, SLOTS, JOBS_EACH).await?;
    started(&client, &runs).await?;
    client.reset_figures().await?;
    let before = meter::cpu(&mut all)?;
    all.add_worker().await?;
    let calls = businesses * JOBS_EACH;
    client.wait(&format!("ended={calls}"), Duration::from_secs(300)).await?;
    // A worker that started since has used no CPU before.
    let used = meter::cpu(&mut all)?.since(&before).total();
    let figures = client.figures().await?;
    let name = format!("B {businesses} businesses with work at once");
    let waits = first_dials(&figures)?;
    let carrier = figures.cpu_ms_per_call;
    let ms = |us: u64| us as f64 / 1000.0;
    let range = (ms(waits.min()), ms(waits.max()));
    for (what, share) in [("half", 0.5), ("99 %", 0.99), ("all", 1.0)] {
        let took = ms(waits.value_at_quantile(share));
        report.row(carrier, format!("{name}: until {what} had a first call, ms"), Target::None, took, range);
    }
    let pace = figures.calls_per_second;
    let unserved = businesses as f64 - waits.len() as f64;
    let one = (pace, pace);
    report.row(
        carrier,
        format!("{name}: not called for at all"),
        Target::most(Some(0.0)),
        unserved,
        (unserved, unserved),
    );
    report.row(carrier, format!("{name}: calls/s"), Target::None, pace, one);
    report.once(format!("{name}: CPU per call, ms"), Target::None, used / calls as f64);
    report.once(format!("{name}: PSS of api + worker, MiB"), Target::None, meter::pss_mib(&mut all)?);
    report.note(format!(
        "B at {pace:.0} calls/s one call for each business takes {:.0} ms; {} calls, {} numbers called twice",
        businesses as f64 * 1000.0 / pace,
        figures.total.created,
        figures.total.numbers_called_twice
    ));
    all.check()?;
    all.end().await
}

/// `T`: so many jobs become due in the same second, those of a hundred runs that are started together.
pub(crate) async fn due_at_once(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let jobs = DUE / bench.smaller;
    let mut all = bench.install(&CALLS, &[]).await?;
    let client = Client::of(&all);
    let mut runs = Vec::new();
    for n in 0..DUE_BUSINESSES {
        let business = client.business(n, DUE_SLOTS).await?;
        runs.push(client.draft(business, jobs / DUE_BUSINESSES).await?);
    }
    client.reset_figures().await?;
    let begun = std::time::Instant::now();
    started(&client, &runs).await?;
    let starting = begun.elapsed().as_secs_f64() * 1000.0;
    client.wait(&format!("ended={}", jobs / 10), Duration::from_secs(300)).await?;
    let figures = client.figures().await?;
    let waits = first_dials(&figures)?;
    let ms = |us: u64| us as f64 / 1000.0;
    let name = format!("T {jobs} jobs due at once");
    let carrier = figures.cpu_ms_per_call;
    let first = ms(waits.min());
    report.row(carrier, format!("{name}: first dial, ms"), Target::most(Some(2_000.0)), first, (first, first));
    let last = (ms(waits.max()) - starting).max(0.0);
    report.row(
        carrier,
        format!("{name}: from the last start to the first dial of the last of {} businesses, ms", waits.len()),
        Target::None,
        last,
        (last, last),
    );
    let pace = figures.calls_per_second;
    report.row(carrier, format!("{name}: calls/s over the first tenth"), Target::None, pace, (pace, pace));
    report.note(format!("T all {} starts were answered after {starting:.0} ms", runs.len()));
    all.check()?;
    all.end().await
}

/// So many businesses with a draft each, in the order of their making.
async fn drafts(client: &Client, businesses: usize, slots: u32, jobs: usize) -> anyhow::Result<Vec<Run>> {
    stream::iter(0..businesses)
        .map(|n| async move { client.short_draft(client.business(n, slots).await?, 0..jobs).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

async fn started(client: &Client, runs: &[Run]) -> anyhow::Result<()> {
    stream::iter(runs).map(|run| client.start(*run)).buffered(AT_ONCE).try_collect().await
}

/// µs until the first request for each business; a business has an account of its own.
fn first_dials(figures: &Figures) -> anyhow::Result<Histogram<u64>> {
    let mut waits = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
    for waited_ms in figures.accounts.values().filter_map(|account| account.first_request_ms) {
        waits.record((waited_ms * 1000.0) as u64)?;
    }
    Ok(waits)
}
