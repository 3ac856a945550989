//! What the demo says at its end: figures, and which promises were kept, as the carrier counted.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use comfy_table::{Table, presets};
use serde::Deserialize;

use crate::ops::installation::Installation;

use super::client::{Run, SLOTS};

/// The sandbox carrier's own counts (`GET /_figures`): it saw the calls, and shares no code with who placed them.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Figures {
    total: Scope,
    media: Media,
    calls_per_second: f64,
}

/// The conversations, as those who were called heard them.
#[derive(Debug, Clone, Default, Deserialize)]
struct Media {
    opened: u64,
    live: u64,
    turns: u64,
    interruptions: u64,
    foreign: u64,
    first_sound_ms: Quantiles,
    answer_ms: Quantiles,
    clear_ms: Quantiles,
    jitter_ms: Quantiles,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Scope {
    created: u64,
    created_twice: u64,
    requested_twice: u64,
    numbers_called_twice: u64,
    live: u64,
    most_live: u64,
    turnaround_ms: Quantiles,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Quantiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.0} ms · p95 {:.0} ms · p99 {:.0} ms", self.p50, self.p95, self.p99)
    }
}

/// A promise and whether this run kept it.
struct Promise {
    kept: bool,
    text: String,
}

impl Figures {
    /// Asks the sandbox carrier.
    pub(super) async fn read(parts: &Installation) -> anyhow::Result<Self> {
        let url = format!("{}/_figures", parts.carrier_url());
        let figures = parts.http().get(url).send().await?.error_for_status()?.json().await;
        figures.context("the carrier's figures have another shape")
    }
}

/// Prints the figures and the promises; true where every promise was kept.
pub(super) fn print(run: &Run, took: Duration, figures: &Figures) -> bool {
    println!("\n{}\n", table(run, took, figures));
    let promises = promises(run, figures);
    for promise in &promises {
        println!("  {}  {}", if promise.kept { "kept  " } else { "BROKEN" }, promise.text);
    }
    promises.iter().all(|promise| promise.kept)
}

fn table(run: &Run, took: Duration, figures: &Figures) -> Table {
    let (leads, total) = (run.leads, &figures.total);
    let listed = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(" · ")
    };
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.add_row([
        "List".to_owned(),
        format!(
            "{} rows: {} accepted, {} duplicates, {} suppressed, {} rejected",
            leads.rows, leads.accepted, leads.duplicates, leads.suppressed, leads.rejected
        ),
    ]);
    table.add_row(["Outcomes", &listed(&run.progress.dispositions)]);
    table.add_row([
        "Calls".to_owned(),
        format!("{} in {:.1} s, {:.1} per second", total.created, took.as_secs_f64(), figures.calls_per_second),
    ]);
    table.add_row(["Slot turnaround".to_owned(), format!("{} (end of a call to the next call)", total.turnaround_ms)]);
    table.add_row([
        "Most at once".to_owned(),
        format!("{} of {SLOTS} allowed, as the carrier counted", total.most_live),
    ]);
    table.add_row(["Called twice", &total.numbers_called_twice.to_string()]);
    let media = &figures.media;
    table.add_row([
        "Conversations".to_owned(),
        format!("{}: {} turns of the agent, {} barge-ins", media.opened, media.turns, media.interruptions),
    ]);
    for (what, times, meaning) in [
        ("First sound", media.first_sound_ms, "media stream opened to the agent's first sound"),
        ("Answers", media.answer_ms, "the callee's last sound to the agent's first, the providers' time included"),
        ("Barge-ins", media.clear_ms, "the callee's first sound to the agent's silence"),
        ("Jitter", media.jitter_ms, "of the frames that the callee heard"),
    ] {
        table.add_row([what.to_owned(), format!("{times} ({meaning})")]);
    }
    table
}

