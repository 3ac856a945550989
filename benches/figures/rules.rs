//! What campaign rules cost: case A by turns without any and with all of them, in one installation.

use rollcall::sim::Quantiles;
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    client::{Business, Client, Run},
    dialing::{self, CASES, Round},
    meter,
    report::{Report, Target},
};

/// With all rules the figures are within a fifth of those without.
const FIFTH: f64 = 0.2;
/// Numbers and prefixes on the suppression list of each business, none of which is called.
const SUPPRESSED: usize = 1_000;
const PREFIXES: usize = 100;
/// Caller ids of each business, which take turns.
const POOL: usize = 3;

/// Every kind of rule that a claim looks at, so that none of them holds a call back.
async fn rule(client: &Client, business: Business, n: usize) -> anyhow::Result<()> {
    let pool: Vec<String> = (0..POOL).map(|of| format!("+12025{:06}", 550_000 + n * POOL + of)).collect();
    client.account(business, &pool).await?;
    for number in pool {
        let limits = json!({"number": number, "max_per_day": 1_000_000, "max_at_once": 100});
        client.patch(business, "/v1/caller-ids", &limits).await?;
    }
    let rules = json!({"window": window(), "attempt_caps": {"per_day": 100, "per_24h": 100, "lifetime": 1_000}});
    client.patch(business, "/v1/calling-rules", &rules).await?;
    let mut list = String::from("number\n");
    (0..SUPPRESSED).for_each(|n| list.push_str(&format!("+4475{n:08}\n")));
    (0..PREFIXES).for_each(|n| list.push_str(&format!("+4476{n:03}*\n")));
    client.suppress(business, list).await
}

fn window() -> Value {
    json!({"hours": [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00"}],
        "blackout_dates": ["2020-12-25"], "zone": "callee"})
}

/// What a run says besides.
fn of_the_run() -> Value {
    json!({
        "window": window(), "local_presence": "area_code", "max_concurrent_calls": 3, "weight": 2,
        "retry": {"max_attempts": 3, "rules": {"busy": {"delay_secs": 900, "jitter_pct": 10, "max": 2}}},
        "breaker": {"max_failed_pct": 50}, "budget": {"max_attempts": 1_000_000, "max_call_minutes": 1_000_000},
        "abandon_guard": {"max_pct": 50},
    })
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let [case, ..] = &CASES;
    let mut all = bench.install(&case.tempo, &[]).await?;
    let client = Client::of(&all);
    let (mut plain, mut ruled) = (Vec::new(), Vec::new());
    for n in 0..case.businesses {
        plain.push(client.business(n, case.slots).await?);
        let business = client.business(n, case.slots).await?;
        rule(&client, business, n).await?;
        ruled.push(business);
    }
    let jobs = case.jobs / case.businesses;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..dialing::ROUNDS {
        without.push(
            dialing::round(case.jobs, &mut all, &client, &drafts(&client, &plain, jobs, &json!({})).await?).await?,
        );
        with.push(
            dialing::round(case.jobs, &mut all, &client, &drafts(&client, &ruled, jobs, &of_the_run()).await?).await?,
        );
    }
    all.check()?;
    all.end().await?;
    let carrier = |rounds: &[Round]| middle(rounds, |round| round.figures.cpu_ms_per_call);
    let beside = carrier(&with).max(carrier(&without));
    let figures: [(&str, Target, Figure); 4] = [
        ("calls/s", Target::AtLeast(1.0 - FIFTH), |round| round.figures.calls_per_second),
        ("CPU per call", Target::AtMost(1.0 + FIFTH), |round| round.cpu.total() / round.calls),
        ("slot turnaround p50", Target::AtMost(1.0 + FIFTH), |round| turnaround(round, |ms| ms.p50)),
        ("slot turnaround p99", Target::AtMost(1.0 + FIFTH), |round| turnaround(round, |ms| ms.p99)),
    ];
    for (what, target, of) in figures {
        let ratio = middle(&with, of) / middle(&without, of);
        let what = format!("W {what} with all rules, of that without");
        report.row(beside, what, target, ratio, ends(&with, &without, of));
    }
    let parts = |rounds: &[Round]| {
        let of = |part: fn(&meter::Cpu) -> f64| middle(rounds, |round| part(&round.cpu) / round.calls);
        format!(
            "api {:.2}, worker {:.2}, postgres {:.2}, redis {:.2}",
            of(|c| c.api),
            of(|c| c.workers),
            of(|c| c.postgres),
            of(|c| c.redis)
        )
    };
    report.note(format!(
        "W: {:.0} and {:.0} calls/s; CPU per call, ms: without rules {}; with them {}; turnaround is the middle of all accounts'",
        middle(&without, |round| round.figures.calls_per_second),
        middle(&with, |round| round.figures.calls_per_second),
        parts(&without),
        parts(&with)
    ));
    Ok(())
}

async fn drafts(client: &Client, businesses: &[Business], jobs: usize, rules: &Value) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for business in businesses {
        runs.push(client.draft_by(*business, jobs, rules.clone()).await?);
    }
    Ok(runs)
}

/// A figure of a round.
type Figure = fn(&Round) -> f64;

/// By account, because a business whose caller ids take turns has one account, and the carrier pairs ends and creates by either.
fn turnaround(round: &Round, of: fn(&Quantiles) -> f64) -> f64 {
    let mut all: Vec<f64> = round
        .figures
        .accounts
        .values()
        .filter(|scope| scope.created > 0)
        .map(|scope| of(&scope.turnaround_ms))
        .collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The middle one of a figure.
fn middle(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The least and the largest ratio of two rounds that followed one another.
fn ends(with: &[Round], without: &[Round], of: Figure) -> (f64, f64) {
    let all = with.iter().zip(without).map(|(with, without)| of(with) / of(without));
    all.fold((f64::INFINITY, 0.0), |(least, most), ratio| (least.min(ratio), most.max(ratio)))
}
