//! How fast slots are filled: so many jobs over so many businesses and slots, with calls of one length.

use std::time::Duration;

use rollcall::{ops::installation::Installation, sim::Figures};

use crate::{
    bench::{Bench, Tempo},
    client::{Client, Run},
    meter,
    report::{Report, Target},
};

/// One case of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) jobs: usize,
    pub(crate) businesses: usize,
    pub(crate) slots: u32,
    pub(crate) tempo: Tempo,
    pub(crate) targets: Targets,
}

/// What must be reached; none where the table asks for nothing.
pub(crate) struct Targets {
    pub(crate) calls_per_second: Option<f64>,
    pub(crate) turnaround: Option<(f64, f64)>,
    pub(crate) bell_to_post: Option<(f64, f64)>,
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) pss_mib: Option<f64>,
}

impl Targets {
    const NONE: Self =
        Self { calls_per_second: None, turnaround: None, bell_to_post: None, cpu_ms: None, pss_mib: None };
}

/// Calls of 50 ms, answered and over: dialing, ringing and talking together.
const FIFTY: Tempo = Tempo { dial: "5", ring: "5", talk: "40", accept: "0" };
const SECOND: Tempo = Tempo { dial: "50", ring: "150", talk: "800", accept: "0" };

pub(crate) const CASES: [Case; 4] = [
    Case {
        name: "A",
        jobs: 2_000,
        businesses: 20,
        slots: 3,
        tempo: FIFTY,
        targets: Targets {
            calls_per_second: Some(800.0),
            turnaround: Some((20.0, 60.0)),
            bell_to_post: None,
            cpu_ms: Some(1.2),
            pss_mib: Some(40.0),
        },
    },
    Case {
        name: "C",
        jobs: 600,
        businesses: 10,
        slots: 3,
        tempo: SECOND,
        targets: Targets { turnaround: Some((4.0, 20.0)), bell_to_post: Some((5.0, 50.0)), ..Targets::NONE },
    },
    Case {
        name: "D",
        jobs: 5_000,
        businesses: 1,
        slots: 200,
        tempo: FIFTY,
        targets: Targets { calls_per_second: Some(1_000.0), cpu_ms: Some(1.0), ..Targets::NONE },
    },
    Case {
        name: "E",
        jobs: 1_000,
        businesses: 20,
        slots: 3,
        tempo: Tempo { accept: "100..250", ..SECOND },
        targets: Targets {
            calls_per_second: Some(50.0),
            turnaround: Some((4.0, 20.0)),
            bell_to_post: Some((5.0, 50.0)),
            ..Targets::NONE
        },
    },
];

/// Of how many rounds the middle one is shown.
pub(crate) const ROUNDS: usize = 3;

/// What was seen while some runs were dialed from their start to their end.
pub(crate) struct Round {
    pub(crate) figures: Figures,
    pub(crate) cpu: meter::Cpu,
    pub(crate) calls: f64,
    pss_mib: f64,
    live: f64,
}

pub(crate) async fn measure(case: &Case, bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut all = bench.install(&case.tempo, &[]).await?;
    let client = Client::of(&all);
    let mut businesses = Vec::new();
    for n in 0..case.businesses {
        businesses.push(client.business(n, case.slots).await?);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut runs = Vec::new();
        for business in &businesses {
            runs.push(client.draft(*business, case.jobs / case.businesses).await?);
        }
        rounds.push(round(case.jobs, &mut all, &client, &runs).await?);
    }
    let bells = meter::bell_to_post(&all).await?;
    all.check()?;
    all.end().await?;
    rounds.sort_by(|a, b| a.figures.calls_per_second.total_cmp(&b.figures.calls_per_second));
    told(case, &rounds, report);
    let carrier = rounds.get(rounds.len() / 2).map_or(0.0, |middle| middle.figures.cpu_ms_per_call);
    let of = |which: fn((f64, f64)) -> f64| Target::most(case.targets.bell_to_post.map(which));
    for (what, share, target) in [("p50", 0.5, of(|most| most.0)), ("p99", 0.99, of(|most| most.1))] {
        let ms = bells.quantile_ms(share).unwrap_or(f64::NAN);
        let name = case.name;
        report.row(
            carrier,
            format!("{name} bell → POST {what} of all rounds, by the worker, ms"),
            target,
            ms,
            (ms, ms),
        );
    }
    Ok(())
}

/// Dials drafts with so many jobs together.
pub(crate) async fn round(jobs: usize, all: &mut Installation, client: &Client, runs: &[Run]) -> anyhow::Result<Round> {
    client.reset_figures().await?;
    let before = meter::cpu(all)?;
    for run in runs {
        client.start(*run).await?;
    }
    client.wait(&format!("ended={jobs}"), Duration::from_secs(300)).await?;
    let cpu = meter::cpu(all)?.since(&before);
    let figures = client.figures().await?;
    let pss_mib = meter::pss_mib(all)?;
    client.wait("idle=1", Duration::from_secs(30)).await?;
    for run in runs {
        anyhow::ensure!(client.ended(*run, Duration::from_secs(30)).await?, "a run has not ended");
    }
    let total = &figures.total;
    anyhow::ensure!(
        total.numbers_called_twice == 0 && total.created_twice == 0 && total.created == jobs as u64,
        "{jobs} jobs, {} calls, {} twice",
        total.created,
        total.numbers_called_twice
    );
    let live = figures.busy_ms.max(1.0);
    Ok(Round { calls: total.created as f64, cpu, pss_mib, live, figures })
}

fn told(case: &Case, rounds: &[Round], report: &mut Report) {
    let Some(middle) = rounds.get(rounds.len() / 2) else { return };
    let spread = |of: &dyn Fn(&Round) -> f64| {
        let all: Vec<f64> = rounds.iter().map(of).collect();
        (all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max))
    };
    let carrier = middle.figures.cpu_ms_per_call;
    let targets = &case.targets;
    let turn = middle.figures.total.turnaround_ms;
    let name = case.name;
    report.row(
        carrier,
        format!("{name} calls/s"),
        Target::least(targets.calls_per_second),
        middle.figures.calls_per_second,
        spread(&|r| r.figures.calls_per_second),
    );
    report.row(
        carrier,
        format!("{name} slot turnaround p50, ms"),
        Target::most(targets.turnaround.map(|t| t.0)),
        turn.p50,
        spread(&|r| r.figures.total.turnaround_ms.p50),
    );
    report.row(
        carrier,
        format!("{name} slot turnaround p99, ms"),
        Target::most(targets.turnaround.map(|t| t.1)),
        turn.p99,
        spread(&|r| r.figures.total.turnaround_ms.p99),
    );
    report.row(
        carrier,
        format!("{name} CPU per call, ms"),
        Target::most(targets.cpu_ms),
        middle.cpu.total() / middle.calls,
        spread(&|r| r.cpu.total() / r.calls),
    );
    report.note(format!(
        "{name} CPU per call, ms: api {:.2}, worker {:.2}, postgres {:.2}, redis {:.2}; {:.1} s",
        middle.cpu.api / middle.calls,
        middle.cpu.workers / middle.calls,
        middle.cpu.postgres / middle.calls,
        middle.cpu.redis / middle.calls,
        middle.live / 1000.0,
    ));
    report.row(
        carrier,
        format!("{name} PSS of api + worker, MiB"),
        Target::most(targets.pss_mib),
        middle.pss_mib,
        spread(&|r| r.pss_mib),
    );
}
