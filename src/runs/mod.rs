//! A run: a list to call, its rules, and where it is in its life.
//!
//! Invariant: a run's state moves only along `state`'s table, under the lock of its business and then its own.
//! Not here: the jobs of the run, and what a move means for calls in flight (`dialing`).

pub mod audit;
pub mod ending;
mod eta;
pub mod figures;
pub mod find;
pub mod forgotten;
pub mod locked;
pub mod machine;
pub mod new;
pub mod progress;
pub mod redial;
pub mod refusal;
pub mod state;
pub mod store;
pub mod stuck;
pub mod times;
pub mod zones;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    clock::Time,
    error::{ApiError, Slug},
    ids::{BusinessId, RunId},
};

pub use machine::Machine;
pub use new::{NewRun, RunRules};
pub use progress::Progress;
pub use state::{Action, RunState};

/// What a run says to whoever answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// A template: `{{first_name}}` stands for a lead's variable.
    pub text: String,
    /// The language that it is spoken in (BCP 47).
    #[serde(default = "english")]
    pub language: String,
    /// The carrier's name of a voice; null is the carrier's own choice.
    #[serde(default)]
    pub voice: Option<String>,
}

fn english() -> String {
    "en-US".to_owned()
}

/// Why a run is paused, by whom, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Pause {
    /// `person`, `breaker`, `budget`, `abandon_guard` or `caller_id_refused`.
    pub reason: String,
    /// The key or part of the product that paused it.
    pub by: Option<String>,
    /// Since when.
    pub at: Time,
}

/// How many rows were uploaded, and what became of them. `rows` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LeadCounts {
    /// Rows read.
    pub rows: i64,
    /// Rows that became jobs.
    pub accepted: i64,
    /// Rows whose number the run had already.
    pub duplicates: i64,
    /// Rows whose number is on the suppression list.
    pub suppressed: i64,
    /// Rows that cannot be called.
    pub rejected: i64,
}

/// A run as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[expect(
    missing_docs,
    reason = "the fields are those of the run's creation, documented in `new`, and their plain names"
)]
pub struct Run {
    pub id: RunId,
    pub business_id: BusinessId,
    #[serde(flatten)]
    pub rules: RunRules,
    pub state: RunState,
    pub pause: Option<Pause>,
    pub leads: LeadCounts,
    pub progress: Progress,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub archived_at: Option<Time>,
}

impl Run {
    /// 409 `run-state`: this state does not allow `action`.
    #[must_use]
    pub fn refuse(state: RunState, action: Action) -> ApiError {
        let allowed: Vec<&str> = state.allowed().into_iter().map(Action::as_str).collect();
        let may = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let detail =
            format!("The run is {}; {} is not allowed then. Allowed now: {may}.", state.as_str(), action.as_str());
        Self::refusal(state, state.allowed(), detail)
    }

    /// 409 `run-state`: the run was put away. A draft may still be removed.
    #[must_use]
    pub fn refuse_archived(state: RunState) -> ApiError {
        let allowed = state.allowed().into_iter().filter(|action| *action == Action::Delete).collect();
        let detail = "The run is archived already: it is not started, changed or given leads any more. Make another of it: \
                      POST /v1/runs/{id}/clone.";
        Self::refusal(state, allowed, detail)
    }

    /// 409 `run-state` with what is allowed instead.
    #[must_use]
    pub fn refusal(state: RunState, allowed: Vec<Action>, detail: impl Into<String>) -> ApiError {
        let allowed: Vec<&str> = allowed.into_iter().map(Action::as_str).collect();
        ApiError::new(Slug::RunState, detail).with("state", state.as_str()).with("allowed", Value::from(allowed))
    }
}

/// The first and the last id of a page of runs, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The lowest id.
    pub from: Uuid,
    /// The highest id.
    pub to: Uuid,
    /// With those that were put away.
    pub archived: bool,
}

impl Span {
    /// One run.
    #[must_use]
    pub fn one(run: RunId) -> Self {
        Self { from: run.0, to: run.0, archived: true }
    }

    /// Every run made before `cursor`, or every run.
    #[must_use]
    pub fn before(cursor: Option<Uuid>) -> Self {
        let to = cursor.map_or(Uuid::max(), |id| Uuid::from_u128(id.as_u128().saturating_sub(1)));
        Self { from: Uuid::nil(), to, archived: true }
    }
}
