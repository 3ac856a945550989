//! Follows the demo's run to its end, with a bar that shows how far it is.

use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

use crate::ops::installation::Installation;

use super::client::{Client, Run};

/// Between two looks at the run.
const LOOK: Duration = Duration::from_millis(200);
/// Where no bar can be drawn, a line is printed after so many looks.
const LOOKS_PER_LINE: u32 = 25;
/// A run that takes longer is stuck: it needs about a minute, on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_secs(300);
/// A killed worker leaves attempts in doubt, and the protocol takes 90 s to be sure that they never became calls.
const LIMIT_AFTER_KILL: Duration = Duration::from_secs(600);

/// What is done to the run while it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Nothing.
    None,
    /// The worker is killed once a third of the jobs is over, and another one started.
    KillWorker,
}

/// Waits until the run has ended and returns it, with the time that it took.
pub(super) async fn watch(
    parts: &mut Installation,
    client: &Client,
    started: Run,
    trial: Trial,
) -> anyhow::Result<(Run, Duration)> {
    let bar = bar(started.leads.accepted)?;
    let begun = Instant::now();
    let mut to_kill = trial == Trial::KillWorker;
    let limit = if to_kill { LIMIT_AFTER_KILL } else { LIMIT };
    for look in 1_u32.. {
        parts.check()?;
        let run = client.run(started.id).await?;
        show(&bar, &run, begun.elapsed());
        if bar.is_hidden() && look.is_multiple_of(LOOKS_PER_LINE) {
            println!("  {}/{} jobs · {}", run.progress.states.finished(), run.progress.total, bar.message());
        }
        if matches!(run.state.as_str(), "completed" | "cancelled") {
            bar.finish_and_clear();
            return Ok((run, begun.elapsed()));
        }
        if to_kill && run.progress.states.finished() * 3 >= run.progress.total {
            to_kill = false;
            say(&bar, &format!("kill -9 to the worker, with {} attempts open …", run.progress.attempts_open));
            parts.kill_worker(0).await?;
            say(
                &bar,
                "… and another worker. What the first had claimed but not sent is proven not placed by looking at the",
            );
            say(&bar, "carrier for about 90 s, and called only then: the last calls of this run come after a pause.");
        }
        if begun.elapsed() > limit {
            bar.abandon();
            bail!("the run has not ended after {} s: {}", limit.as_secs(), client.why(started.id).await?);
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("the run was looked at too often")
}

fn bar(total: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("  {elapsed_precise} [{bar:40.cyan/blue}] {pos}/{len} jobs · {msg}")?;
    Ok(ProgressBar::new(total).with_style(style.progress_chars("=> ")))
}

fn show(bar: &ProgressBar, run: &Run, elapsed: Duration) {
    let progress = &run.progress;
    bar.set_position(progress.states.finished());
    bar.set_message(format!(
        "{} live of {} · {:.1} calls/s · {} reached · {} not · {} failed",
        progress.calls_live,
        progress.slots.limit,
        calls_per_second(progress.attempts, elapsed),
        progress.states.completed,
        progress.states.unreached,
        progress.states.failed,
    ));
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
fn calls_per_second(attempts: u64, elapsed: Duration) -> f64 {
    attempts as f64 / elapsed.as_secs_f64().max(0.1)
}

/// A line above the bar, or where there is none.
fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        println!("  {line}");
    } else {
        bar.println(format!("  {line}"));
    }
}
