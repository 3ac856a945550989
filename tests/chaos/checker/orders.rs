//! What the client was promised: stops, runs, keys, suppressions, and what must be told to nobody.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Verdict;
use crate::{
    client::{Said, Stop},
    evidence::{Evidence, answered_ms, attempt_of},
};

/// Clocks of two processes are read a moment apart.
const MOMENT_MS: i64 = 20;

/// I7.
pub(super) fn nothing_after_a_stop(e: &Evidence) -> Verdict {
    let (mut violations, mut stops) = (Vec::new(), 0);
    for said in &e.said {
        let Said::Stopped { run, how, at_ms, listed, total } = said else { continue };
        stops += 1;
        if listed.len() as u64 != (*total).min(100) {
            violations.push(format!("the stop of run {run} lists {} of {total}", listed.len()));
        }
        let resumed = e.said.iter().filter_map(|said| match said {
            Said::Resumed { run: resumed, at_ms: at } if resumed == run && at >= at_ms => Some(*at),
            _ => None,
        });
        let until = resumed.min().unwrap_or(i64::MAX);
        for entry in e.log.iter().filter(|entry| entry.at_ms > *at_ms && entry.at_ms < until) {
            let Some(attempt) = e.attempt(entry.token.as_deref()).filter(|a| a.run == Some(*run)) else { continue };
            if !listed.contains(&attempt.id) {
                let late = entry.at_ms - at_ms;
                violations.push(format!(
                    "{} of run {run} was sent {late} ms after the {how:?} and is not listed",
                    attempt.id
                ));
            }
        }
        if *how == Stop::Cancel {
            violations.extend(heard_after_a_cancel(e, *run, *at_ms));
        }
    }
    Verdict {
        invariant: "I7",
        promise: "after a pause or cancel is acknowledged nothing is sent that it does not list",
        looked_at: format!("{stops} pauses and cancels"),
        violations,
    }
}

/// Calls of a cancelled run that were answered after the cancel and heard something.
fn heard_after_a_cancel(e: &Evidence, run: Uuid, at_ms: i64) -> Vec<String> {
    let spoken = e.calls.iter().filter(|call| {
        e.attempt(call.token.as_deref()).is_some_and(|a| a.run == Some(run))
            && answered_ms(call).is_some_and(|at| at > at_ms)
            && !call.heard.is_empty()
    });
    spoken
        .map(|call| format!("the call {} of the cancelled run {run} heard {} texts", call.sid, call.heard.len()))
        .collect()
}

/// I8.
pub(super) fn no_job_is_lost(e: &Evidence) -> Verdict {
    let mut violations = Vec::new();
    let mut accepted = 0;
    let suppressed: BTreeSet<(usize, &str)> = e
        .said
        .iter()
        .filter_map(|said| match said {
            Said::Suppressed { tenant, number, .. } => Some((*tenant, number.as_str())),
            _ => None,
        })
        .collect();
    for said in &e.said {
        match said {
            Said::Made { run, tenant, numbers, .. } => {
                let found: BTreeSet<&str> =
                    e.jobs.iter().filter(|job| job.run == *run).map(|job| job.to.as_str()).collect();
                // A number that is suppressed when its list comes is not taken, and the answer says so.
                let takes =
                    |number: &String| found.contains(number.as_str()) || !suppressed.contains(&(*tenant, number));
                let taken: Vec<&String> = numbers.iter().filter(|number| takes(number)).collect();
                accepted += taken.len();
                let lost = taken.iter().filter(|number| !found.contains(number.as_str())).count();
                if lost > 0 {
                    violations.push(format!("run {run} has lost {lost} of {} accepted numbers", numbers.len()));
                }
            }
            Said::Called { tenant, call, to } => {
                let kept = e.attempts.get(call).is_some_and(|a| a.business == e.tenants[*tenant].id && a.to == *to);
                if !kept {
                    violations.push(format!("the single call {call} is not in the ledger"));
                }
            }
            _ => {}
        }
    }
    let mut acknowledged = 0;
    for call in &e.calls {
        let told = call.callbacks.iter().filter(|one| one.answer.is_some_and(|status| (200..300).contains(&status)));
        let told = told.filter(|one| one.status == call.status.word()).filter_map(|one| one.answered_at_ms);
        let Some(told) = told.min() else { continue };
        acknowledged += 1;
        let Some(attempt) = e.attempt(call.token.as_deref()) else { continue };
        let Some(closing) = attempt.moves.iter().find(|one| one.closes()) else { continue };
        // Whoever asks may know it before; afterwards there is nothing left to find out.
        if closing.source == "reconcile" && closing.at_ms > told + MOMENT_MS {
            violations.push(format!("the end of {} was acknowledged, and learned by asking later", call.sid));
        }
    }
    Verdict {
        invariant: "I8",
        promise: "no job and no acknowledged webhook is lost by a death, an empty Redis or a restart of Postgres",
        looked_at: format!("{accepted} accepted numbers, {acknowledged} acknowledged ends"),
        violations,
    }
}

