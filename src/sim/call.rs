//! One call as the carrier knows it: what was asked, what became of it, and when.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    callbacks::Announcement,
    clock::Stamp,
    dial::{Dial, Order},
    media::Conversation,
    outcome::Outcome,
    telnyx,
    twilio::{Event, Script},
};

/// The states of a call, in the carrier's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Accepted, waiting for its turn.
    Queued,
    /// Dialing has begun.
    Initiated,
    /// The far end rings.
    Ringing,
    /// Answered.
    InProgress,
    /// Answered and ended.
    Completed,
    /// Busy signal.
    Busy,
    /// Not answered, or rejected.
    NoAnswer,
    /// Could not be completed.
    Failed,
    /// Hung up by the caller before an answer.
    Canceled,
}

impl Status {
    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// A final state never changes.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self.rank() == 4
    }

    /// Progress of a call; a move is legal only to a higher rank.
    pub(crate) const fn rank(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Initiated => 1,
            Self::Ringing => 2,
            Self::InProgress => 3,
            Self::Completed | Self::Busy | Self::NoAnswer | Self::Failed | Self::Canceled => 4,
        }
    }

    /// The SIP answer that stands behind a final state when nothing else is known.
    pub(crate) const fn usual_sip(self) -> u16 {
        match self {
            Self::Busy => 486,
            Self::Failed => 404,
            Self::NoAnswer | Self::Canceled => 487,
            _ => 200,
        }
    }
}

/// Where a call sits in the sandbox's memory: calls are numbered as they are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) usize);

/// How long the steps of a call take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tempo {
    /// As the flags say.
    Natural,
    /// 0 ms each.
    Hurried,
}

impl Tempo {
    pub(crate) fn of(self, length: Duration) -> Duration {
        if self == Self::Hurried { Duration::ZERO } else { length }
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) sid: String,
    pub(crate) account: String,
    pub(crate) dial: Dial,
    /// The last segment of the status callback's path: what names one dial of the caller.
    pub(crate) token: Option<String>,
    pub(crate) outcome: Outcome,
    /// Every state with its moment, oldest first; the last one holds.
    pub(crate) history: Vec<(Stamp, Status)>,
    /// When dialing may begin.
    pub(crate) turn: Instant,
    /// The estimate given at the create, in ms.
    pub(crate) queue_ms: u64,
    pub(crate) sip: Option<u16>,
    pub(crate) answered_by: Option<&'static str>,
    /// When a machine that answered beeps.
    pub(crate) beep: Option<Instant>,
    /// What was said to its end after the beep.
    pub(crate) voicemails: Vec<String>,
    /// Speeches by command so far: each cuts the one before it.
    pub(crate) speeches: u32,
    pub(crate) heard: Vec<String>,
    /// What was said on each of its media streams, once closed.
    pub(crate) conversations: Vec<Conversation>,
    /// New orders for an answered call, which go before the rest of its script.
    pub(crate) detour: Option<Script>,
    /// Requests to end it or to send it on.
    pub(crate) updates: u32,
    /// Ends the media stream that was started by a command, while there is one.
    pub(crate) streaming: Option<CancellationToken>,
    pub(crate) notes: Vec<String>,
    pub(crate) callbacks: Vec<CallbackReport>,
    /// Everything that Telnyx would list as an event of the call, told or not.
    pub(crate) events: Vec<telnyx::Event>,
    /// Number of the next status callback, from 0.
    pub(crate) sequence: u32,
    /// A callback that waits for the next one, so that they arrive in the wrong order.
    pub(crate) overtaken: Option<Announcement>,
    /// Its end callback has been sent, or lost, for the first time.
    pub(crate) end_told: bool,
    pub(crate) tempo: Tempo,
    /// Wakes whoever waits for the call when somebody moved it.
    pub(crate) nudge: Arc<Notify>,
}

