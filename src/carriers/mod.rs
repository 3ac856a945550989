//! Carriers: the only place where carrier words exist. Above it there are only these types.
//!
//! Invariant: one `dial` sends at most one POST, and what is not surely refused or unsent is `Unknown`.
//! Not here: when to dial and what an answer does to a job (`dialing`), and which business owns an account.
//!
//! One module per carrier; `Client` chooses by the account.

pub mod call;
mod commands;
pub mod dial;
pub mod http;
pub mod telnyx;
pub mod twilio;

pub use call::{
    AnsweredBy, Away, CallEvent, CallState, CallView, Disposition, HangUp, How, ListFilter, LiveState, PickUp,
    Recording, Told,
};
pub use dial::{Detect, DialAnswer, DialRequest, RefusalClass, Speech, StatusEvent};
pub use http::{HttpLimits, http_client};

use std::time::{Duration, Instant};

use secrecy::SecretString;
use url::Url;

use crate::{ids::Carrier, telemetry::metrics};
use telnyx::Telnyx;
use twilio::Twilio;

/// One account of a business at a carrier. `Debug` hides the secret.
#[derive(Debug, Clone)]
pub struct Account {
    /// Whose account it is.
    pub carrier: Carrier,
    /// The carrier's name of the account (Twilio: Account SID; Telnyx: connection id).
    pub reference: String,
    /// The secret that requests are sent with (Twilio: Auth Token; Telnyx: API key).
    pub secret: SecretString,
    /// What the carrier may sign with (Twilio: Auth Tokens; Telnyx: public keys), several while one is being replaced.
    pub signers: Vec<SecretString>,
    /// Where the carrier's API is; the sandbox or a test may stand there.
    pub base_url: Url,
}

/// Why the carrier could not be asked, or its answer not be used. None of them says anything about a call.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// 401 or 403: these credentials may not do this.
    #[error("the carrier refuses these credentials (HTTP {http})")]
    Unauthorized {
        /// HTTP status.
        http: u16,
    },
    /// 429: too many requests at once; ask later.
    #[error("the carrier asks to slow down")]
    Busy {
        /// How long the carrier asks to wait (`Retry-After`), if it says so.
        retry_after: Option<Duration>,
    },
    /// Another refusal with the carrier's own error body.
    #[error("the carrier refused (HTTP {http}, code {code}): {message}")]
    Refused {
        /// HTTP status.
        http: u16,
        /// The carrier's code.
        code: i64,
        /// The carrier's words, numbers masked.
        message: String,
    },
    /// Not reached, or a fault on its side (5xx, time-out, reset): ask again later.
    #[error("the carrier cannot be asked now: {why}")]
    Unavailable {
        /// What happened, for people.
        why: String,
    },
    /// An answer that is not the carrier's documented shape, or larger than allowed.
    #[error("the carrier's answer cannot be read: {why}")]
    Unreadable {
        /// What does not fit.
        why: String,
    },
    /// A list that was not read to its end: what is missing from it may exist.
    #[error("the carrier's list is incomplete: {why}")]
    Incomplete {
        /// Where it stopped.
        why: String,
    },
    /// What was to be asked about is no call id of this carrier.
    #[error("this is not a call id of the carrier")]
    NotACallId,
}

impl CarrierError {
    /// The kind of trouble in a word, for figures.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "unauthorized",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } | Self::NotACallId => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreadable { .. } | Self::Incomplete { .. } => "unreadable",
        }
    }
}

/// Talks to every carrier, over one pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    limits: HttpLimits,
}

impl Client {
    /// A client that keeps to `limits`.
    ///
    /// # Errors
    /// When TLS cannot be set up, e.g. on a machine without root certificates.
    pub fn new(limits: HttpLimits) -> anyhow::Result<Self> {
        Ok(Self { http: http_client(&limits)?, limits })
    }

    fn at<'a>(&'a self, account: &'a Account) -> At<'a> {
        match account.carrier {
            Carrier::Twilio => At::Twilio(Twilio { http: &self.http, limits: &self.limits, account }),
            Carrier::Telnyx => At::Telnyx(Telnyx { http: &self.http, limits: &self.limits, account }),
        }
    }

    /// True where this carrier is told what to say by [`Client::say`]; false where it asks for it when somebody picks up.
    #[must_use]
    pub fn is_told_what_to_say(carrier: Carrier) -> bool {
        match carrier {
            Carrier::Twilio => false,
            Carrier::Telnyx => true,
        }
    }

