//! A call in our words: what a carrier says of it when asked, and what it tells us by itself.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};

/// How far a call is. Later variants are further; the first `Ended` is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallState {
    /// Accepted by the carrier, waiting there to be dialed.
    Queued,
    /// Being dialed.
    Initiated,
    /// The other side rings.
    Ringing,
    /// Somebody or something picked up.
    Answered,
    /// Over.
    Ended(Disposition),
}

impl CallState {
    /// The state, or how it ended, in a word, for traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Ended(disposition) => disposition.as_str(),
        }
    }
}

/// How a call ended, as far as the carrier knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Picked up, and nothing says that it was not by a person.
    Answered,
    /// Picked up by a machine.
    Machine,
    /// Picked up by a fax.
    Fax,
    /// The line was busy.
    Busy,
    /// Nobody picked up, or the call was rejected.
    NoAnswer,
    /// Could not be put through, mostly a bad number.
    Failed,
    /// Ended by us before anybody picked up.
    Cancelled,
    /// The carrier was full and called nobody.
    TurnedAway,
}

impl Disposition {
    /// The word in rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Machine => "machine",
            Self::Fax => "fax",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TurnedAway => "turned_away",
        }
    }
}

/// Who picked up, where the carrier listened for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnsweredBy {
    /// A person.
    Human,
    /// An answering machine or voicemail.
    Machine,
    /// A fax.
    Fax,
    /// The carrier could not tell.
    Unknown,
}

impl AnsweredBy {
    /// The word in rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Machine => "machine",
            Self::Fax => "fax",
            Self::Unknown => "unknown",
        }
    }
}

/// One call as the carrier shows it when asked. `Debug` shows no phone number.
#[derive(Clone, PartialEq, Eq)]
pub struct CallView {
    /// The carrier's name of the call.
    pub call_id: String,
    /// How far it is; `None` for a word that Rollcall does not know, which then changes nothing.
    pub state: Option<CallState>,
    /// The number called, as the carrier writes it.
    pub to: Option<String>,
    /// The number calling.
    pub from: Option<String>,
    /// True for a call that was placed by an API request, as ours are.
    pub direction_outbound_api: bool,
    /// When the carrier took it; not shown for a while after a create.
    pub created_at: Option<DateTime<Utc>>,
    /// When the carrier began to dial.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub ended_at: Option<DateTime<Utc>>,
    /// Length of the call, seconds.
    pub duration_secs: Option<u32>,
    /// Who picked up.
    pub answered_by: Option<AnsweredBy>,
    /// What it cost, a decimal as the carrier writes it (Twilio: negative), known some time after the end.
    pub price: Option<String>,
    /// Currency of `price`, ISO 4217.
    pub currency: Option<String>,
    /// What its maker wrote on the call, where the carrier shows that beside it: our token stands there. `None` where it has to
    /// be asked for; empty where the call surely carries nothing.
    pub marks: Option<Vec<String>>,
    /// True where everything that was to be said is said, and the call goes on.
    pub speech_over: bool,
    /// True where a machine's greeting is over.
    pub greeting_over: bool,
    /// True where the message for machines was said to its end.
    pub message_left: bool,
    /// The carrier's own word for the state, for people.
    pub raw_status: String,
}

impl fmt::Debug for CallView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallView")
            .field("call_id", &self.call_id)
            .field("state", &self.state)
            .field("raw_status", &self.raw_status)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// How far a call has come, as a carrier tells us by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEvent {
    /// The carrier's name of the call, where it is named.
    pub call_id: Option<String>,
    /// The carrier's name of the account, where it is named: to be compared with the one whose key verified the event.
    pub account: Option<String>,
    /// How far the call is.
    pub state: CallState,
    /// True where the carrier tells the end without saying whether anybody had picked up: then `state` holds if nobody had.
    pub unclear: bool,
    /// True where the carrier tells this again should it not be taken now.
    pub comes_again: bool,
    /// Number of this event among those sent for the call, from 0. Events may arrive in any order.
    pub sequence: Option<u32>,
    /// When it happened, by the carrier's clock.
    pub at: Option<DateTime<Utc>>,
    /// Length of the call, seconds; only at its end.
    pub duration_secs: Option<u32>,
    /// Who picked up.
    pub answered_by: Option<AnsweredBy>,
    /// Final SIP answer, e.g. 487; only at the end.
    pub sip_code: Option<u16>,
    /// The carrier's error code, where it gives one.
    pub carrier_code: Option<i64>,
    /// The carrier's own word for the state, for people.
    pub carrier_status: String,
}

