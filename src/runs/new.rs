//! What a client asks for when it makes a run, and the rules that come of it.
//!
//! A field whose rule is not built is refused unless it says what would happen anyway: never accepted and ignored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Message, machine::Machine};
use crate::{
    clock::Time,
    error::{ApiError, FieldError},
    ids::{AgentId, Carrier},
    policy::{AbandonGuard, Breaker, Budget, Retry, Window},
};

/// The most characters of a name.
const NAME_MAX: usize = 200;
/// The most characters of an `external_id`.
const EXTERNAL_ID_MAX: usize = 255;
/// Seconds that a number may ring (Twilio, Call resource, `Timeout`: at most 600).
const RING_TIMEOUT_SECS: (i64, i64) = (5, 600);
/// Seconds that a call may last (Twilio, Call resource, `TimeLimit`: at most four hours for most accounts).
const CALL_TIME_LIMIT_SECS: (i64, i64) = (1, 14_400);
/// Days back within which a number counts as called.
const SKIP_DAYS: (i64, i64) = (1, 365);
/// Turns of a run among those of its business.
const WEIGHT: (i64, i64) = (1, 1_000);
/// Calls of one run at once.
const CALLS_AT_ONCE: (i64, i64) = (1, 10_000);

/// Which of a run's numbers calls whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum LocalPresence {
    /// They take turns.
    #[default]
    Off,
    /// One with the callee's area code, else of its country, else any.
    AreaCode,
    /// One of the callee's country, else any.
    Country,
}

impl LocalPresence {
    /// The word of API and Postgres.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::AreaCode => "area_code",
            Self::Country => "country",
        }
    }
}

/// A run to be made. Only `name` is required.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// 1 to 200 characters.
    pub name: String,
    /// Your own name for it, at most 255 characters.
    pub external_id: Option<String>,
    /// The carriers to dial through, in the order in which they are tried; the business's by default.
    pub carriers: Option<Vec<Carrier>>,
    /// Numbers to call from, all of the carrier account; empty: all that it has.
    pub caller_ids: Option<Vec<String>>,
    /// Which of them calls whom: one near the callee, or any in turn (`off`).
    pub local_presence: Option<LocalPresence>,
    /// Who talks to whoever answers, in place of a message. The run keeps the agent's version of its start.
    pub agent_id: Option<AgentId>,
    /// What is said; needed before the start where there is no agent.
    pub message: Option<Message>,
    /// Country of numbers without a country code; the business's own by default.
    pub default_region: Option<String>,
    /// Calls at once, 1 to 10,000; null: as many as the business may have.
    pub max_concurrent_calls: Option<i64>,
    /// Turns among the business's runs, 1 to 1,000: a run of weight 2 has twice as many calls at once as one of weight 1.
    pub weight: Option<i64>,
    /// 5 to 600.
    pub ring_timeout_secs: Option<i64>,
    /// 1 to 14,400.
    pub call_time_limit_secs: Option<i64>,
    /// Whether calls are recorded, from their answer on; false by default.
    pub record: Option<bool>,
    /// What a call does when a machine answers it; `off` by default.
    pub machine: Option<Machine>,
    /// When calls may ring; null: at any time that the business's own window allows.
    pub window: Option<Window>,
    /// How often a number is tried, and when again.
    pub retry: Option<Retry>,
    /// Pauses the run when too many calls fail.
    pub breaker: Option<Breaker>,
    /// Pauses the run when it has used it.
    pub budget: Option<Budget>,
    /// Pauses the run when too many people hear nobody.
    pub abandon_guard: Option<AbandonGuard>,
    /// When a run that was started begins to dial, RFC 3339; null: at once.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start_at: Option<Time>,
    /// When it ends: from then on nothing is dialed, and what waits is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub end_at: Option<Time>,
    /// 1 to 365: rows whose number the business dialed within so many days before the upload, in another run or by a single
    /// call, become no jobs. They count as duplicates, with the code `called_recently` beside the row. Who was dialed since is
    /// skipped before the first dial (`attempt_cap`). Null: they are called.
    pub skip_called_within_days: Option<i64>,
    /// Whom to call; more can be added later.
    pub leads: Option<Vec<Value>>,
}

impl Message {
    /// Adds what does not fit: an empty text, a language that is no tag, a voice that is no name.
    pub fn check(&self, wrong: &mut Vec<FieldError>) {
        self.check_at("/message", wrong);
    }