    /// Asks for one call and says what is known afterwards. A carrier that does not recognise doubles is asked once; one that
    /// does may be asked again with the same bytes, within the time in which it surely ignores the double, where `still_wanted`
    /// says so: the call may have told of itself meanwhile, and be over.
    /// `limit` is the time for all of it, connecting included. Whoever drops the future knows no more than after `Unknown`.
    pub async fn dial(
        &self,
        account: &Account,
        request: &DialRequest,
        limit: Duration,
        still_wanted: impl Future<Output = bool>,
    ) -> DialAnswer {
        let begin = Instant::now();
        let answer = match self.at(account) {
            At::Twilio(twilio) => twilio.dial(request, limit).await,
            At::Telnyx(telnyx) => telnyx.dial(request, limit, still_wanted).await,
        };
        metrics::carrier_asked(account.carrier.as_str(), "dial", answer.word(), begin.elapsed());
        answer
    }

    /// One call as the carrier shows it now, or `None` where it says that there is none. `to`, the number called, helps a carrier
    /// that forgets a call soon after its end. Carriers are eventually consistent: neither an older state nor `None` undoes what
    /// is known.
    ///
    /// # Errors
    /// When the carrier could not be asked or its answer not be read.
    pub async fn fetch(
        &self,
        account: &Account,
        call_id: &str,
        to: Option<&str>,
    ) -> Result<Option<CallView>, CarrierError> {
        timed(account, "fetch", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.fetch(call_id).await,
                At::Telnyx(telnyx) => telnyx.fetch(call_id, to).await,
            }
        })
        .await
    }

    /// Every call that fits `filter`, all pages, each call once.
    ///
    /// # Errors
    /// When any page could not be had: there is no partial list.
    pub async fn list(&self, account: &Account, filter: &ListFilter) -> Result<Vec<CallView>, CarrierError> {
        timed(account, "list", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.list(filter).await,
                At::Telnyx(telnyx) => telnyx.list(filter).await,
            }
        })
        .await
    }

    /// Every call that is not over, each once; only those to the number `to` where the carrier can tell them apart.
    ///
    /// # Errors
    /// When any page could not be had: there is no partial list.
    pub async fn live(&self, account: &Account, to: Option<&str>) -> Result<Vec<CallView>, CarrierError> {
        timed(account, "list", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.live(to).await,
                At::Telnyx(telnyx) => telnyx.live().await,
            }
        })
        .await
    }

    /// Asks the carrier to end a call. Safe to repeat. No answer proves an end: only a final status does.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn hang_up(&self, account: &Account, call_id: &str, how: How) -> Result<HangUp, CarrierError> {
        timed(account, "hang_up", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.hang_up(call_id, how).await,
                At::Telnyx(telnyx) => telnyx.hang_up(call_id, how).await,
            }
        })
        .await
    }

    /// The sound of a recording (MP3), to be read as it comes; `None` where the carrier has it no longer.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn recording(
        &self,
        account: &Account,
        recording_id: &str,
    ) -> Result<Option<reqwest::Response>, CarrierError> {
        timed(account, "recording", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.recording(recording_id).await,
                At::Telnyx(telnyx) => telnyx.recording(recording_id).await,
            }
        })
        .await
    }

    /// Has the carrier delete a recording for good. One that it has no longer is deleted.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn delete_recording(&self, account: &Account, recording_id: &str) -> Result<(), CarrierError> {
        timed(account, "delete_recording", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.delete_recording(recording_id).await,
                At::Telnyx(telnyx) => telnyx.delete_recording(recording_id).await,
            }
        })
        .await
    }

    /// The recordings of a call to the number `to` that are ready.
    ///
    /// # Errors
    /// When the carrier could not be asked or its answer not be read.
    pub async fn recordings_of(
        &self,
        account: &Account,
        call_id: &str,
        to: &str,
    ) -> Result<Vec<Recording>, CarrierError> {
        timed(account, "recordings", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.recordings_of(call_id).await,
                At::Telnyx(telnyx) => telnyx.recordings_of(call_id, to).await,
            }
        })
        .await
    }

    /// The callback URLs that a call was created with, to find our token in them; `None` where the carrier
    /// says that there is no such call. An empty list may mean that the carrier does not show them yet.
    ///
    /// # Errors
    /// When the carrier could not be asked or its answer not be read.
    pub async fn request_parameters(
        &self,
        account: &Account,
        call_id: &str,
    ) -> Result<Option<Vec<String>>, CarrierError> {
        match self.at(account) {
            At::Twilio(twilio) => timed(account, "events", twilio.request_parameters(call_id)).await,
            // What its maker wrote on a call stands beside it in every list.
            At::Telnyx(_) => Ok(Some(Vec::new())),
        }
    }
}

/// An account at its carrier.
enum At<'a> {
    Twilio(Twilio<'a>),
    Telnyx(Telnyx<'a>),
}

/// Measures an exchange other than a dial.
async fn timed<T>(
    account: &Account,
    request: &'static str,
    exchange: impl Future<Output = Result<T, CarrierError>>,
) -> Result<T, CarrierError> {
    let begin = Instant::now();
    let answer = exchange.await;
    let outcome = answer.as_ref().map_or_else(CarrierError::word, |_| "ok");
    metrics::carrier_asked(account.carrier.as_str(), request, outcome, begin.elapsed());
    answer
}
