//! Asking a carrier for a call, and what is known afterwards.

use std::time::Duration;

use url::Url;
use uuid::Uuid;

/// One call to ask for. Not `Debug`: it holds a whole number and URLs with a token.
#[derive(Clone)]
pub struct DialRequest {
    /// Our number, E.164.
    pub from: String,
    /// The number to call, E.164.
    pub to: String,
    /// Names this dial for ever. A carrier that takes such a name ignores a second request with it.
    pub key: Uuid,
    /// What names this dial in everything that the carrier tells of it; it can stand in a URL.
    pub token: String,
    /// Our address as the carrier sees it: what it asks and tells is sent to routes of its own below it.
    pub callback_base: Url,
    /// Which events to be told; the end is always among them.
    pub events: Vec<StatusEvent>,
    /// How long to let it ring, seconds.
    pub ring_timeout_secs: u32,
    /// Longest call, seconds.
    pub call_time_limit_secs: u32,
    /// Listen for who picks up, a person or a machine; `None`: do not.
    pub detect: Option<Detect>,
    /// Record the call from the answer on.
    pub record: bool,
}

impl DialRequest {
    /// The address that the carrier is to send something to: `{callback_base}/webhooks/{route}/{token}`, which says of a call that
    /// is listened to that it is one: such a call may wait for the carrier's word.
    pub(super) fn callback(&self, route: &str) -> String {
        let listened = if self.detect.is_some() { "?detect=1" } else { "" };
        format!("{}/webhooks/{route}/{}{listened}", self.callback_base.as_str().trim_end_matches('/'), self.token)
    }
}

/// How a carrier listens for who picks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detect {
    /// Nothing is said before it is known; else the carrier tells of it while the call goes on.
    pub first: bool,
    /// Of a machine, also hear when its greeting is over.
    pub greeting: bool,
}

/// What is said to somebody who picked up.
#[derive(Clone)]
pub struct Speech {
    /// The words.
    pub text: String,
    /// Their language, BCP 47.
    pub language: String,
    /// A voice by the carrier's own name of it, or its default.
    pub voice: Option<String>,
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
