//! The checker: it reads evidence and says which promises of the design were kept. It shares no code with the dialer.

mod calls;
mod ledger;
mod orders;

use crate::evidence::Evidence;

/// So many violations of one promise are shown.
const SHOWN: usize = 6;

/// What became of a promise.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// Its number in the design.
    pub(crate) invariant: &'static str,
    pub(crate) promise: &'static str,
    /// What was looked at, so that an empty list says something.
    pub(crate) looked_at: String,
    pub(crate) violations: Vec<String>,
}

impl Verdict {
    pub(crate) fn kept(&self) -> bool {
        self.violations.is_empty()
    }

    /// The first violations, for a person.
    pub(crate) fn shown(&self) -> String {
        let mut lines: Vec<String> = self.violations.iter().take(SHOWN).cloned().collect();
        if self.violations.len() > SHOWN {
            lines.push(format!("… and {} more", self.violations.len() - SHOWN));
        }
        lines.join("\n")
    }
}

/// Every promise that a trial can break, in the order of the design.
pub(crate) fn check(evidence: &Evidence) -> Vec<Verdict> {
    vec![
        calls::one_post_per_attempt(evidence),
        calls::never_more_than_the_limit(evidence),
        ledger::no_slot_leaks(evidence),
        ledger::one_final_state(evidence),
        ledger::progress_is_the_sum(evidence),
        calls::the_ledger_says_what_happened(evidence),
        orders::nothing_after_a_stop(evidence),
        orders::no_job_is_lost(evidence),
        orders::one_run_per_key(evidence),
        orders::no_foreign_data(evidence),
        orders::nobody_is_called_against_the_rules(evidence),
        ledger::people_touch_nothing_healthy(evidence),
        orders::nothing_secret_is_printed(evidence),
    ]
}
