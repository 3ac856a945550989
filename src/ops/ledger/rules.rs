//! The promises, as an exported ledger shows them kept or broken. Each fault names the line that gives it away.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::record::{Dial, End, Transition};
use crate::attempts::AttemptState;

/// From when until when something was held, and the line that says so.
type Span = (DateTime<Utc>, DateTime<Utc>, u64);

/// What is wrong, and at which line of the file.
pub(super) type Found = Vec<(u64, String)>;

/// A dial with its steps, each with its line in the file.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) line: u64,
    pub(super) dial: Dial,
    pub(super) steps: Vec<(u64, Transition)>,
}

/// Every promise over the whole file; `at` is the moment of the export.
pub(super) fn broken(told: &[Told], at: DateTime<Utc>) -> Found {
    let mut found = Found::new();
    for one in told {
        steps(one, &mut found);
        shape(one, &mut found);
    }
    calls(told, &mut found);
    one_at_a_time(told, at, "job", |dial| dial.job_id.to_string(), &mut found);
    one_at_a_time(told, at, "slot", |dial| dial.slot.to_string(), &mut found);
    one_at_a_time(told, at, "line", |dial| dial.line_held.to_string(), &mut found);
    found
}

/// What the last line says of the file.
pub(super) fn ending(told: &[Told], line: u64, end: &End, found: &mut Found) {
    let counted = (told.len(), told.iter().map(|one| one.steps.len()).sum::<usize>());
    let said = (usize::try_from(end.attempts).ok(), usize::try_from(end.transitions).ok());
    if (Some(counted.0), Some(counted.1)) != said {
        let what = format!(
            "it counts {} attempts and {} transitions; the file has {} and {}",
            end.attempts, end.transitions, counted.0, counted.1
        );
        found.push((line, what));
    }
    let open = told.iter().filter(|one| one.dial.state.is_open()).count();
    let dialing = end.jobs.get("dialing").copied().unwrap_or(0);
    if i64::try_from(open) != Ok(dialing) {
        found.push((line, format!("{dialing} jobs are being dialed, and {open} attempts are open")));
    }
}

/// I4, I6: the rank of an attempt only grows, from the intent to the state it is in.
fn steps(one: &Told, found: &mut Found) {
    let mut state = AttemptState::Intent;
    for (seq, (line, step)) in (1..).zip(&one.steps) {
        if step.seq != seq {
            found.push((*line, format!("it is transition {} where {seq} comes", step.seq)));
        }
        if step.from != state {
            found.push((*line, format!("it leaves {}, but the attempt was {}", step.from.as_str(), state.as_str())));
        }
        // What the carrier says of a closed attempt is written down and moves nothing.
        let late = step.to == step.from && !step.to.is_open();
        if !late && step.to.rank() <= step.from.rank() {
            found.push((*line, format!("it goes back from {} to {}", step.from.as_str(), step.to.as_str())));
        }
        state = step.to;
    }
    if state != one.dial.state {
        let what = format!("it is {}, but its transitions end at {}", one.dial.state.as_str(), state.as_str());
        found.push((one.line, what));
    }
    if one.dial.transitions != one.steps.len() {
        found.push((one.line, format!("it had {} transitions; {} follow", one.dial.transitions, one.steps.len())));
    }
}

/// A closed attempt has an end and an open one has none; what never became a call has no call id.
fn shape(one: &Told, found: &mut Found) {
    let dial = &one.dial;
    if dial.state.is_open() == dial.ended_at.is_some() {
        found.push((one.line, format!("it is {}, and its end does not fit that", dial.state.as_str())));
    }
    let never = matches!(dial.state, AttemptState::Refused | AttemptState::NotSent | AttemptState::NotPlaced);
    if never && dial.call_id.is_some() {
        found.push((one.line, format!("it is {} and has a call id", dial.state.as_str())));
    }
}

/// I1: no call belongs to two attempts.
fn calls(told: &[Told], found: &mut Found) {
    let mut seen = HashMap::new();
    for one in told {
        let Some(call) = &one.dial.call_id else { continue };
        if let Some(other) = seen.insert((&one.dial.account, call), one.line) {
            found.push((one.line, format!("its call {call} belongs to the attempt of line {other}")));
        }
    }
}

/// I1, I2: no two attempts had the same job, slot or line at one time.
fn one_at_a_time(told: &[Told], at: DateTime<Utc>, what: &str, of: impl Fn(&Dial) -> String, found: &mut Found) {
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for one in told {
        let span = (one.dial.intent_at, one.dial.ended_at.unwrap_or(at), one.line);
        spans.entry(of(&one.dial)).or_default().push(span);
    }
    for (key, mut spans) in spans {
        spans.sort_unstable();
        let mut last: Option<(DateTime<Utc>, u64)> = None;
        for (from, until, line) in spans {
            if let Some((end, other)) = last.filter(|(end, _)| from < *end) {
                found.push((line, format!("it had {what} {key} before the attempt of line {other} was over ({end})")));
            }
            last = last.filter(|(end, _)| *end > until).or(Some((until, line)));
        }
    }
}
