//! What the programs use while nothing happens, and after a great many calls.

use std::time::{Duration, Instant};

use crate::{
    bench::{Bench, Tempo},
    client::Client,
    meter,
    report::{Report, Target},
};

const CALLS: Tempo = Tempo { dial: "5", ring: "5", talk: "40", accept: "0" };
/// For so long nothing is asked.
const QUIET: Duration = Duration::from_secs(20);
const WARM: usize = 20_000;
const MANY: usize = 100_000;

/// `Q`: CPU of api and worker at rest.
pub(crate) async fn quiet(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut all = bench.install(&CALLS, &[]).await?;
    Client::of(&all).business(0, 3).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, begun) = (meter::cpu(&mut all)?, Instant::now());
    tokio::time::sleep(QUIET).await;
    let used = meter::cpu(&mut all)?.since(&before);
    let percent = |ms: f64| ms / 10.0 / begun.elapsed().as_secs_f64();
    report.once(
        "Q CPU of api and worker at rest, % of a core".to_owned(),
        Target::most(Some(1.0)),
        percent(used.api + used.workers),
    );
    report.once("Q the same with both stores".to_owned(), Target::None, percent(used.total()));
    all.end().await
}

/// `M`: memory of api and worker after 20,000 calls, and what 80,000 more add.
pub(crate) async fn memory(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut all = bench.install(&CALLS, &[]).await?;
    let client = Client::of(&all);
    let run = client.draft(client.business(0, 200).await?, MANY).await?;
    client.start(run).await?;
    client.wait(&format!("ended={WARM}"), Duration::from_secs(300)).await?;
    let warm = meter::pss_mib(&mut all)?;
    client.wait(&format!("ended={MANY}"), Duration::from_secs(600)).await?;
    let last = meter::pss_mib(&mut all)?;
    report.once(format!("M memory of api + worker after {WARM} calls, MiB"), Target::None, warm);
    report.once(format!("M what the calls up to {MANY} added, MiB"), Target::most(Some(warm / 20.0)), last - warm);
    all.end().await
}
