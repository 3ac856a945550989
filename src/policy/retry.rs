//! How often a number is tried, and when again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;

/// What an attempt may end as and be tried again.
pub const RETRIED: [&str; 7] = ["machine", "voicemail_left", "fax", "busy", "no_answer", "failed", "abandoned"];
/// What is tried again where more than one attempt is allowed and nothing says when.
const BY_ITSELF: [&str; 3] = ["busy", "no_answer", "failed"];
/// Most attempts of a job.
const ATTEMPTS: (i64, i64) = (1, 100);
/// Seconds before the next attempt: a second to thirty days.
const DELAY_SECS: (i64, i64) = (1, 30 * 24 * 3600);

/// How often a number is tried, and when again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts per number, 1 to 100.
    #[serde(default = "once")]
    pub max_attempts: i64,
    /// Per disposition; without effect where there is one attempt. Left out or empty with more than one attempt: busy, no_answer and failed after 15 minutes.
    #[serde(default)]
    pub rules: BTreeMap<String, Rule>,
}

fn once() -> i64 {
    1
}

/// When a number is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Seconds after the end of the attempt, 1 to 2,592,000.
    pub delay_secs: i64,
    /// By how many per cent the delay varies at most, up and down: 0 to 50.
    #[serde(default)]
    pub jitter_pct: i64,
    /// How often this disposition is tried again, 1 to 100; null: as often as attempts are left.
    #[serde(default)]
    pub max: Option<i64>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: once(), rules: BTreeMap::new() }
    }
}

impl Retry {
    /// Adds what does not fit, below `at`.
    pub fn check(&self, at: &str, wrong: &mut Vec<FieldError>) {
        let mut within = |value: i64, (min, max): (i64, i64), pointer: String| {
            if !(min..=max).contains(&value) {
                wrong.push(FieldError::new(
                    pointer,
                    "out_of_range",
                    format!("Write a whole number from {min} to {max}."),
                ));
            }
        };
        within(self.max_attempts, ATTEMPTS, format!("{at}/max_attempts"));
        let pointer = |name: &str| format!("{at}/rules/{}", name.replace('~', "~0").replace('/', "~1"));
        for (name, rule) in &self.rules {
            let at = pointer(name);
            within(rule.delay_secs, DELAY_SECS, format!("{at}/delay_secs"));
            within(rule.jitter_pct, (0, 50), format!("{at}/jitter_pct"));
            within(rule.max.unwrap_or(1), ATTEMPTS, format!("{at}/max"));
        }
        for name in self.rules.keys().filter(|name| !RETRIED.contains(&name.as_str())) {
            let shown: String = name.chars().take(32).collect();
            let detail = format!("{shown} is not tried again. These are: {}.", RETRIED.join(", "));
            wrong.push(FieldError::new(pointer(name), "unknown_disposition", detail));
        }
    }

    /// The same with every rule said.
    #[must_use]
    pub fn whole(mut self) -> Self {
        if self.max_attempts > 1 && self.rules.is_empty() {
            let rule = Rule { delay_secs: 900, jitter_pct: 10, max: None };
            self.rules = BY_ITSELF.iter().map(|name| ((*name).to_owned(), rule)).collect();
        }
        self
    }
}
