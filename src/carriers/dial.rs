//! Asking a carrier for a call, and what is known afterwards.

use std::time::Duration;

use url::Url;

/// One call to ask for. Not `Debug`: it holds a whole number and URLs with a token.
#[derive(Clone)]
pub struct DialRequest {
    /// Our number, E.164.
    pub from: String,
    /// The number to call, E.164.
    pub to: String,
    /// Asked by the carrier what to say when somebody picks up.
    pub answer_url: Url,
    /// Told by the carrier what happens to the call.
    pub status_url: Url,
    /// Which events to be told; the end is always among them.
    pub events: Vec<StatusEvent>,
    /// How long to let it ring, seconds.
    pub ring_timeout_secs: u32,
    /// Longest call, seconds.
    pub call_time_limit_secs: u32,
}

/// A step of a call that the carrier can report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusEvent {
    /// Dialing began.
    Initiated,
    /// The other side rings.
    Ringing,
    /// Picked up.
    Answered,
    /// Over.
    Ended,
}

/// What is known after one dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialAnswer {
    /// The carrier has the call. It may be queued there; nothing has rung yet.
    Placed {
        /// The carrier's name of the call.
        call_id: String,
        /// The carrier's own word for its state.
        carrier_status: String,
    },
    /// The carrier surely did not take the call.
    Refused {
        /// What follows from it.
        class: RefusalClass,
        /// HTTP status.
        http: u16,
        /// The carrier's code, where it gave one.
        code: Option<i64>,
        /// The carrier's words, numbers masked.
        message: String,
        /// How long the carrier asks to wait.
        retry_after: Option<Duration>,
    },
    /// Not one byte of the request left: name, connection or TLS failed.
    NotSent {
        /// What happened, for people.
        why: String,
    },
    /// The carrier may have the call. Nothing may be dialed again until it has said what happened.
    Unknown {
        /// What happened, for people.
        why: String,
    },
}

impl DialAnswer {
    /// What is known in a word, for figures and traces.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Placed { .. } => "placed",
            Self::Refused { .. } => "refused",
            Self::NotSent { .. } => "not_sent",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// What follows from a definite refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalClass {
    /// This number can never be reached: ends the job.
    LeadPermanent,
    /// The carrier is full (or in conflict with itself): the job goes back uncharged, the account waits.
    Requeue,
    /// Too many requests, not processed: the job goes back uncharged, the account waits.
    BackOff,
    /// Nothing can be dialed with this account: the job goes back uncharged, the account is blocked.
    StopAccount,
    /// The caller id cannot be used: the run pauses.
    StopRun,
    /// This country is not enabled for the account: its numbers are skipped.
    StopDestination,
    /// Our request is wrong: fails the job, raises an alarm.
    RequestBug,
    /// A code that Rollcall does not know: permanent for this attempt, so it fails the job as refused.
    /// Counted; an alarm by rate.
    Unrecognised,
}