/// I9.
pub(super) fn one_run_per_key(e: &Evidence) -> Verdict {
    let mut violations: Vec<String> = Vec::new();
    let mut made: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    for said in &e.said {
        if let Said::Made { key, run, .. } = said {
            made.entry(key).or_default().insert(*run);
        }
    }
    violations
        .extend(made.iter().filter(|(_, runs)| runs.len() > 1).map(|(key, runs)| format!("key {key} made {runs:?}")));
    let keys = e.left.runs_by_name.iter().filter(|(name, _)| name != "long");
    violations.extend(keys.filter(|(_, count)| *count > 1).map(|(key, count)| format!("key {key} made {count} runs")));
    Verdict {
        invariant: "I9",
        promise: "the same Idempotency-Key makes one run",
        looked_at: format!(
            "{} keys, {} answers of the api, {} of them none",
            made.len(),
            e.answers.all,
            e.answers.none
        ),
        violations,
    }
}

/// I10.
pub(super) fn no_foreign_data(e: &Evidence) -> Verdict {
    let asked: Vec<u16> = e
        .said
        .iter()
        .filter_map(|said| if let Said::Foreign { status } = said { Some(*status) } else { None })
        .collect();
    let mut violations: Vec<String> = asked
        .iter()
        .filter(|status| **status != 404)
        .map(|status| format!("a foreign run was answered with {status}"))
        .collect();
    for entry in &e.log {
        let owner = e.attempt(entry.token.as_deref()).map(|a| a.business);
        let account = e.tenants.iter().find(|tenant| tenant.account == entry.account).map(|tenant| tenant.id);
        if owner.is_some() && owner != account {
            let id = attempt_of(entry.token.as_deref()).unwrap_or_default();
            violations.push(format!("attempt {id} was sent with another business's account"));
        }
    }
    Verdict {
        invariant: "I10",
        promise: "a business never sees or moves another's data",
        looked_at: format!("{} reads of another's run, the account of every create", asked.len()),
        violations,
    }
}

/// I11, but for windows, which no trial waits for.
pub(super) fn nobody_is_called_against_the_rules(e: &Evidence) -> Verdict {
    let mut violations: Vec<String> = e
        .left
        .dialed_while_suppressed
        .iter()
        .map(|id| format!("attempt {id} is younger than the suppression of its number"))
        .collect();
    let mut suppressed = 0;
    for said in &e.said {
        let Said::Suppressed { tenant, number, at_ms } = said else { continue };
        suppressed += 1;
        let account = &e.tenants[*tenant].account;
        let later =
            e.log.iter().filter(|entry| entry.account == *account && entry.to == *number && entry.at_ms > *at_ms);
        for entry in later {
            // What was claimed before may still leave, for as long as a claim is young enough to be sent.
            let before = e.attempt(entry.token.as_deref()).is_some_and(|a| a.intent_ms <= *at_ms);
            if !before {
                violations.push(format!("a suppressed number was asked for {} ms later", entry.at_ms - at_ms));
            }
        }
    }
    let mut dials: BTreeMap<(Uuid, &str), usize> = BTreeMap::new();
    for attempt in e.attempts.values().filter(|attempt| attempt.counts()) {
        *dials.entry((attempt.business, &attempt.to)).or_default() += 1;
    }
    let above = dials.values().filter(|times| **times > 1);
    violations.extend(above.map(|times| format!("a number was dialed {times} times; its business dials one once")));
    let mut jobs: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for said in &e.said {
        let Said::Made { tenant, numbers, .. } = said else { continue };
        numbers.iter().for_each(|number| *jobs.entry((*tenant, number)).or_default() += 1);
    }
    let shared = jobs.values().filter(|lists| **lists > 1).count();
    Verdict {
        invariant: "I11",
        promise: "no dial to a suppressed number, none above the limit of its business (windows: make test)",
        looked_at: format!("{suppressed} suppressions, {shared} numbers on several lists"),
        violations,
    }
}

/// I14.
pub(super) fn nothing_secret_is_printed(e: &Evidence) -> Verdict {
    Verdict {
        invariant: "I14",
        promise: "no secret, and no whole phone number, in a log",
        looked_at: "every line of every api and worker".to_owned(),
        violations: e.leaks.clone(),
    }
}
