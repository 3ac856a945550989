//! Attempts as the API shows them.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::state::{AttemptState, Disposition};
use crate::{
    clock::Time,
    ids::{AgentId, AttemptId, BusinessId, Carrier, JobId, RunId},
};

/// One dial, with everything that is known about it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields are columns of the ledger under their own names")]
pub struct Attempt {
    pub id: AttemptId,
    /// Which dial of its job, from 1.
    pub n: i32,
    pub job_id: Option<JobId>,
    pub run_id: Option<RunId>,
    pub business_id: BusinessId,
    pub direction: String,
    pub state: AttemptState,
    pub disposition: Option<Disposition>,
    /// The carrier's answers leave it open which call this is; a person has to say so.
    pub needs_person: bool,
    pub carrier: Carrier,
    pub carrier_call_id: Option<String>,
    pub from: String,
    pub to: String,
    pub slot: i32,
    pub line: i32,
    pub answered_by: Option<String>,
    pub carrier_status: Option<String>,
    pub carrier_code: Option<i32>,
    pub sip_code: Option<i32>,
    pub intent_at: Time,
    pub sent_at: Option<Time>,
    pub placed_at: Option<Time>,
    pub ringing_at: Option<Time>,
    pub answered_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub duration_secs: Option<i32>,
    pub price: Option<Price>,
    pub recording_url: Option<String>,
    /// Every transition: `{seq, at, source, from, to}`.
    pub events: Value,
}

/// What the carrier charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Price {
    /// As the carrier wrote it, a decimal number.
    pub amount: String,
    /// ISO 4217.
    pub currency: Option<String>,
}

/// An attempt that a pause or a cancel found in flight.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct InFlight {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Its job; null for a single call.
    pub job_id: Option<JobId>,
    /// The number.
    pub to: String,
    /// How far it is.
    pub state: AttemptState,
    /// Since when.
    pub since: Time,
}

/// How far a single call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Admitted; no worker has taken it yet.
    Queued,
    /// On its way to or at the carrier.
    Dialing,
    /// It rings.
    Ringing,
    /// Somebody or something answered.
    Answered,
    /// Over.
    Ended,
}

impl CallState {
    /// The state of a call whose attempt is in `state`; `taken` by a worker or not.
    #[must_use]
    pub fn of(state: AttemptState, owner: Option<&str>) -> Self {
        match state {
            AttemptState::Intent if owner.is_none() => Self::Queued,
            AttemptState::Intent | AttemptState::Unknown | AttemptState::Placed | AttemptState::Initiated => {
                Self::Dialing
            }
            AttemptState::Ringing => Self::Ringing,
            AttemptState::Answered => Self::Answered,
            AttemptState::Ended | AttemptState::Refused | AttemptState::NotSent | AttemptState::NotPlaced => {
                Self::Ended
            }
        }
    }
}

/// A single call: one attempt without a job, whoever rang.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields are those of the attempt, under their own names")]
pub struct Call {
    /// The attempt's id.
    pub id: AttemptId,
    pub business_id: BusinessId,
    /// `outbound`, or `inbound` where somebody rang one of the business's numbers.
    pub direction: String,
    pub state: CallState,
    pub disposition: Option<Disposition>,
    /// Why it ended without an outcome, e.g. `expired`.
    pub reason: Option<String>,
    pub external_id: Option<String>,
    pub variables: Value,
    /// What it says to whoever answers: a template over `variables`.
    pub message: Option<Value>,
    pub carrier: Carrier,
    pub carrier_call_id: Option<String>,
    pub from: String,
    pub to: String,
    pub answered_by: Option<String>,
    pub created_at: Time,
    pub answered_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub duration_secs: Option<i32>,
    pub price: Option<Price>,
    /// The conversation with an agent; null where there was none yet. What was said is at `/v1/calls/{id}/transcript`.
    pub session: Option<Session>,
}

/// A conversation with an agent, as far as it went.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = CallSession)]
pub struct Session {
    /// Who talked.
    pub agent_id: AgentId,
    /// In which version.
    pub agent_version: i32,
    /// When it began.
    pub started_at: Time,
    /// When it ended, or was last handed to another process.
    pub ended_at: Time,
    /// Why; the words are those of the transcript.
    pub end_reason: String,
}
