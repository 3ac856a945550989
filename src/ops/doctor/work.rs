//! Who works, and whether work waits for nobody.

use std::{collections::BTreeSet, time::Duration};

use super::{Check, Fault};
use crate::{
    config::Role,
    context::Context,
    dialing::cleanup::span,
    heartbeats::{self, Room, Seen, State},
    jobs::rung,
    runs::{figures, stuck},
};

/// Each round is made at least every second by every worker: one that is older is not made.
const ROUND_LATE: Duration = Duration::from_secs(10);
/// The sweep rings each second for work with a free slot.
const BELL_LATE: Duration = Duration::from_secs(5);

/// Workers are alive, are of one version, sweep and reconcile.
pub(super) async fn workers(ctx: &Context) -> anyhow::Result<Check> {
    const START: &str = "start rollcall-worker, or look at its log: rollcall-ops workers says which is gone";
    let processes = heartbeats::processes(&ctx.stores).await?;
    let (alive, stale): (Vec<_>, Vec<_>) = processes.iter().partition(|process| process.alive());
    let working = alive.iter().filter(|process| process.beat.role == Role::Worker);
    let ready = working.clone().filter(|worker| worker.state == State::Ready).count();
    let working = working.count();
    let mut faults = Vec::new();
    if ready == 0 {
        let evidence =
            if working == 0 { "no worker is alive".to_owned() } else { format!("all {working} workers drain") };
        faults.push(Fault::fail(evidence, START));
    }
    for process in &stale {
        let evidence = format!(
            "{} has not beaten for {}",
            process.beat.name,
            span(i64::try_from(process.age_ms).unwrap_or(i64::MAX))
        );
        faults.push(Fault::warn(evidence, "it died without saying so; what it claimed is looked for by the others"));
    }
    let versions: BTreeSet<&str> = alive.iter().map(|process| process.beat.version.as_str()).collect();
    if versions.len() > 1 || versions.first().is_some_and(|version| *version != env!("CARGO_PKG_VERSION")) {
        let evidence = format!("versions {versions:?} run, and this command is {}", env!("CARGO_PKG_VERSION"));
        faults.push(Fault::warn(evidence, "end the upgrade: one version everywhere"));
    }
    let rounds = heartbeats::last_rounds(&ctx.stores).await?;
    if ready > 0 {
        for (name, age) in [("sweep", rounds.sweep), ("reconciliation", rounds.reconcile)] {
            if age.is_none_or(|age| age >= ROUND_LATE) {
                let age = age.map_or("is not known to have ended".to_owned(), |age| format!("ended {} ago", text(age)));
                let advice = "have one worker at least with WORKER_QUEUES=calls,runs,recordings,maintenance, and look at its log";
                faults.push(Fault::fail(format!("the last {name} {age}"), advice));
            }
        }
    }
    let well = format!(
        "{ready} workers and {} other processes alive, version {}; swept {} ago, asked carriers {} ago",
        alive.len() - working,
        env!("CARGO_PKG_VERSION"),
        rounds.sweep.map(text).unwrap_or_default(),
        rounds.reconcile.map(text).unwrap_or_default()
    );
    Ok(Check::of("workers", well, faults))
}

/// An api is alive: without one nobody hears the carriers' callbacks, and nobody can start or stop a run.
pub(super) async fn apis(ctx: &Context) -> anyhow::Result<Check> {
    Ok(of_apis(&heartbeats::processes(&ctx.stores).await?))
}

fn of_apis(processes: &[Seen]) -> Check {
    let alive = processes.iter().filter(|process| process.beat.role == Role::Api && process.alive()).count();
    if alive == 0 {
        let evidence = "no api is alive: callbacks of carriers and requests reach nobody";
        return Check::fail("apis", evidence, "start rollcall-api, or look at its log: rollcall-ops workers --all");
    }
    Check::ok("apis", format!("{alive} alive"))
}

/// Runs whose calls talk to an agent have a calls program that takes conversations on.
pub(super) async fn calls_programs(ctx: &Context) -> anyhow::Result<Check> {
    let room = Room::of(&heartbeats::processes(&ctx.stores).await?);
    Ok(of_room(&room, figures::talking(&ctx.stores.pg).await?))
}

fn of_room(room: &Room, runs: i64) -> Check {
    if room.ready == 0 && runs > 0 {
        let evidence = format!("{runs} running runs have an agent, and no calls program takes conversations on");
        let advice = "start rollcall-calls, or look at its log: nobody of these runs is dialed until it beats";
        return Check::fail("calls_programs", evidence, advice);
    }
    let well = format!("{} ready, {} of {} conversations; {runs} running runs", room.ready, room.sessions, room.most);
    Check::ok("calls_programs", format!("{well} have an agent"))
}

/// Work that could be dialed now has somebody who dials it.
pub(super) async fn due(ctx: &Context) -> anyhow::Result<Check> {
    let due = stuck::due(&ctx.stores.pg).await?;
    let queued: i64 = due.iter().map(|run| run.queued).sum();
    let workers = heartbeats::workers(&ctx.stores).await?;
    let businesses: Vec<_> = due.iter().map(|run| run.business).collect();
    let rung = rung::last(&ctx.stores, &businesses).await?;
    let silent = due.iter().zip(rung).filter(|(_, since)| since.is_none_or(|since| since >= BELL_LATE)).count();
    let unended = stuck::unended(&ctx.stores.pg).await?.len();
    let mut faults = Vec::new();
    if !due.is_empty() && !workers.iter().any(heartbeats::Seen::alive) {
        let evidence = format!("{queued} jobs of {} runs could be dialed, and no worker is alive", due.len());
        faults.push(Fault::fail(evidence, "start rollcall-worker"));
    } else if silent > 0 {
        let evidence = format!("{silent} runs with work and a free slot were not rung for within {}", text(BELL_LATE));
        faults.push(Fault::warn(
            evidence,
            "rollcall-ops cleanup shows which; rollcall-ops why RUN says what is in the way",
        ));
    }
    if unended > 0 {
        let evidence = format!("{unended} runs have only finished jobs and have not ended");
        faults.push(Fault::warn(evidence, "a sweep ends them within a second; else: rollcall-ops cleanup --apply"));
    }
    let well = format!("{queued} jobs of {} runs could be dialed now, and are rung for", due.len());
    Ok(Check::of("work", well, faults))
}

fn text(time: Duration) -> String {
    span(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Verdict;

    fn api(beat_at_ms: u64) -> Seen {
        let beat = serde_json::json!({"role": "api", "name": "a", "host": "h", "pid": 1, "version": "1",
            "started_at": 1, "beat_at": 1, "beat_at_ms": beat_at_ms, "interval_ms": 5_000, "in_flight": 0});
        Seen::at(serde_json::from_value(beat).unwrap(), 100_000)
    }

    #[test]
    fn an_installation_without_a_living_api_is_broken() {
        let verdict = |processes: &[Seen]| of_apis(processes).verdict;
        assert_eq!((verdict(&[]), verdict(&[api(1_000)])), (Verdict::Fail, Verdict::Fail));
        assert_eq!(verdict(&[api(1_000), api(99_000)]), Verdict::Ok);
    }

    #[test]
    fn a_run_with_an_agent_needs_a_calls_program_and_no_other_run_does() {
        let verdict = |ready, runs| of_room(&Room { ready, sessions: 0, most: 500 * ready }, runs).verdict;
        assert_eq!((verdict(0, 1), verdict(0, 0), verdict(1, 3)), (Verdict::Fail, Verdict::Ok, Verdict::Ok));
    }
}
