//! Jobs: one number of a run each, and the bell that asks a worker to look.
//!
//! Invariant: a job is a row first; its state moves only by the functions of the schema, and a final state never changes.
//! Not here: dialing it (`dialing::next`), and its attempts (`attempts`).

pub mod claim;
pub mod claims;
pub mod copies;
pub mod decisions;
pub mod due;
pub mod queue;
pub mod read;
pub mod results;
pub mod rung;
pub mod skip;
pub mod state;
pub mod store;

use serde::Serialize;
use serde_json::Value;

use crate::{
    clock::Time,
    ids::{BusinessId, JobId, RunId},
};

pub use state::JobState;

/// One number of a run, as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "the fields are columns of the job under their own names")]
pub struct Job {
    pub id: JobId,
    pub run_id: RunId,
    pub business_id: BusinessId,
    pub to: String,
    pub external_id: Option<String>,
    pub variables: Value,
    /// Zones that the callee may be in (IANA names).
    pub time_zones: Vec<String>,
    pub state: JobState,
    pub disposition: Option<String>,
    pub reason: Option<String>,
    /// Attempts charged to it.
    pub attempt_count: i32,
    /// The first time at which it may be dialed, by its calling window too, while it waits; null where no window opens any more.
    pub next_at: Option<Time>,
    pub priority: i16,
    /// Not dialed before this.
    pub not_before: Option<Time>,
    /// Not dialed after this.
    pub not_after: Option<Time>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}
