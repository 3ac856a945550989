//! What the carrier saw: how often it was asked, how many calls lived at once, and how each ended.

use std::collections::{BTreeMap, HashMap};

use rollcall::sim::{CallReport, LogEntry, Status};

use super::Verdict;
use crate::evidence::{Evidence, ended_ms};

/// Clocks of two processes are read a moment apart.
const MOMENT_MS: i64 = 20;
/// Telnyx makes no second call of a command that it was given within the last minute; half of it is used.
const REPEATED_WITHIN_MS: i64 = 30_000;

/// I1.
pub(super) fn one_post_per_attempt(e: &Evidence) -> Verdict {
    let mut violations = Vec::new();
    let mut posts: HashMap<&str, Vec<&LogEntry>> = HashMap::new();
    for entry in &e.log {
        let Some(token) = entry.token.as_deref() else {
            violations.push(format!("a create without a token at {}", entry.at_ms));
            continue;
        };
        posts.entry(token).or_default().push(entry);
        match e.attempt(Some(token)) {
            None => violations.push(format!("a create at {} of which the ledger knows no intent", entry.at_ms)),
            Some(attempt) if attempt.intent_ms > entry.at_ms + MOMENT_MS => {
                violations.push(format!(
                    "{} was sent {} ms before its intent",
                    attempt.id,
                    attempt.intent_ms - entry.at_ms
                ));
            }
            Some(_) => {}
        }
    }
    for (token, posts) in posts.iter().filter(|(_, posts)| posts.len() > 1 && !is_one_command(e, posts)) {
        let attempt = e.attempt(Some(token)).map(|a| a.id.to_string()).unwrap_or_default();
        violations.push(format!("attempt {attempt} was sent {} times", posts.len()));
    }
    for ((_, to), calls) in e.by_number() {
        let counted: Vec<&&CallReport> = calls.iter().filter(|call| !e.is_excused(call)).collect();
        if counted.len() > 1 {
            let sids: Vec<&str> = counted.iter().map(|call| call.sid.as_str()).collect();
            violations.push(format!("the number …{} was called {} times: {}", end_of(to), sids.len(), sids.join(", ")));
        }
    }
    violations.extend(asked_after_a_call(e));
    Verdict {
        invariant: "I1",
        promise: "at most one POST per attempt; another only after the earlier is proven over",
        looked_at: format!("{} creates, {} calls", e.log.len(), e.calls.len()),
        violations,
    }
}

/// True where all of these are one command to Telnyx, repeated while it remembers the first. Whether it made more than one call
/// of them is looked at apart.
fn is_one_command(e: &Evidence, posts: &[&LogEntry]) -> bool {
    let telnyx =
        e.tenants.iter().any(|tenant| tenant.telnyx && posts.iter().all(|post| post.account == tenant.account));
    let first = posts.iter().map(|post| post.at_ms).min().unwrap_or_default();
    telnyx && posts.iter().all(|post| post.at_ms <= first + REPEATED_WITHIN_MS)
}

/// Creates for a number that the carrier was calling, or had called, already.
fn asked_after_a_call(e: &Evidence) -> Vec<String> {
    let mut first: BTreeMap<(&str, &str), (i64, &str)> = BTreeMap::new();
    for call in e.calls.iter().filter(|call| !e.is_excused(call)) {
        let at = call.timeline.first().map_or(i64::MAX, |(_, at)| *at);
        let token = call.token.as_deref().unwrap_or_default();
        first.entry((&call.account, &call.to)).or_insert((at, token));
    }
    let late: Vec<&str> =
        e.calls.iter().filter(|call| e.is_excused(call)).filter_map(|call| call.token.as_deref()).collect();
    let again = e.log.iter().filter(|entry| {
        let token = entry.token.as_deref().unwrap_or_default();
        let called = first.get(&(entry.account.as_str(), entry.to.as_str()));
        called.is_some_and(|(at, by)| entry.at_ms > *at && *by != token) && !late.contains(&token)
    });
    again
        .map(|entry| format!("…{} was asked for again at {}, after it had been called", end_of(&entry.to), entry.at_ms))
        .collect()
}