fn promises(run: &Run, figures: &Figures) -> Vec<Promise> {
    let (total, media, progress) = (&figures.total, &figures.media, &run.progress);
    let answered = progress.dispositions.get("answered").copied().unwrap_or_default();
    let promise = |kept: bool, text: String| Promise { kept, text };
    let rows = run.leads.accepted + run.leads.duplicates + run.leads.suppressed + run.leads.rejected;
    vec![
        promise(
            total.numbers_called_twice == 0 && total.created_twice == 0 && total.requested_twice == 0,
            format!("no number is called twice ({} were)", total.numbers_called_twice),
        ),
        promise(
            total.most_live <= u64::from(SLOTS),
            format!("never more than {SLOTS} calls at once ({} were)", total.most_live),
        ),
        promise(
            run.state == "completed" && progress.states.open() == 0 && progress.states.finished() == progress.total,
            format!("every job has ended ({} of {})", progress.states.finished(), progress.total),
        ),
        promise(
            progress.attempts_open == 0 && progress.slots.held == 0 && total.live == 0 && media.live == 0,
            format!(
                "nothing is held ({} attempts, {} slots, {} calls, {} media streams)",
                progress.attempts_open, progress.slots.held, total.live, media.live
            ),
        ),
        promise(
            rows == run.leads.rows && run.leads.accepted == progress.total && rows > 0,
            format!("every row is accounted for ({rows} of {})", run.leads.rows),
        ),
        promise(
            media.opened == answered && (media.turns >= answered),
            format!("an agent talks to everybody who answers ({} to {answered})", media.opened),
        ),
        promise(media.foreign == 0, format!("nobody hears a word of another's call ({} were heard)", media.foreign)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::demo::client::{LeadCounts, Progress, States};

    fn good() -> (Run, Figures) {
        let leads = LeadCounts { rows: 5, accepted: 2, duplicates: 1, suppressed: 1, rejected: 1 };
        let states = States { completed: 1, unreached: 1, ..States::default() };
        let dispositions = BTreeMap::from([("answered".to_owned(), 1), ("busy".to_owned(), 1)]);
        let progress = Progress { total: 2, states, attempts: 2, dispositions, ..Progress::default() };
        let run = Run { id: uuid::Uuid::nil(), state: "completed".into(), leads, progress };
        let total = Scope { created: 2, most_live: 2, ..Scope::default() };
        let media = Media { opened: 1, turns: 3, ..Media::default() };
        (run, Figures { total, media, calls_per_second: 2.0 })
    }

    fn broken(spoil: impl Fn(&mut Run, &mut Figures)) -> usize {
        let (mut run, mut figures) = good();
        spoil(&mut run, &mut figures);
        promises(&run, &figures).iter().filter(|promise| !promise.kept).count()
    }

    #[test]
    fn a_good_run_keeps_every_promise() {
        assert_eq!(broken(|_, _| {}), 0);
    }

    #[test]
    fn each_promise_can_be_broken() {
        assert_eq!(broken(|_, figures| figures.total.numbers_called_twice = 1), 1);
        assert_eq!(broken(|_, figures| figures.total.requested_twice = 1), 1);
        assert_eq!(broken(|_, figures| figures.total.most_live = 26), 1);
        assert_eq!(broken(|run, _| run.state = "cancelled".into()), 1);
        assert_eq!(broken(|run, _| run.progress.states.completed = 0), 1);
        assert_eq!(broken(|run, _| run.progress.attempts_open = 1), 1);
        assert_eq!(broken(|_, figures| figures.total.live = 1), 1);
        assert_eq!(broken(|run, _| run.leads.rows = 6), 1);
        assert_eq!(broken(|_, figures| figures.media.live = 1), 1);
        assert_eq!(broken(|_, figures| figures.media.foreign = 1), 1);
        assert_eq!(broken(|_, figures| figures.media.opened = 0), 1);
        assert_eq!(broken(|_, figures| figures.media.turns = 0), 1);
    }
}
