//! How far a run is.
//!
//! I5: the tally is moved by the statement that moves a job, and read with the open attempts in one snapshot; so the states
//! always add up to the total.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::clock::Time;

/// Jobs per state; a state without jobs is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "one count per state of a job, under the state's name")]
pub struct StateCounts {
    pub queued: i64,
    pub waiting: i64,
    pub dialing: i64,
    pub completed: i64,
    pub unreached: i64,
    pub failed: i64,
    pub skipped: i64,
    pub cancelled: i64,
}

/// What is held of what may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Held {
    /// Open attempts that hold one.
    pub held: i64,
    /// How many there are.
    pub limit: i32,
}

/// How far a run is, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Progress {
    /// Grows with every change of a job or of the run.
    pub sequence: i64,
    /// The moment.
    pub at: Time,
    /// Jobs: the sum of `states`.
    pub total: i64,
    /// Jobs per state.
    pub states: StateCounts,
    /// Jobs per disposition; a disposition that no job has is left out.
    pub dispositions: BTreeMap<String, i64>,
    /// Attempts charged to the jobs.
    pub attempts: i64,
    /// Attempts that hold a slot.
    pub attempts_open: i64,
    /// Open attempts that the carrier has accepted.
    pub calls_live: i64,
    /// Slots of the business.
    pub slots: Held,
    /// When the run will be over at the pace of its last calls: an estimate, null where nothing may be dialed now or nothing can be said.
    pub eta: Option<Time>,
}

/// Prefix of the tally keys that count dispositions.
const DISPOSITION: &str = "d:";

impl Progress {
    /// Reads a tally (key → sum over the shards) and what was counted with it.
    /// `eta` is asked for the rest.
    pub(super) fn of(
        tally: &HashMap<String, i64>,
        (at, eta): (Time, impl FnOnce(&StateCounts, i64) -> Option<Time>),
        attempts_open: i64,
        calls_live: i64,
        slots: Held,
    ) -> Self {
        let n = |key: &str| tally.get(key).copied().unwrap_or_default();
        let states = StateCounts {
            queued: n("queued"),
            waiting: n("waiting"),
            dialing: n("dialing"),
            completed: n("completed"),
            unreached: n("unreached"),
            failed: n("failed"),
            skipped: n("skipped"),
            cancelled: n("cancelled"),
        };
        let dispositions = tally
            .iter()
            .filter(|(_, count)| **count != 0)
            .filter_map(|(key, count)| Some((key.strip_prefix(DISPOSITION)?.to_owned(), *count)))
            .collect();
        Self {
            sequence: n("changes"),
            at,
            total: states.total(),
            states,
            dispositions,
            attempts: n("attempts"),
            attempts_open,
            calls_live,
            slots,
            eta: eta(&states, n("attempts")),
        }
    }
}

impl StateCounts {
    /// All jobs.
    #[must_use]
    pub fn total(&self) -> i64 {
        let Self { queued, waiting, dialing, completed, unreached, failed, skipped, cancelled } = self;
        queued + waiting + dialing + completed + unreached + failed + skipped + cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_without_jobs_are_zero_and_dispositions_without_jobs_are_left_out() {
        let tally =
            [("queued", 3), ("completed", 2), ("d:answered", 2), ("d:busy", 0), ("attempts", 2), ("changes", 9)];
        let tally = tally.into_iter().map(|(key, n)| (key.to_owned(), n)).collect();
        let at = Time(chrono::DateTime::UNIX_EPOCH);
        let progress = Progress::of(&tally, (at, |_, _| None), 1, 0, Held { held: 1, limit: 3 });
        assert_eq!((progress.total, progress.sequence, progress.attempts), (5, 9, 2));
        assert_eq!(progress.states, StateCounts { queued: 3, completed: 2, ..StateCounts::default() });
        assert_eq!(progress.dispositions, BTreeMap::from([("answered".to_owned(), 2)]));
    }
}
