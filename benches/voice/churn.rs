//! Rounds of conversations that come and go: what stays behind.

use std::time::Duration;

use crate::{
    crowd::{APART, Crowd},
    full::{ms, nothing_left},
    meter::Held,
    place::Place,
    report::{Report, Target},
};

const ROUNDS: usize = 10;
/// Connections to the stores, which are made when they are first needed.
const MADE_ONCE: usize = 10;
/// A round is heard for so long.
const TALK: Duration = Duration::from_secs(2);
/// Everything is closed within this, or never.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(mut place: Place, sessions: usize, report: &mut Report) -> anyhow::Result<()> {
    let fresh = Held::now(&mut place)?;
    let name = format!("churn {ROUNDS} × {sessions}");
    // The first round makes what is made once: pools, arenas, plans. All end at once, so that each pool is as large as it gets.
    let mut broke = round(&place, sessions, Duration::ZERO).await?;
    let before = Held::at_rest(&mut place, fresh.files + MADE_ONCE).await?;
    for _ in 0..ROUNDS {
        broke += round(&place, sessions, APART).await?;
    }
    let after = Held::at_rest(&mut place, before.files).await?;
    let (left, _) = place.client.settles(PATIENCE).await?;
    let none = Target::most(Some(0.0));
    report.once(format!("{name}: streams that broke off, or never began"), none, broke as f64);
    report.once(format!("{name}: files more than before"), none, after.files as f64 - before.files as f64);
    let more = after.pss_kib - before.pss_kib;
    let most = Target::most(Some(before.pss_kib / 10.0));
    report.once(format!("{name}: memory more than before (PSS), KiB"), most, more);
    nothing_left(&name, left, report);
    report.note(format!(
        "{name}: the calls program fresh: {:.1} MiB, {} files; before, that is after one round more: {:.1} MiB, {} files; after: {:.1} MiB, \
         {} files. Files and memory were read when connections that are kept for the model had run out",
        fresh.pss_kib / 1024.0,
        fresh.files,
        before.pss_kib / 1024.0,
        before.files,
        after.pss_kib / 1024.0,
        after.files
    ));
    place.close().await
}

/// How many did not get through.
async fn round(place: &Place, sessions: usize, apart: Duration) -> anyhow::Result<u64> {
    let crowd = Crowd::gather(&place.client, sessions, apart).await;
    crowd.watch(TALK).await;
    let sum = crowd.disperse().await?;
    println!("  a round of {sessions}: closed p99 {:.0} ms after the hang-up", ms(&sum.close, 0.99));
    Ok(sum.broke)
}
