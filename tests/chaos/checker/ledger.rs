//! What the ledger says at the end, and what it said on the way.

use std::collections::BTreeMap;

use super::Verdict;
use crate::{
    client::Said,
    evidence::{Evidence, ended_ms},
};

/// I3.
pub(super) fn no_slot_leaks(e: &Evidence) -> Verdict {
    let left = &e.left;
    let living = e.calls.iter().filter(|call| !call.status.is_final()).count();
    let held = [
        (left.open_attempts, "attempts are open in Postgres"),
        (left.holders, "holders are at the gate"),
        (left.lines, "lines are held at the gate"),
        (left.active_count, "calls are active by calls:active_count"),
        (left.living_strays, "stray calls are not over"),
        (i64::try_from(living).unwrap_or(i64::MAX), "calls live at the carrier"),
    ];
    let violations =
        held.iter().filter(|(count, _)| *count != 0).map(|(count, what)| format!("{count} {what}")).collect();
    Verdict {
        invariant: "I3",
        promise: "no slot leaks: when nothing is live or in doubt, nothing is held",
        looked_at: "Postgres, Redis and the carrier at rest".to_owned(),
        violations,
    }
}

/// I4.
pub(super) fn one_final_state(e: &Evidence) -> Verdict {
    let mut violations: Vec<String> = e.seen.changed.clone();
    for job in e.jobs.iter().filter(|job| !job.finished) {
        violations.push(format!("job {} is still {}", job.id, job.state));
    }
    for attempt in e.attempts.values() {
        let closings = attempt.moves.iter().filter(|one| one.closes()).count();
        let reopened = attempt.moves.iter().skip_while(|one| !one.closes()).skip(1).find(|one| one.from != one.to);
        if let Some(reopened) = reopened {
            violations.push(format!("attempt {} went on from {} to {}", attempt.id, reopened.from, reopened.to));
        } else if !attempt.open && closings != 1 {
            violations.push(format!("attempt {} was closed {closings} times", attempt.id));
        }
    }
    Verdict {
        invariant: "I4",
        promise: "every accepted job reaches exactly one final state, which never changes",
        looked_at: format!(
            "{} jobs, {} attempts, {} looks on the way",
            e.jobs.len(),
            e.attempts.len(),
            e.seen.samples.len()
        ),
        violations,
    }
}

/// I5.
pub(super) fn progress_is_the_sum(e: &Evidence) -> Verdict {
    let mut violations = e.left.tallies_off.clone();
    let (mut finals_of, mut looks) = (BTreeMap::new(), 0);
    for said in &e.said {
        let Said::Progress { run, total, sum, finals } = said else { continue };
        looks += 1;
        if total != sum {
            violations.push(format!("run {run}: the states add up to {sum}, the total is {total}"));
        }
        let before = finals_of.insert(*run, *finals).unwrap_or(0);
        if *finals < before {
            violations.push(format!("run {run}: {before} jobs were final, then {finals}"));
        }
    }
    Verdict {
        invariant: "I5",
        promise: "progress equals the sum over the jobs at every read",
        looked_at: format!("{looks} reads of the progress, and every tally at the end"),
        violations,
    }
}

/// I13.
pub(super) fn people_touch_nothing_healthy(e: &Evidence) -> Verdict {
    let by_person: Vec<_> = e
        .attempts
        .values()
        .filter_map(|a| Some((a, a.moves.iter().find(|one| one.source == "ops" && one.closes())?)))
        .collect();
    let live = |attempt: &crate::evidence::Attempt, at: i64| {
        e.calls.iter().any(|call| {
            let own = attempt.call_id.as_deref() == Some(&call.sid)
                || e.attempt(call.token.as_deref()).is_some_and(|named| named.id == attempt.id);
            own && ended_ms(call).is_none_or(|ended| ended > at)
        })
    };
    let violations = by_person
        .iter()
        .filter(|(attempt, closing)| live(attempt, closing.at_ms))
        .map(|(attempt, _)| format!("a person's command closed attempt {} while its call was live", attempt.id))
        .collect();
    Verdict {
        invariant: "I13",
        promise: "cleanup by people or at a start acts on evidence and touches nothing healthy",
        looked_at: format!("{} attempts closed by a person's command", by_person.len()),
        violations,
    }
}
