//! Conversations that are cut at random moments, at the caller's end and at the providers'.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    caller::{self, Leaves},
    crowd::Hall,
    full::nothing_left,
    meter::Held,
    place::Place,
    report::{Report, Target},
    script::Script,
};

/// Connections to the stores, which are made when they are first needed.
const MADE_ONCE: usize = 10;
/// Conversations at once.
const AT_ONCE: usize = 200;
/// Conversations that are cut before it is measured: from some thousand on, no more memory is kept however many follow.
const BEFORE: usize = 3_000;
/// What ends within a second of its cut has time enough; leases end by themselves after six.
const PATIENCE: Duration = Duration::from_secs(5);
/// A session that never had a stream is looked for, and forgotten, after ten seconds.
const FORGOTTEN: Duration = Duration::from_secs(15);

pub(crate) async fn measure(mut place: Place, cuts: usize, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    let hall = Arc::new(Hall {
        script: Script::new(),
        measures: AtomicBool::new(false),
        talking: AtomicUsize::new(0),
        over: CancellationToken::new(),
    });
    let fresh = Held::now(&mut place)?;
    let faults = json!([
        {"provider": "transcription", "kind": "close", "code": 1006, "share": 0.15, "ms": "0..2000"},
        {"provider": "transcription", "kind": "silent", "share": 0.03},
        {"provider": "speech", "kind": "close", "code": 1006, "share": 0.15, "ms": "0..2000"},
        {"provider": "speech", "kind": "silent", "share": 0.03},
        {"provider": "speech", "kind": "refuse", "share": 0.03},
        {"provider": "chat", "kind": "close", "share": 0.1},
        {"provider": "chat", "kind": "silent", "share": 0.05},
    ]);
    place.client.carrier(Method::PUT, "/_provider_faults", Some(faults)).await?;
    // Some have come and been cut before: what is made once, and what an allocator keeps for the next, is no leak.
    let mut random = StdRng::seed_from_u64(seed);
    run(&place, &hall, BEFORE, &mut random).await?;
    let before = Held::at_rest(&mut place, fresh.files + MADE_ONCE).await?;
    let begun = Instant::now();
    let failed = run(&place, &hall, cuts, &mut random).await?;
    let took = begun.elapsed();
    let (left, settled) = place.client.settles(PATIENCE).await?;
    let name = format!("cuts {cuts}");
    report.once(format!("{name}: callers who did not get in"), Target::most(Some(0.0)), failed as f64);
    nothing_left(&name, left, report);
    let waiting = forgotten(&place).await?;
    let after = Held::at_rest(&mut place, before.files).await?;
    let none = Target::most(Some(0.0));
    report.once(format!("{name}: calls that wait for a session, 15 s later"), none, waiting as f64);
    report.once(format!("{name}: files more than before"), none, after.files as f64 - before.files as f64);
    let most = Target::most(Some(before.pss_kib / 10.0));
    report.once(format!("{name}: memory more than before (PSS), KiB"), most, after.pss_kib - before.pss_kib);
    report.note(format!(
        "{name}: seed {seed}, {AT_ONCE} at once, in {:.0} s; a third each within 20 ms, 500 ms and 4 s of its beginning, every other one by a \
         reset; besides, one in five of the providers' sockets broke off, fell silent or was refused. Nothing \
         was left {:.0} ms after the last cut",
        took.as_secs_f64(),
        settled.as_secs_f64() * 1000.0
    ));
    place.close().await
}

/// So many conversations, each cut at its moment; how many did not begin at all.
async fn run(place: &Place, hall: &Arc<Hall>, cuts: usize, random: &mut StdRng) -> anyhow::Result<usize> {
    let moments: Vec<Leaves> = (0..cuts).map(|_| moment(random)).collect();
    let talks = stream::iter(moments).map(|leaves| {
        let (client, hall) = (place.client.clone(), Arc::clone(hall));
        // Tasks, so that both cores work.
        tokio::spawn(async move { caller::talk(&client.session().await?, &hall, leaves, true).await })
    });
    let mut talks = talks.buffer_unordered(AT_ONCE);
    let mut failed = 0;
    while let Some(talk) = talks.next().await {
        if let Err(error) = talk? {
            if failed == 0 {
                println!("  a caller did not get in: {error:#}");
            }
            failed += 1;
        }
    }
    Ok(failed)
}

fn moment(random: &mut StdRng) -> Leaves {
    let within = [20, 500, 4_000][random.random_range(0..3)];
    Leaves::Cut { after: Duration::from_micros(random.random_range(0..within * 1_000)), reset: random.random() }
}

/// Answered calls that wait for a session, once those that nobody wants any more are forgotten.
async fn forgotten(place: &Place) -> anyhow::Result<u64> {
    let begun = Instant::now();
    loop {
        let waiting = place.client.waiting().await?;
        if waiting == 0 || begun.elapsed() > FORGOTTEN {
            return Ok(waiting);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
