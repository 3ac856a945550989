//! A process as people and programs are shown it: what it said of itself, with times written as everywhere else.
//!
//! What Redis keeps stays as it is, in seconds and milliseconds since 1970: programs of two versions read each other's beats.

use chrono::DateTime;
use serde::Serialize;

use crate::{
    clock::Time,
    config::Role,
    heartbeats::{Beat, Seen, State, resources::Machine},
};

/// A process in `/status` and `/status/workers`. The fields are those of [`Beat`] and [`Seen`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of a beat under their own names")]
pub struct Shown {
    pub role: Role,
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub started_at: Option<Time>,
    pub beat_at: Option<Time>,
    pub interval_ms: u64,
    pub draining: bool,
    pub queues: Vec<String>,
    pub in_flight: usize,
    pub media_url: Option<String>,
    pub most_sessions: Option<usize>,
    pub cpu_percent: Option<f32>,
    pub memory_bytes: Option<u64>,
    pub sweep_age_ms: Option<u64>,
    pub reconcile_age_ms: Option<u64>,
    pub machine: Option<Machine>,
    pub state: State,
    pub age_ms: u64,
}

impl From<Seen> for Shown {
    fn from(Seen { beat, state, age_ms }: Seen) -> Self {
        let (started_at, beat_at) = (started(&beat), said(&beat));
        Self {
            role: beat.role,
            name: beat.name,
            host: beat.host,
            pid: beat.pid,
            version: beat.version,
            started_at,
            beat_at,
            interval_ms: beat.interval_ms,
            draining: beat.draining,
            queues: beat.queues,
            in_flight: beat.in_flight,
            media_url: beat.media_url,
            most_sessions: beat.most_sessions,
            cpu_percent: beat.cpu_percent,
            memory_bytes: beat.memory_bytes,
            sweep_age_ms: beat.sweep_age_ms,
            reconcile_age_ms: beat.reconcile_age_ms,
            machine: beat.machine,
            state,
            age_ms,
        }
    }
}

/// When the process started, by Redis' clock; none where what it says is no time.
#[must_use]
pub fn started(beat: &Beat) -> Option<Time> {
    at_ms(beat.started_at.checked_mul(1_000)?)
}

/// When it last beat. An earlier version says whole seconds only.
fn said(beat: &Beat) -> Option<Time> {
    at_ms(if beat.beat_at_ms == 0 { beat.beat_at.checked_mul(1_000)? } else { beat.beat_at_ms })
}

fn at_ms(ms: u64) -> Option<Time> {
    DateTime::from_timestamp_millis(i64::try_from(ms).ok()?).map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_written_like_every_other_time() {
        let beat = |more: &str| {
            let text = format!(
                r#"{{"name":"w","host":"h","pid":1,"version":"1","started_at":1700000000,"beat_at":1700000005,"in_flight":3{more}}}"#
            );
            serde_json::to_value(Shown::from(Seen::at(serde_json::from_str(&text).unwrap(), 1_700_000_006_000)))
                .unwrap()
        };
        let shown = beat(r#","beat_at_ms":1700000005123,"interval_ms":5000"#);
        assert_eq!(shown["started_at"], "2023-11-14T22:13:20.000Z");
        assert_eq!(shown["beat_at"], "2023-11-14T22:13:25.123Z");
        assert_eq!((&shown["state"], &shown["age_ms"], &shown["in_flight"]), (&"ready".into(), &877.into(), &3.into()));
        assert_eq!(beat("")["beat_at"], "2023-11-14T22:13:25.000Z", "an earlier version says no milliseconds");
        assert_eq!(beat(r#","beat_at_ms":18446744073709551615"#)["beat_at"], serde_json::Value::Null);
    }
}
