//! The states of an attempt and their rank, without I/O.
//!
//! The rank only grows and a closed attempt never opens again; Postgres holds the same rule (`apply_event`, `attempt_final`).

use serde::{Deserialize, Serialize};

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum AttemptState {
    /// Written down, perhaps being sent by its owner.
    Intent,
    /// Sent, and what became of it is in doubt.
    Unknown,
    /// The carrier took it into its queue.
    Placed,
    /// The carrier started to dial.
    Initiated,
    /// The callee's phone rings.
    Ringing,
    /// Somebody or something answered.
    Answered,
    /// The call is over.
    Ended,
    /// The carrier refused it.
    Refused,
    /// No byte of it left.
    NotSent,
    /// It was sent, and the carrier is proven not to have it.
    NotPlaced,
}

impl AttemptState {
    /// Every state, in the order of PROTOCOL.
    pub const ALL: [Self; 10] = [
        Self::Intent,
        Self::Unknown,
        Self::Placed,
        Self::Initiated,
        Self::Ringing,
        Self::Answered,
        Self::Ended,
        Self::Refused,
        Self::NotSent,
        Self::NotPlaced,
    ];

    /// The word in rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Unknown => "unknown",
            Self::Placed => "placed",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
            Self::NotPlaced => "not_placed",
        }
    }

    /// How far along: only a higher one replaces a lower one. 9 is closed.
    #[must_use]
    pub fn rank(self) -> i16 {
        match self {
            Self::Intent => 0,
            Self::Unknown => 1,
            Self::Placed => 2,
            Self::Initiated => 3,
            Self::Ringing => 4,
            Self::Answered => 5,
            Self::Ended | Self::Refused | Self::NotSent | Self::NotPlaced => 9,
        }
    }

    /// True where it still holds a slot and a line.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.rank() < 9
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Disposition {
    /// A person, or something not told apart from one, was on the line.
    Answered,
    /// An answering machine.
    Machine,
    /// An answering machine that was left a message.
    VoicemailLeft,
    /// A fax.
    Fax,
    /// The line was busy.
    Busy,
    /// Nobody answered, or the callee rejected it.
    NoAnswer,
    /// The call could not be completed.
    Failed,
    /// Hung up by us before it was answered.
    Cancelled,
    /// Answered, and nobody was there to talk.
    Abandoned,
    /// The carrier refused to place it.
    Refused,
    /// The carrier never had it.
    NotPlaced,
}

impl Disposition {
    /// The word in rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Machine => "machine",
            Self::VoicemailLeft => "voicemail_left",
            Self::Fax => "fax",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
            Self::Refused => "refused",
            Self::NotPlaced => "not_placed",
        }
    }
}

/// Who told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The carrier's answer to our POST.
    Response,
    /// A callback.
    Webhook,
    /// A look at the carrier.
    Reconcile,
    /// A person.
    Ops,
}

impl Source {
    /// The word in an attempt's events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Webhook => "webhook",
            Self::Reconcile => "reconcile",
            Self::Ops => "ops",
        }
    }
}
