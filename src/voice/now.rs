//! What time it is where the callee is: a model has no clock, and nobody can agree on a time without one.
//!
//! The time is Redis' own from the moment that the session took the call, and what has passed since.

use std::{collections::BTreeMap, time::Instant};

use chrono::{DateTime, Offset, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::{
    agents::{Definition, Tool},
    voice::session::Parts,
};

/// Of a number that may be in more different local times than this, none is told.
const MOST_TIMES: usize = 6;

/// The clock of one conversation. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Now {
    /// By Redis' clock.
    at_begin: DateTime<Utc>,
    begin: Instant,
    /// Where the callee may be.
    zones: Vec<Tz>,
    /// The agent agrees on times.
    is_told: bool,
}

impl Now {
    /// The clock of this session.
    pub(super) fn of(session: &Parts) -> Self {
        let ms = session.state.memory.started_at_ms + session.spoken_ms;
        Self {
            at_begin: i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default(),
            begin: session.begin,
            zones: session.state.zones.iter().filter_map(|name| name.parse().ok()).collect(),
            is_told: tells(&session.agent),
        }
    }

    /// The prompt with what the model must know of the time behind it, where it agrees on times.
    pub(super) fn added_to(&self, prompt: &str) -> String {
        if !self.is_told {
            return prompt.to_owned();
        }
        let passed = TimeDelta::from_std(self.begin.elapsed()).unwrap_or_default();
        format!("{prompt}\n\n{}", told(self.at_begin + passed, &self.zones))
    }
}

#[cfg(test)]
impl Now {
    /// As if it were this time in this zone.
    pub(super) fn at(time: &str, zone: &str, agent: &Definition) -> Self {
        let at_begin = time.parse().unwrap();
        Self { at_begin, begin: Instant::now(), zones: vec![zone.parse().unwrap()], is_told: tells(agent) }
    }
}

/// The agent agrees on times.
fn tells(agent: &Definition) -> bool {
    agent.tools.iter().any(|tool| matches!(tool, Tool::AgreeTime {}))
}

/// In words.
fn told(now: DateTime<Utc>, zones: &[Tz]) -> String {
    // One of each local time; their zones are sorted by name.
    let mut times: BTreeMap<i32, String> = BTreeMap::new();
    for zone in zones {
        let local = now.with_timezone(zone);
        let text = || format!("{} ({}, {})", local.format("%A, %-d %B %Y, %H:%M"), zone.name(), local.format("%:z"));
        times.entry(local.offset().fix().local_minus_utc()).or_insert_with(text);
    }
    let times: Vec<String> = times.into_values().collect();
    match times.as_slice() {
        [one] => format!("It is now {one} where the person on the phone is."),
        [] => unknown(now),
        several if several.len() > MOST_TIMES => unknown(now),
        several => format!(
            "Where the person on the phone is, it is now one of these; ask which before you agree on a time: {}.",
            several.join("; ")
        ),
    }
}

fn unknown(now: DateTime<Utc>) -> String {
    let utc = now.format("%A, %-d %B %Y, %H:%M");
    format!(
        "It is now {utc} UTC. Where the person on the phone is, is not known: ask for the local time before you agree on one."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_told_where_the_callee_is_or_may_be() {
        let now: DateTime<Utc> = "2026-11-23T21:05:59Z".parse().unwrap();
        let text = |names: &[&str]| told(now, &names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Tz>>());
        let one = "It is now Monday, 23 November 2026, 14:05 (America/Boise, -07:00) where the person on the phone is.";
        assert_eq!(text(&["America/Boise", "America/Denver"]), one);
        let two = text(&["America/Chicago", "America/New_York"]);
        assert!(
            two.ends_with(
                "15:05 (America/Chicago, -06:00); Monday, 23 November 2026, 16:05 (America/New_York, -05:00)."
            ),
            "{two}"
        );
        assert!(text(&["Asia/Tokyo"]).contains("Tuesday, 24 November 2026, 06:05 (Asia/Tokyo, +09:00)"));
        assert!(text(&[]).starts_with("It is now Monday, 23 November 2026, 21:05 UTC."));
    }
}
