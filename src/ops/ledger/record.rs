//! The lines of an exported ledger.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    attempts::AttemptState,
    clock::Time,
    ids::{AttemptId, BusinessId, JobId, RunId},
};

/// The form of the file; a reader refuses others.
pub(super) const VERSION: u32 = 1;

/// One line, without its place in the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record {
    /// The first: of what it is.
    Ledger(Ledger),
    /// A dial.
    Attempt(Dial),
    /// A step of the dial before it.
    Transition(Transition),
    /// The last: how much there was.
    End(End),
}

/// Of what the file is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) version: u32,
    pub(super) run_id: RunId,
    pub(super) business_id: BusinessId,
    /// By Postgres' clock: everything in the file is as it was at this moment.
    #[serde(serialize_with = "time")]
    pub(super) at: DateTime<Utc>,
}

/// A dial. Numbers are masked unless they were asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Dial {
    pub(super) attempt_id: AttemptId,
    pub(super) job_id: JobId,
    pub(super) n: i32,
    pub(super) carrier: String,
    pub(super) account: String,
    pub(super) call_id: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) slot: i32,
    pub(super) line_held: i32,
    pub(super) state: AttemptState,
    pub(super) disposition: Option<String>,
    pub(super) reason: Option<String>,
    #[serde(serialize_with = "time")]
    pub(super) intent_at: DateTime<Utc>,
    #[serde(serialize_with = "time_if_any")]
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) transitions: usize,
}

/// A step of a dial, as the statement that made it wrote it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Transition {
    pub(super) attempt_id: AttemptId,
    pub(super) seq: i64,
    #[serde(serialize_with = "time")]
    pub(super) at: DateTime<Utc>,
    pub(super) source: String,
    pub(super) from: AttemptState,
    pub(super) to: AttemptState,
}

/// How much there was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) attempts: u64,
    pub(super) transitions: u64,
    /// Jobs of the run by state, at the same moment.
    pub(super) jobs: BTreeMap<String, i64>,
}

fn time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    Time(*at).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn time_if_any<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(Time).serialize(serializer)
}
