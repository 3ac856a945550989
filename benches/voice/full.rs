//! So many conversations at once.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{
    client::Left,
    crowd::{APART, Crowd, Sum},
    meter::{Cpu, Held},
    place::{DELAYS, Place},
    report::{Report, Target},
    turns,
};

/// Everything is closed within this of the last hang-up, or never.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(
    mut place: Place,
    sessions: usize,
    hold: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    // One conversation first: what a program reads and makes once is not counted as a conversation's.
    Crowd::gather(&place.client, 1, APART).await.disperse().await?;
    let idle = Held::now(&mut place)?;
    let crowd = Crowd::gather(&place.client, sessions, APART).await;
    let (before, begun) = (Cpu::now(&mut place)?, Instant::now());
    crowd.watch(hold).await;
    let (after, secs) = (Cpu::now(&mut place)?, begun.elapsed().as_secs_f64());
    let (talking, full) = (crowd.talking(), Held::now(&mut place)?);
    let sum = crowd.disperse().await?;
    let (left, settled) = place.client.settles(PATIENCE).await?;

    let name = format!("full {sessions}");
    let late = ms(&sum.late, 0.99);
    let count = talking as f64;
    report.once(format!("{name}: conversations held"), Target::least(Some(sessions as f64)), count);
    report.once(format!("{name}: streams that broke off, or never began"), Target::most(Some(0.0)), sum.broke as f64);
    sound(&name, &sum, late, report);
    start(&name, &sum, late, report);
    told(&name, &place, late, report).await?;
    let session_secs = secs * count.max(1.0);
    for (who, used) in after.since(&before) {
        let target = if who == "rollcall-calls" { Target::most(Some(1.2)) } else { Target::None };
        report.once(format!("{name}: CPU per session-second, ms: {who}"), target, used / session_secs);
    }
    let each = (full.pss_kib - idle.pss_kib) / count.max(1.0);
    report.once(format!("{name}: memory per conversation (PSS), KiB"), Target::most(Some(150.0)), each);
    let close = (ms(&sum.close, 0.5), ms(&sum.close, 1.0));
    let target = Target::most(Some(1_000.0));
    report.row(late, format!("{name}: hang-up → all its sockets closed p99, ms"), target, ms(&sum.close, 0.99), close);
    nothing_left(&name, left, report);
    report.note(format!(
        "full {sessions}: {} frames sent and {} received, {:.0} a second of each conversation while it was measured ({secs:.0} s); \
         calls program {:.1} MiB idle, {:.1} MiB full, {} files; the providers closed the last socket {:.0} ms after the last look at the \
         callers",
        sum.sent,
        sum.received,
        sum.measured as f64 / session_secs,
        idle.pss_kib / 1024.0,
        full.pss_kib / 1024.0,
        full.files,
        settled.as_secs_f64() * 1000.0,
    ));
    place.close().await
}

/// What must be 0 when everybody has hung up.
pub(crate) fn nothing_left(name: &str, left: Left, report: &mut Report) {
    for (what, count) in
        [("conversations", left.conversations), ("leases", left.leases), ("sockets at the providers", left.upstream)]
    {
        report.once(format!("{name}: {what} left"), Target::most(Some(0.0)), count as f64);
    }
}

fn sound(name: &str, sum: &Sum, late: f64, report: &mut Report) {
    let range = (ms(&sum.jitter, 0.5), ms(&sum.jitter, 1.0));
    report.row(late, format!("{name}: jitter of frames p50, ms"), Target::None, range.0, range);
    let p99 = ms(&sum.jitter, 0.99);
    report.row(late, format!("{name}: jitter of frames p99, ms"), Target::most(Some(20.0)), p99, range);
    let holes = sum.ran_out as f64 * 1000.0 / (sum.timed as f64).max(1.0);
    report.row(
        late,
        format!("{name}: holes that a caller hears, per 1,000 frames"),
        Target::None,
        holes,
        (holes, holes),
    );
}

/// From the socket to the first sound, without what the voice itself takes for it.
fn start(name: &str, sum: &Sum, late: f64, report: &mut Report) {
    let less = |share| ms(&sum.start, share) - f64::from(DELAYS.speech);
    let range = (less(0.0), less(1.0));
    let row = format!("{name}: socket → first frame, less the voice's {} ms", DELAYS.speech);
    report.row(late, format!("{row}, p50, ms"), Target::most(Some(50.0)), less(0.5), range);
    report.row(late, format!("{row}, p99, ms"), Target::None, less(0.99), range);
}

/// What the product wrote down itself.
async fn told(name: &str, place: &Place, late: f64, report: &mut Report) -> anyhow::Result<()> {
    let turns = turns::read(&place.all.database_url()).await?;
    let at = |all: &Histogram<u64>, share| all.value_at_quantile(share) as f64;
    for (what, all, most) in [
        ("own part of a turn", &turns.own, Some(10.0)),
        ("end of voice → transcript, less pause and provider", &turns.waiting, None),
        ("end of voice → first sound", &turns.whole, None),
    ] {
        let range = (at(all, 0.0), at(all, 1.0));
        report.row(late, format!("{name}: {what} p50, ms"), Target::most(most), at(all, 0.5), range);
        report.row(late, format!("{name}: {what} p99, ms"), Target::None, at(all, 0.99), range);
    }
    report.note(format!(
        "{name}: {} turns as the product wrote them down, {} cut. Own part: model_ms + speech_ms - {} - {}; in it is what the sandbox's \
         timers are late. To the transcript: transcription_ms - {} - {}; in it is up to 100 ms of sound that is sent at once",
        turns.own.len(),
        turns.cut,
        DELAYS.chat,
        DELAYS.speech,
        DELAYS.endpointing,
        DELAYS.transcript
    ));
    Ok(())
}

/// A quantile of µs as ms.
pub(crate) fn ms(all: &Histogram<u64>, share: f64) -> f64 {
    all.value_at_quantile(share) as f64 / 1000.0
}