/// One callback that was sent, or was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackReport {
    /// `CallStatus` it carried.
    pub status: String,
    /// `SequenceNumber` it carried.
    pub sequence: u32,
    /// Unix time of the first try, ms.
    pub at_ms: i64,
    /// Tries made.
    pub tries: u32,
    /// HTTP status of the last answer, if there was one.
    pub answer: Option<u16>,
    /// Unix time of that answer, ms.
    pub answered_at_ms: Option<i64>,
    /// Why no answer came, or `lost` for a callback that a fault swallowed.
    pub error: Option<String>,
}

/// A call as `GET /_calls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// `CA` and 32 hex digits; Telnyx: `v3:` and more.
    pub sid: String,
    /// The account that made it.
    pub account: String,
    /// Number called.
    pub to: String,
    /// Caller id.
    pub from: String,
    /// The last segment of the status callback's path.
    pub token: Option<String>,
    /// What the far end was to do.
    pub outcome: Outcome,
    /// The state now.
    pub status: Status,
    /// SIP answer, once ended.
    pub sip: Option<u16>,
    /// What the far end heard, in order: spoken texts, `[play URL]`.
    pub heard: Vec<String>,
    /// What a machine recorded: said to its end, and not before the beep.
    #[serde(default)]
    pub voicemails: Vec<String>,
    /// What was said and heard on each of its media streams, once it is closed.
    #[serde(default)]
    pub conversations: Vec<Conversation>,
    /// Requests to end it or to send it on.
    #[serde(default)]
    pub updates: u32,
    /// What went wrong on the way, with the carrier's code.
    pub notes: Vec<String>,
    /// Every state and its Unix time in ms, oldest first.
    pub timeline: Vec<(Status, i64)>,
    /// Status callbacks in the order of their first try.
    pub callbacks: Vec<CallbackReport>,
}

impl Call {
    pub(crate) fn status(&self) -> Status {
        self.history.last().map_or(Status::Queued, |(_, status)| *status)
    }

    /// True while the call is in a state, and nobody has ordered it elsewhere.
    pub(crate) fn stands(&self, state: Status) -> bool {
        self.status() == state && self.detour.is_none()
    }

    /// The state as it was at a moment; none when the call did not exist yet.
    pub(crate) fn status_at(&self, moment: Instant) -> Option<Status> {
        self.history.iter().rev().find(|(stamp, _)| stamp.at <= moment).map(|(_, status)| *status)
    }

    /// When the call entered the first state that fits, if that was at `moment` or before.
    pub(crate) fn entered(&self, moment: Instant, fits: impl Fn(Status) -> bool) -> Option<Stamp> {
        self.history.iter().find(|(stamp, status)| stamp.at <= moment && fits(*status)).map(|(stamp, _)| *stamp)
    }

    /// From answer to end, ms; 0 for a call that was never answered.
    pub(crate) fn talked_ms(&self, moment: Instant) -> u64 {
        let answered = self.entered(moment, |status| status == Status::InProgress);
        let ended = self.entered(moment, Status::is_final);
        match (answered, ended) {
            (Some(answered), Some(ended)) => {
                u64::try_from(ended.at.duration_since(answered.at).as_millis()).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }

    /// Whether anybody is to be told of the end.
    pub(crate) fn reports_its_end(&self) -> bool {
        match &self.dial.order {
            Order::Twilio(order) => order.report.is_some() && order.events.contains(&Event::Completed),
            Order::Telnyx(_) => true,
        }
    }

    pub(crate) fn report(&self) -> CallReport {
        CallReport {
            sid: self.sid.clone(),
            account: self.account.clone(),
            to: self.dial.to.clone(),
            from: self.dial.from.clone(),
            token: self.token.clone(),
            outcome: self.outcome,
            status: self.status(),
            sip: self.sip,
            heard: self.heard.clone(),
            voicemails: self.voicemails.clone(),
            conversations: self.conversations.clone(),
            updates: self.updates,
            notes: self.notes.clone(),
            timeline: self.history.iter().map(|(stamp, status)| (*status, stamp.unix_ms())).collect(),
            callbacks: self.callbacks.clone(),
        }
    }
}