    /// The same for a message at another pointer.
    pub(super) fn check_at(&self, at: &str, wrong: &mut Vec<FieldError>) {
        if self.text.trim().is_empty() {
            wrong.push(FieldError::new(format!("{at}/text"), "empty", "Write what is to be said."));
        }
        let word = |text: &str, extra: &str| {
            (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        if !word(&self.language, "-") || !self.language.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let detail = "Write a language tag such as en-US or de-DE.";
            wrong.push(FieldError::new(format!("{at}/language"), "invalid_language", detail));
        }
        if self.voice.as_ref().is_some_and(|voice| !word(voice, "-._")) {
            let detail = "Write the carrier's name of a voice, such as Polly.Joanna, or null.";
            wrong.push(FieldError::new(format!("{at}/voice"), "invalid_voice", detail));
        }
    }
}

/// The rules of a run, every one of them said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields are those of NewRun")]
pub struct RunRules {
    pub name: String,
    pub external_id: Option<String>,
    pub carriers: Vec<Carrier>,
    pub caller_ids: Vec<String>,
    pub local_presence: LocalPresence,
    pub agent_id: Option<AgentId>,
    pub message: Option<Message>,
    pub default_region: String,
    pub max_concurrent_calls: Option<i32>,
    pub weight: i32,
    pub ring_timeout_secs: i32,
    pub call_time_limit_secs: i32,
    pub record: bool,
    pub machine: Machine,
    pub window: Option<Window>,
    pub retry: Retry,
    pub breaker: Option<Breaker>,
    pub budget: Option<Budget>,
    pub abandon_guard: Option<AbandonGuard>,
    pub start_at: Option<Time>,
    pub end_at: Option<Time>,
    pub skip_called_within_days: Option<i16>,
}

/// What a field that is left out means.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Country of the business.
    pub default_region: String,
    /// Of the installation, in seconds.
    pub ring_timeout_secs: i32,
    /// Of the installation, in seconds.
    pub call_time_limit_secs: i32,
    /// Of the business, in the order in which they are tried.
    pub carriers: Vec<Carrier>,
}

impl NewRun {
    /// The rules of this run. `callers` are the numbers that its carrier account has; `further` is what others found wrong
    /// (the region, the message's text). Where only some fields are `given`, the others are the run's own: what has become wrong
    /// with them since it was made stands in nobody's way.
    ///
    /// # Errors
    /// 422 `validation` with every field out of range; else 422 `not-available` with every field whose rule is not built.
    pub fn rules(
        self,
        defaults: &Defaults,
        callers: &[String],
        further: Vec<FieldError>,
        given: Option<&BTreeSet<String>>,
    ) -> Result<RunRules, ApiError> {
        let mut wrong = further;
        self.check_texts(&mut wrong);
        self.check_callers(callers, &mut wrong);
        let ring = in_range(self.ring_timeout_secs, RING_TIMEOUT_SECS, "/ring_timeout_secs", &mut wrong);
        let limit = in_range(self.call_time_limit_secs, CALL_TIME_LIMIT_SECS, "/call_time_limit_secs", &mut wrong);
        let skip = in_range(self.skip_called_within_days, SKIP_DAYS, "/skip_called_within_days", &mut wrong);
        let weight = in_range(self.weight, WEIGHT, "/weight", &mut wrong);
        let most = in_range(self.max_concurrent_calls, CALLS_AT_ONCE, "/max_concurrent_calls", &mut wrong);
        let retry = self.retry.clone().unwrap_or_default();
        retry.check("/retry", &mut wrong);
        self.check_guards(&mut wrong);
        if let (Some(end), start) = (self.end_at, self.start_at)
            && start.is_some_and(|start| end.0 <= start.0)
        {
            wrong.push(FieldError::new("/end_at", "conflict", "end_at must be after start_at."));
        }
        self.check_carriers(&defaults.carriers, &mut wrong);
        if let Some(given) = given {
            wrong.retain(|fault| concerns(fault, given));
        }
        if !wrong.is_empty() {
            return Err(ApiError::validation(wrong));
        }
        Ok(RunRules {
            name: self.name,
            external_id: self.external_id,
            carriers: self.carriers.unwrap_or_else(|| defaults.carriers.clone()),
            caller_ids: self.caller_ids.unwrap_or_default(),
            local_presence: self.local_presence.unwrap_or_default(),
            agent_id: self.agent_id,
            message: self.message,
            default_region: self.default_region.unwrap_or_else(|| defaults.default_region.clone()),
            max_concurrent_calls: most,
            weight: weight.unwrap_or(1),
            ring_timeout_secs: ring.unwrap_or(defaults.ring_timeout_secs),
            call_time_limit_secs: limit.unwrap_or(defaults.call_time_limit_secs),
            record: self.record.unwrap_or(false),
            machine: self.machine.unwrap_or_default(),
            window: self.window,
            retry: retry.whole(),
            breaker: self.breaker,
            budget: self.budget,
            abandon_guard: self.abandon_guard,
            start_at: self.start_at,
            end_at: self.end_at,
            skip_called_within_days: skip.and_then(|days| i16::try_from(days).ok()),
        })
    }

