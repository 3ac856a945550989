//! When the rounds that run by the clock last ended, over all workers: a sweep that nobody makes shows by its age.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A round whose absence somebody must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Round {
    /// Gate against ledger, ended runs, bells.
    Sweep,
    /// Attempts in doubt are looked for at the carrier.
    Doubt,
    /// Live calls that have gone silent are asked about.
    Live,
}

impl Round {
    /// Every round.
    pub const ALL: [Self; 3] = [Self::Sweep, Self::Doubt, Self::Live];

    /// Its field in Redis.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Doubt => "doubt",
            Self::Live => "live",
        }
    }
}

/// For how long each round has not ended anywhere; `None` where Redis knows of no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rounds {
    /// The sweep.
    pub sweep: Option<Duration>,
    /// Reconciliation: the older of its two rounds.
    pub reconcile: Option<Duration>,
}

impl Rounds {
    /// The ages at `now_ms` of what Redis holds.
    #[must_use]
    pub fn at(ended: &HashMap<String, u64>, now_ms: u64) -> Self {
        let age = |round: Round| ended.get(round.as_str()).map(|at| Duration::from_millis(now_ms.saturating_sub(*at)));
        Self { sweep: age(Round::Sweep), reconcile: older(age(Round::Doubt), age(Round::Live)) }
    }
}

/// Both must have ended once for their age to be known.
fn older(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    Some(a?.max(b?))
}

/// The rounds of this process.
#[derive(Debug, Default)]
pub(super) struct Own {
    ended: HashMap<Round, Instant>,
    told: HashMap<Round, Instant>,
}

impl Own {
    /// Remembers the end of a round; true where Redis was not told within `pause`.
    pub(super) fn ended(&mut self, round: Round, pause: Duration) -> bool {
        let now = Instant::now();
        self.ended.insert(round, now);
        let tell = self.told.get(&round).is_none_or(|told| now - *told >= pause);
        if tell {
            self.told.insert(round, now);
        }
        tell
    }

    pub(super) fn ages(&self) -> Rounds {
        let age = |round: Round| self.ended.get(&round).map(Instant::elapsed);
        Rounds { sweep: age(Round::Sweep), reconcile: older(age(Round::Doubt), age(Round::Live)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciliation_is_as_old_as_the_older_of_its_rounds_and_unknown_without_one() {
        let ended = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        let all: HashMap<String, u64> = ended(&[("sweep", 9_000), ("doubt", 4_000), ("live", 9_500)]);
        let seconds = |secs| Some(Duration::from_secs(secs));
        assert_eq!(Rounds::at(&all, 10_000), Rounds { sweep: seconds(1), reconcile: seconds(6) });
        assert_eq!(Rounds::at(&ended(&[("live", 9_000)]), 10_000), Rounds { sweep: None, reconcile: None });
    }

    #[test]
    fn redis_is_told_of_a_round_once_per_pause() {
        let mut own = Own::default();
        assert!(own.ended(Round::Sweep, Duration::from_secs(60)));
        assert!(!own.ended(Round::Sweep, Duration::from_secs(60)));
        assert!(own.ended(Round::Live, Duration::from_secs(60)));
        assert!(own.ended(Round::Sweep, Duration::ZERO));
    }
}
