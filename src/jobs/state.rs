//! The states of a job, without I/O. Postgres holds the same rule (`job_final`): a final state never changes.

use serde::{Deserialize, Serialize};

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum JobState {
    /// May be dialed as soon as its run and a slot allow.
    Queued,
    /// May be dialed from `next_at` on.
    Waiting,
    /// One attempt of it is open.
    Dialing,
    /// Somebody or something answered.
    Completed,
    /// Tried, and nobody answered.
    Unreached,
    /// It cannot be called.
    Failed,
    /// Never tried: a rule forbade it.
    Skipped,
    /// Ended by a person.
    Cancelled,
}

impl JobState {
    /// The word in rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Dialing => "dialing",
            Self::Completed => "completed",
            Self::Unreached => "unreached",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}
