//! What pauses a run by itself: too many calls that fail, a budget that is used up, too many people who hear nobody.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;

/// Pauses a run whose calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Of so many attempts that ended last, 5 to 1,000; with fewer it waits.
    #[serde(default = "fifty")]
    pub last: i64,
    /// More than so many per cent `failed`: neither answered, busy nor unanswered. 1 to 99.
    pub max_failed_pct: i64,
}

fn fifty() -> i64 {
    50
}

/// Pauses a run that has used what it may; null: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Attempts charged to its jobs, at least 1. No call is placed beyond it.
    pub max_attempts: Option<i64>,
    /// Minutes of calls that ended, at least 1; calls in flight come on top.
    pub max_call_minutes: Option<i64>,
}

/// Pauses a run whose calls too often reach people and leave them without a voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AbandonGuard {
    /// More than so many per cent of the calls that people answered were abandoned: 1 to 99.
    pub max_pct: i64,
    /// Of at least so many that people answered, 10 to 10,000.
    #[serde(default = "fifty")]
    pub min_answered: i64,
}

fn within(value: i64, (min, max): (i64, i64), pointer: String, wrong: &mut Vec<FieldError>) {
    if !(min..=max).contains(&value) {
        wrong.push(FieldError::new(pointer, "out_of_range", format!("Write a whole number from {min} to {max}.")));
    }
}

impl Breaker {
    /// Adds what does not fit, below `at`.
    pub fn check(&self, at: &str, wrong: &mut Vec<FieldError>) {
        within(self.last, (5, 1_000), format!("{at}/last"), wrong);
        within(self.max_failed_pct, (1, 99), format!("{at}/max_failed_pct"), wrong);
    }
}

impl Budget {
    /// Adds what does not fit, below `at`.
    pub fn check(&self, at: &str, wrong: &mut Vec<FieldError>) {
        for (name, limit) in [("max_attempts", self.max_attempts), ("max_call_minutes", self.max_call_minutes)] {
            within(limit.unwrap_or(1), (1, 1_000_000_000), format!("{at}/{name}"), wrong);
        }
        if self.max_attempts.is_none() && self.max_call_minutes.is_none() {
            let detail = "Name max_attempts or max_call_minutes, or leave the budget out.";
            wrong.push(FieldError::new(at, "empty", detail));
        }
    }
}

impl AbandonGuard {
    /// Adds what does not fit, below `at`.
    pub fn check(&self, at: &str, wrong: &mut Vec<FieldError>) {
        within(self.max_pct, (1, 99), format!("{at}/max_pct"), wrong);
        within(self.min_answered, (10, 10_000), format!("{at}/min_answered"), wrong);
    }
}
