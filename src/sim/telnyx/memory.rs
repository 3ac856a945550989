//! What only Telnyx's side remembers: dials by `command_id`, the pace of each connection, and the key that signs.
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::sim::call::CallId;

/// So long a second dial of the same `command_id` is ignored.
const WINDOW: Duration = Duration::from_secs(60);
/// Dials per second are summed over so long.
const PACE_WINDOW: Duration = Duration::from_secs(5);
/// The seed of RFC 8032, section 7.1, test 1: a public one, never to be used in production.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

/// What Telnyx's side remembers.
#[derive(Debug)]
pub(crate) struct Memory {
    commands: HashMap<(String, String), (Instant, CallId)>,
    dials: HashMap<String, VecDeque<Instant>>,
    seed: [u8; 32],
}

impl Default for Memory {
    fn default() -> Self {
        Self { commands: HashMap::new(), dials: HashMap::new(), seed: SEED }
    }
}

impl Memory {
    pub(crate) const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub(crate) const fn set_seed(&mut self, seed: [u8; 32]) {
        self.seed = seed;
    }

    /// The call that a dial of this `command_id` made less than a minute ago.
    pub(super) fn double_of(&self, connection: &str, command: &str) -> Option<CallId> {
        let known = self.commands.get(&(connection.to_owned(), command.to_owned()))?;
        (known.0.elapsed() < WINDOW).then_some(known.1)
    }

    pub(super) fn remember(&mut self, connection: &str, command: &str, id: CallId) {
        self.commands.insert((connection.to_owned(), command.to_owned()), (Instant::now(), id));
    }

    /// Counts a dial; false where it is one too many for `per_second`, and then it does not count.
    pub(super) fn paced(&mut self, connection: &str, per_second: f64) -> bool {
        if per_second <= 0.0 {
            return true;
        }
        let now = Instant::now();
        let dials = self.dials.entry(connection.to_owned()).or_default();
        while dials.front().is_some_and(|at| now.duration_since(*at) >= PACE_WINDOW) {
            dials.pop_front();
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of dials within five seconds")]
        let full = dials.len() as f64 + 1.0 > per_second * PACE_WINDOW.as_secs_f64();
        if !full {
            dials.push_back(now);
        }
        !full
    }
}
