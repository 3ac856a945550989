//! What becomes of a call: by magic number first, else by share, the same for one seed and number.
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::config::share;

/// What the far end does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A person answers and listens to the end.
    Answered,
    /// Busy signal, SIP 486.
    Busy,
    /// Rings in vain, SIP 487.
    NoAnswer,
    /// Cannot be reached, SIP 404, without ringing.
    Failed,
    /// An answering machine answers.
    Machine,
    /// A fax answers.
    Fax,
    /// Answers and stays on the line until hung up or out of time.
    NeverEnds,
    /// Rings until `/_calls/{sid}/answer` or `/end` says otherwise, or the ring time is over.
    Held,
    /// Accepted, but stays queued until cancelled.
    StaysQueued,
    /// The create is refused with 21214.
    Refused,
    /// The create is refused with 21216.
    Blocked,
}

/// The magic numbers: the last seven digits of `To`. No other number is magic.
pub const MAGIC: [(&str, Outcome); 11] = [
    ("5550189", Outcome::Fax),
    ("5550190", Outcome::Answered),
    ("5550191", Outcome::Busy),
    ("5550192", Outcome::NoAnswer),
    ("5550193", Outcome::Failed),
    ("5550194", Outcome::NeverEnds),
    ("5550195", Outcome::Machine),
    ("5550196", Outcome::Held),
    ("5550197", Outcome::Refused),
    ("5550198", Outcome::StaysQueued),
    ("5550199", Outcome::Blocked),
];

/// The same as text, for `--help`.
pub const MAGIC_HELP: &str = "\
Magic numbers (the last seven digits of To decide, in any area code; no other number is magic):
  555-0189  answered by a fax
  555-0190  answered by a person
  555-0191  busy (SIP 486)
  555-0192  no answer (SIP 487)
  555-0193  failed (SIP 404)
  555-0194  answered, never ends by itself
  555-0195  answered by a machine
  555-0196  held: rings until POST /_calls/{sid}/answer or /_calls/{sid}/end
  555-0197  the create is refused (21214)
  555-0198  accepted, stays queued until cancelled
  555-0199  the create is refused (21216)";

/// Weights of the outcomes of ordinary numbers; they need not add up to 1.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Shares {
    /// Share of calls that a person answers.
    #[arg(long, default_value_t = Shares::default().answered, value_name = "SHARE", value_parser = share)]
    pub answered: f64,
    /// Share of busy calls.
    #[arg(long, default_value_t = Shares::default().busy, value_name = "SHARE", value_parser = share)]
    pub busy: f64,
    /// Share of calls that nobody answers.
    #[arg(long, default_value_t = Shares::default().no_answer, value_name = "SHARE", value_parser = share)]
    pub no_answer: f64,
    /// Share of calls that fail (SIP 404).
    #[arg(long, default_value_t = Shares::default().failed, value_name = "SHARE", value_parser = share)]
    pub failed: f64,
    /// Share of calls that a machine answers.
    #[arg(long, default_value_t = Shares::default().machine, value_name = "SHARE", value_parser = share)]
    pub machine: f64,
    /// Share of calls that a fax answers.
    #[arg(long, default_value_t = Shares::default().fax, value_name = "SHARE", value_parser = share)]
    pub fax: f64,
    /// Share of calls that ring until driven by hand.
    #[arg(long, default_value_t = Shares::default().held, value_name = "SHARE", value_parser = share)]
    pub held: f64,
    /// No number is magic: the shares decide for every one of them.
    #[arg(long)]
    pub no_magic: bool,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            answered: 0.6,
            busy: 0.1,
            no_answer: 0.2,
            failed: 0.1,
            machine: 0.0,
            fax: 0.0,
            held: 0.0,
            no_magic: false,
        }
    }
}

impl Shares {
    /// Every ordinary number has this outcome; one that has no share means `Answered`.
    #[must_use]
    pub fn all(outcome: Outcome) -> Self {
        let mut shares = Self { answered: 0.0, busy: 0.0, no_answer: 0.0, failed: 0.0, ..Self::default() };
        match outcome {
            Outcome::Busy => shares.busy = 1.0,
            Outcome::NoAnswer => shares.no_answer = 1.0,
            Outcome::Failed => shares.failed = 1.0,
            Outcome::Machine => shares.machine = 1.0,
            Outcome::Fax => shares.fax = 1.0,
            Outcome::Held => shares.held = 1.0,
            _ => shares.answered = 1.0,
        }
        shares
    }

    fn pick(&self, point: f64) -> Outcome {
        let table = [
            (self.answered, Outcome::Answered),
            (self.busy, Outcome::Busy),
            (self.no_answer, Outcome::NoAnswer),
            (self.failed, Outcome::Failed),
            (self.machine, Outcome::Machine),
            (self.fax, Outcome::Fax),
            (self.held, Outcome::Held),
        ];
        let mut left = point * table.iter().map(|(weight, _)| weight).sum::<f64>();
        for (weight, outcome) in table {
            if left < weight {
                return outcome;
            }
            left -= weight;
        }
        Outcome::Answered
    }
}

/// The outcome of the `nth` call (from 0) to a number. It depends on nothing else, so that neither
/// the order of calls nor a repeat of the run changes it.
pub(crate) fn outcome_of(to: &str, nth: usize, shares: &Shares, seed: u64) -> Outcome {
    let magic = MAGIC.iter().find(|(suffix, _)| to.ends_with(suffix) && !shares.no_magic);
    if let Some((_, outcome)) = magic {
        return *outcome;
    }
    let mut hasher = DefaultHasher::new();
    (seed, to, nth).hash(&mut hasher);
    shares.pick(StdRng::seed_from_u64(hasher.finish()).random::<f64>())
}