/// I2.
pub(super) fn never_more_than_the_limit(e: &Evidence) -> Verdict {
    let counted: Vec<&CallReport> = e.calls.iter().filter(|call| !e.is_excused(call)).collect();
    let mut violations = Vec::new();
    let mut seen = Vec::new();
    for tenant in &e.tenants {
        let most = most_at_once(counted.iter().filter(|call| call.account == tenant.account).copied());
        seen.push(format!("{most}/{}", tenant.limit));
        if most > tenant.limit {
            violations.push(format!("{most} calls of business {} at once; its limit is {}", tenant.id, tenant.limit));
        }
    }
    let most = most_at_once(counted.iter().copied());
    if most > e.lines {
        violations.push(format!("{most} calls of all at once; MAX_CONCURRENT_CALLS is {}", e.lines));
    }
    Verdict {
        invariant: "I2",
        promise: "never more live calls than the limit, per business and in all",
        looked_at: format!("most at once {} in all {most}/{}", seen.join(" "), e.lines),
        violations,
    }
}

/// The most calls that lived at once, from the carrier's acceptance to the end.
fn most_at_once<'a>(calls: impl Iterator<Item = &'a CallReport>) -> usize {
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for call in calls {
        if let Some((_, began)) = call.timeline.first() {
            changes.push((*began, 1));
            changes.push((ended_ms(call).unwrap_or(i64::MAX), -1));
        }
    }
    // An end and a begin of one millisecond are in this order.
    changes.sort_unstable();
    let (mut live, mut most) = (0_i64, 0_i64);
    for (_, change) in changes {
        live += change;
        most = most.max(live);
    }
    usize::try_from(most).unwrap_or_default()
}

/// I6.
pub(super) fn the_ledger_says_what_happened(e: &Evidence) -> Verdict {
    let mut violations = Vec::new();
    let mut late = 0;
    for call in &e.calls {
        let Some(attempt) = e.attempt(call.token.as_deref()) else {
            violations.push(format!("the call {} belongs to no attempt", call.sid));
            continue;
        };
        if e.is_excused(call) {
            late += 1;
            if attempt.late_events == 0 {
                violations.push(format!("the late call {} was never heard of", call.sid));
            }
            continue;
        }
        if attempt.call_id.as_deref() != Some(&call.sid) {
            violations
                .push(format!("attempt {} knows {:?}, the carrier called {}", attempt.id, attempt.call_id, call.sid));
        } else if attempt.account != call.account || attempt.to != call.to {
            violations.push(format!("attempt {} has another account or number than its call {}", attempt.id, call.sid));
        } else if !fits(call.status, attempt.disposition.as_deref()) {
            let said = attempt.disposition.as_deref().unwrap_or(&attempt.state);
            violations.push(format!(
                "the call {} was {}; attempt {} says {said}",
                call.sid,
                call.status.word(),
                attempt.id
            ));
        }
    }
    violations.extend(e.said.iter().filter_map(|said| match said {
        crate::client::Said::Forged { status } if *status < 400 => {
            Some(format!("a forged callback was answered with {status}"))
        }
        _ => None,
    }));
    let callbacks: usize = e.calls.iter().map(|call| call.callbacks.len()).sum();
    Verdict {
        invariant: "I6",
        promise: "forged, doubled, reordered, late or lost webhooks change nothing but time",
        looked_at: format!("{callbacks} callbacks, {} calls against the ledger, {late} of them late", e.calls.len()),
        violations,
    }
}

/// True where the ledger's word is the one for how the call ended.
fn fits(status: Status, disposition: Option<&str>) -> bool {
    match status {
        Status::Completed => matches!(disposition, Some("answered" | "machine" | "fax" | "abandoned")),
        Status::Busy => disposition == Some("busy"),
        Status::NoAnswer => disposition == Some("no_answer"),
        Status::Failed => disposition == Some("failed"),
        Status::Canceled => disposition == Some("cancelled"),
        Status::Queued | Status::Initiated | Status::Ringing | Status::InProgress => false,
    }
}

/// The last two digits: no whole number is printed.
fn end_of(number: &str) -> &str {
    number.get(number.len().saturating_sub(2)..).unwrap_or_default()
}