/// What a carrier tells us by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A call came this far.
    Moved(CallEvent),
    /// Who picked up, where that became known after the answer.
    Detected(CallEvent),
    /// A machine's greeting is over: what is said now is recorded.
    GreetingOver(CallEvent),
    /// What was to be said is said.
    SpeechOver(CallEvent),
    /// The message for machines is said.
    MessageLeft(CallEvent),
    /// A media stream of the call is over, or was never connected. The call may go on.
    StreamOver(CallEvent),
    /// A recording is ready.
    Recorded(CallEvent, Recording),
    /// The same where the carrier does not say what it calls the recording.
    RecordedSomewhere(CallEvent),
    /// Something that changes nothing here; its name.
    Other(String),
}

impl Told {
    /// What happened to a call, where it is about one.
    #[must_use]
    pub fn event(&self) -> Option<&CallEvent> {
        match self {
            Self::Moved(event)
            | Self::Detected(event)
            | Self::GreetingOver(event)
            | Self::SpeechOver(event)
            | Self::MessageLeft(event)
            | Self::StreamOver(event)
            | Self::RecordedSomewhere(event)
            | Self::Recorded(event, _) => Some(event),
            Self::Other(_) => None,
        }
    }

    /// The same, to complete what the carrier left out of it.
    pub fn event_mut(&mut self) -> Option<&mut CallEvent> {
        match self {
            Self::Moved(event)
            | Self::Detected(event)
            | Self::GreetingOver(event)
            | Self::SpeechOver(event)
            | Self::MessageLeft(event)
            | Self::StreamOver(event)
            | Self::RecordedSomewhere(event)
            | Self::Recorded(event, _) => Some(event),
            Self::Other(_) => None,
        }
    }
}

/// How a call that came in is answered.
#[derive(Debug, Clone, Copy)]
pub struct PickUp<'a> {
    /// What comes back with everything that is told of the call from now on.
    pub mark: &'a str,
    /// Where that is told; `None`: where the call itself was.
    pub tell_at: Option<&'a str>,
}

/// How far a call that came in is turned away. It stands on the call itself ([`PickUp::mark`]), because no row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It was answered to hear that there is no room.
    Answered,
    /// It has heard so.
    Said,
}

impl Away {
    /// What stands on the call. It is in no token.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Answered => "~away",
            Self::Said => "~away-said",
        }
    }

    /// What a mark says; any other one says nothing.
    #[must_use]
    pub fn read(mark: &str) -> Option<Self> {
        [Self::Answered, Self::Said].into_iter().find(|away| away.mark() == mark)
    }
}

/// A recording as its carrier names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The carrier's name of it.
    pub id: String,
    /// How long it is, seconds.
    pub duration_secs: Option<u32>,
    /// One channel for both sides, or one for each.
    pub channels: Option<u8>,
}

/// Which calls to list. Empty fields do not filter.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Number called, E.164.
    pub to: Option<String>,
    /// Number calling, E.164.
    pub from: Option<String>,
    /// Only calls in this state.
    pub status: Option<LiveState>,
    /// Only calls that started on this UTC day, or just after it. Calls still queued have no start and may be left out.
    pub day: Option<NaiveDate>,
}

/// A state of a call that is not over, as a list can be asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiveState {
    /// Waiting at the carrier.
    Queued,
    /// Ringing.
    Ringing,
    /// Picked up.
    Answered,
}

/// How to end a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// Whatever it is doing.
    Complete,
    /// Only while nobody has picked up; a call that is answered goes on.
    CancelQueued,
}

/// What the carrier said to a hang-up. None of them frees anything: only a final status does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HangUp {
    /// It took the request.
    Done,
    /// The call is over already.
    AlreadyEnded,
    /// It shows no such call.
    NotFound,
}