    fn check_texts(&self, wrong: &mut Vec<FieldError>) {
        check_name(&self.name, wrong);
        if let Some(id) = &self.external_id {
            text_fits("/external_id", id, EXTERNAL_ID_MAX, wrong);
        }
        if let Some(message) = &self.message {
            message.check(wrong);
        }
        if let Some(machine) = &self.machine {
            machine.check(wrong);
        }
        if self.message.is_some() && self.agent_id.is_some() {
            wrong.push(FieldError::new("/message", "conflict", "Name an agent or a message, not both."));
        }
    }

    fn check_guards(&self, wrong: &mut Vec<FieldError>) {
        if let Some(breaker) = &self.breaker {
            breaker.check("/breaker", wrong);
        }
        if let Some(budget) = &self.budget {
            budget.check("/budget", wrong);
        }
        if let Some(guard) = &self.abandon_guard {
            guard.check("/abandon_guard", wrong);
        }
    }

    fn check_carriers(&self, ours: &[Carrier], wrong: &mut Vec<FieldError>) {
        let Some(carriers) = &self.carriers else { return };
        if carriers.is_empty() {
            wrong.push(FieldError::new("/carriers", "empty", "Name at least one carrier, or leave it out."));
        }
        for (at, carrier) in carriers.iter().enumerate() {
            let pointer = format!("/carriers/{at}");
            if carriers[..at].contains(carrier) {
                wrong.push(FieldError::new(pointer, "duplicate", "Name each carrier once."));
            } else if !ours.contains(carrier) {
                let detail = format!("{carrier} is not among the business's carriers.");
                wrong.push(FieldError::new(pointer, "unknown_carrier", detail));
            }
        }
    }

    fn check_callers(&self, callers: &[String], wrong: &mut Vec<FieldError>) {
        let asked = self.caller_ids.iter().flatten().enumerate();
        for (i, number) in asked.filter(|(_, number)| !callers.contains(number)).take(100) {
            let shown: String = number.chars().take(32).collect();
            let detail = format!("{shown} is not among the caller_ids of the carrier account.");
            wrong.push(FieldError::new(format!("/caller_ids/{i}"), "unknown_caller_id", detail));
        }
    }
}

/// True where a fault is in a field that is given, or comes of one beside it.
fn concerns(fault: &FieldError, given: &BTreeSet<String>) -> bool {
    let field = fault.pointer.split('/').nth(1).unwrap_or_default();
    let beside: &[&str] = match field {
        "message" => &["agent_id"],
        "machine" => &["agent_id", "message"],
        "caller_ids" => &["carriers"],
        "end_at" => &["start_at"],
        _ => &[],
    };
    given.contains(field) || beside.iter().any(|other| given.contains(*other))
}

/// Adds what is wrong with a name.
pub(crate) fn check_name(name: &str, wrong: &mut Vec<FieldError>) {
    text_fits("/name", name, NAME_MAX, wrong);
    if name.trim().is_empty() {
        wrong.push(FieldError::new("/name", "empty", "Give the run a name."));
    }
}

pub(crate) fn text_fits(pointer: &str, text: &str, max: usize, wrong: &mut Vec<FieldError>) {
    if text.chars().count() > max {
        wrong.push(FieldError::new(pointer, "too_long", format!("At most {max} characters fit here.")));
    }
    if text.contains('\0') {
        wrong.push(FieldError::new(pointer, "nul_character", "Remove the NUL character; it cannot be stored."));
    }
}

fn in_range(asked: Option<i64>, (min, max): (i64, i64), pointer: &str, wrong: &mut Vec<FieldError>) -> Option<i32> {
    let asked = asked?;
    if !(min..=max).contains(&asked) {
        wrong.push(FieldError::new(pointer, "out_of_range", format!("Write a whole number from {min} to {max}.")));
    }
    i32::try_from(asked).ok()
}
