//! Heartbeats: what a process says of itself in Redis, and when its rounds last ended.
//!
//! Invariant: a process is alive while its last beat is younger than two of its own intervals, by Redis' clock. No slot, no
//! job and no attempt depends on it; Redis may forget all of it, and the next beat brings it back.
//! Not here: when a process beats (the programs), what a round does (`dialing`), and how this is shown (`api`, `ops`).

pub mod machines;
pub mod replicas;
pub mod resources;
pub mod rounds;
pub mod shown;
pub mod store;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{config::Role, heartbeats::resources::Machine};

pub use replicas::{Replicas, Room, replica_with_room, room};
pub use rounds::{Round, Rounds};
pub use store::{Heartbeats, Who, any_worker, processes, rounds as last_rounds, workers};

/// For so long a process that has gone silent still shows, as `stale`: whoever was called at night sees what died.
pub const SHOWN_STALE: Duration = Duration::from_secs(600);
/// Intervals without a beat after which a process counts as dead.
pub const MISSED: u32 = 2;

/// What a process says of itself, as JSON: a worker in `workers:{name}`, another role in `processes:{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// What it is for. What says nothing is a worker of an earlier version.
    #[serde(default = "worker")]
    pub role: Role,
    /// Unique per start of a process.
    pub name: String,
    /// The machine.
    pub host: String,
    /// The process on it.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// When it started, seconds since 1970 by Redis' clock.
    pub started_at: u64,
    /// When it last said so, by the same clock.
    pub beat_at: u64,
    /// The same in milliseconds: what its silence is measured by.
    #[serde(default)]
    pub beat_at_ms: u64,
    /// Milliseconds between two beats.
    #[serde(default)]
    pub interval_ms: u64,
    /// True where it takes on nothing more and ends what is in flight.
    #[serde(default)]
    pub draining: bool,
    /// The classes of work that it takes on; empty for what is no worker.
    #[serde(default)]
    pub queues: Vec<String>,
    /// Sends under way; of a calls program, its conversations.
    pub in_flight: usize,
    /// Where carriers open media streams to it; of calls programs only.
    #[serde(default)]
    pub media_url: Option<String>,
    /// Conversations that it holds at once; of calls programs only.
    #[serde(default)]
    pub most_sessions: Option<usize>,
    /// Its time on the processor since its last beat, in percent of one core.
    #[serde(default)]
    pub cpu_percent: Option<f32>,
    /// Its resident memory.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Milliseconds since its own last sweep ended; null where it has made none.
    #[serde(default)]
    pub sweep_age_ms: Option<u64>,
    /// Milliseconds since its own last look at attempts in doubt and at live calls ended; null where it has made none.
    #[serde(default)]
    pub reconcile_age_ms: Option<u64>,
    /// The machine as it sees it.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// What it says of its accounts at voice providers and its detector of voices; of calls programs only.
    #[serde(default)]
    pub models: Option<serde_json::Value>,
}

/// What a process is at when it beats.
#[derive(Debug, Clone, Default)]
pub struct Doing {
    /// Sends under way; of a calls program, its conversations.
    pub in_flight: usize,
    /// See [`Beat::models`].
    pub models: Option<serde_json::Value>,
}

fn worker() -> Role {
    Role::Worker
}

/// What a process is good for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It beats and takes work on.
    Ready,
    /// It beats, and ends what is in flight.
    Draining,
    /// It has missed two beats: it is dead, cut off from Redis, or stopped.
    Stale,
}

/// A process as its last beat shows it. It is written by `shown` only, whose times look like every other time.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What it said.
    pub beat: Beat,
    /// What that means now.
    pub state: State,
    /// Milliseconds since it said so, by Redis' clock.
    pub age_ms: u64,
}

impl Seen {
    /// A beat as it looks at `now_ms` by Redis' clock.
    #[must_use]
    pub fn at(beat: Beat, now_ms: u64) -> Self {
        // An earlier version says whole seconds and no interval, and its key ends with its life.
        let earlier = beat.interval_ms == 0;
        let said_ms = if earlier { beat.beat_at * 1_000 + 999 } else { beat.beat_at_ms };
        let age_ms = now_ms.saturating_sub(said_ms);
        let state = if !earlier && age_ms >= beat.interval_ms * u64::from(MISSED) {
            State::Stale
        } else if beat.draining {
            State::Draining
        } else {
            State::Ready
        };
        Self { beat, state, age_ms }
    }

    /// True where it has missed no more than one beat.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.state != State::Stale
    }
}

/// The name of this machine, or "unknown".
#[must_use]
pub fn host() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.nodename().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(text: &str) -> Beat {
        serde_json::from_str(text).unwrap()
    }

    const EARLIER: &str =
        r#"{"name":"w1","host":"h","pid":1,"version":"0.0.9","started_at":10,"beat_at":20,"in_flight":3}"#;

    #[test]
    fn a_process_is_dead_after_two_missed_beats_and_not_a_moment_before() {
        let said = Beat { interval_ms: 5_000, beat_at_ms: 20_400, ..beat(EARLIER) };
        let state = |now_ms| Seen::at(said.clone(), now_ms).state;
        assert_eq!(state(20_400), State::Ready);
        assert_eq!(state(30_399), State::Ready);
        assert_eq!(state(30_400), State::Stale);
        assert_eq!(Seen::at(Beat { draining: true, ..said.clone() }, 25_000).state, State::Draining);
        assert_eq!(Seen::at(Beat { draining: true, ..said.clone() }, 35_000).state, State::Stale);
    }

    #[test]
    fn a_worker_of_an_earlier_version_is_alive_while_its_key_is_there() {
        let seen = Seen::at(beat(EARLIER), 1_000_000);
        assert_eq!((seen.beat.role, seen.state, seen.beat.in_flight), (Role::Worker, State::Ready, 3));
    }

    #[test]
    fn a_clock_that_went_back_makes_nobody_stale() {
        let said = Beat { interval_ms: 5_000, beat_at_ms: 20_400, ..beat(EARLIER) };
        assert_eq!(Seen::at(said, 10_000).age_ms, 0);
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = serde_json::to_string(&beat(EARLIER)).unwrap();
        assert_eq!(beat(&text), beat(EARLIER));
    }
}
