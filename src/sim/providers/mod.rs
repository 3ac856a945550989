//! The voice providers of the sandbox: transcription as at Deepgram, chat and speech to speech as at OpenAI, and speech as
//! at ElevenLabs, all on the sandbox's own port.
//!
//! None of them has a model. Sound is understood because it carries its words (`sound`), spoken so that it does, and
//! what to say is decided by rules ([`brain`]). So what comes out at one end of a conversation was really said at the other.
//!
//! Invariant: a session knows nothing but what came in on its own connection.
//! Not here: the quality of a model, prices, and what the providers do besides these four interfaces.
mod brain;
mod chat;
mod chunks;
mod deepgram;
mod elevenlabs;
mod faults;
mod figures;
mod line;
mod listener;
mod realtime;
mod settings;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub use brain::{Answer, Call};
pub use faults::{ProviderFault, ProviderRule};
pub use figures::ProviderFigures;
pub use settings::Providers;

use super::{Shared, clock::Stamp, faults::when};

/// One of the four interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Deepgram live transcription.
    Transcription,
    /// OpenAI chat completions.
    Chat,
    /// ElevenLabs text to speech.
    Speech,
    /// OpenAI Realtime.
    Realtime,
}

/// A session as `GET /_sessions` shows it: one socket, or one chat completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Whose.
    pub provider: Provider,
    /// Path and query that it was opened with.
    pub address: String,
    /// Unix time, ms.
    pub opened_ms: i64,
    /// Unix time, ms; none while it is open.
    pub closed_ms: Option<i64>,
    /// What came in, in words.
    pub heard: Vec<String>,
    /// What went out, in words.
    pub said: Vec<String>,
    /// The fault that it was given.
    pub fault: Option<ProviderFault>,
}

/// What the providers of one sandbox remember.
#[derive(Debug)]
pub(crate) struct Switchboard {
    pub(crate) rules: Vec<ProviderRule>,
    pub(crate) answers: Vec<Answer>,
    sessions: Vec<SessionReport>,
    tally: figures::Tally,
    /// Sessions open by provider and key.
    by_key: HashMap<(Provider, String), u64>,
    random: StdRng,
}

/// One session. Dropping it closes it in the books.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    provider: Provider,
    key: String,
    at: usize,
    fault: Option<ProviderRule>,
}

/// A handshake or request that is turned away.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    status: StatusCode,
    retry_after_secs: Option<u32>,
}

impl Switchboard {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            answers: Vec::new(),
            sessions: Vec::new(),
            tally: figures::Tally::default(),
            by_key: HashMap::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Every session, oldest first.
    pub(crate) fn sessions(&self) -> Vec<SessionReport> {
        self.sessions.clone()
    }

    pub(crate) fn figures(&self) -> std::collections::BTreeMap<Provider, ProviderFigures> {
        self.tally.figures()
    }

    /// Sessions that are open.
    pub(crate) fn live(&self) -> u64 {
        self.tally.live()
    }

    /// Starts again from zero, but open sessions stay open.
    pub(crate) fn reset(&mut self) {
        self.tally.reset();
    }
}

impl Session {
    /// Opens a session, or says why not: without a key that is known, past the limit of the key, or by a fault.
    fn open(shared: &Arc<Shared>, provider: Provider, key: Option<String>, address: &str) -> Result<Self, Refusal> {
        let settings = &shared.config.providers;
        let mut board = shared.switchboard();
        let board = &mut *board;
        let known = key.filter(|key| settings.provider_keys.is_empty() || settings.provider_keys.contains(key));
        let Some(key) = known.filter(|key| !key.is_empty()) else {
            board.tally.refused(provider);
            return Err(Refusal { status: StatusCode::UNAUTHORIZED, retry_after_secs: None });
        };
        let open = board.by_key.entry((provider, key.clone())).or_default();
        if settings.provider_limit.is_some_and(|limit| *open >= limit) {
            board.tally.refused(provider);
            return Err(Refusal { status: StatusCode::TOO_MANY_REQUESTS, retry_after_secs: Some(1) });
        }
        let fault = faults::draw(&mut board.rules, provider, &mut board.random);
        if let Some(ProviderRule { kind: ProviderFault::Refuse, status, retry_after_secs, .. }) = &fault {
            board.tally.refused(provider);
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            return Err(Refusal { status, retry_after_secs: *retry_after_secs });
        }
        *open += 1;
        board.tally.opened(provider);
        board.sessions.push(SessionReport {
            provider,
            address: address.to_owned(),
            opened_ms: Stamp::now().unix_ms(),
            closed_ms: None,
            heard: Vec::new(),
            said: Vec::new(),
            fault: fault.as_ref().map(|rule| rule.kind),
        });
        let at = board.sessions.len() - 1;
        Ok(Self { shared: Arc::clone(shared), provider, key, at, fault })
    }

    /// The fault of this session, if it is of this kind.
    fn fault(&self, kind: ProviderFault) -> Option<&ProviderRule> {
        self.fault.as_ref().filter(|rule| rule.kind == kind)
    }

    fn has(&self, kind: ProviderFault) -> bool {
        self.fault(kind).is_some()
    }

    /// Keeps words that came in.
    fn heard(&self, words: impl Into<String>) {
        let mut board = self.shared.switchboard();
        board.sessions[self.at].heard.push(words.into());
        board.tally.heard(self.provider);
    }

    /// Keeps words that went out.
    fn said(&self, words: impl Into<String>) {
        let mut board = self.shared.switchboard();
        board.sessions[self.at].said.push(words.into());
        board.tally.said(self.provider);
    }

    /// A length of time as the flags say, or longer by a fault.
    fn delay(&self, usual: super::Millis) -> std::time::Duration {
        let mut board = self.shared.switchboard();
        let more = self.fault(ProviderFault::Slow).map(|rule| rule.ms.unwrap_or(super::Millis::exactly(2000)));
        usual.draw(&mut board.random) + more.map(|more| more.draw(&mut board.random)).unwrap_or_default()
    }

    /// What to say in answer.
    fn answer(&self, question: &brain::Question<'_>) -> brain::Reply {
        brain::answer(&self.shared.switchboard().answers, question)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        {
            let mut board = self.shared.switchboard();
            let board = &mut *board;
            board.sessions[self.at].closed_ms = Some(Stamp::now().unix_ms());
            board.tally.closed(self.provider);
            if let Some(open) = board.by_key.get_mut(&(self.provider, std::mem::take(&mut self.key))) {
                *open -= 1;
            }
        }
        self.shared.touch();
    }
}

impl Refusal {
    fn with(self, body: serde_json::Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// As OpenAI writes errors.
    fn openai(self) -> Response {
        let code = match self.status.as_u16() {
            401 => "invalid_api_key",
            429 => "rate_limit_exceeded",
            _ => "server_error",
        };
        let reason = self.status.canonical_reason().unwrap_or("refused");
        self.with(serde_json::json!({
            "error": {"message": format!("Refused: {reason}"), "type": "invalid_request_error", "param": null, "code": code},
        }))
    }
}

/// A number for the next sentence; those of callees have the highest bit unset.
fn sentence() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) | 1 << 31
}

/// The key of `Authorization: Bearer …`, or of another scheme.
fn key_of(headers: &HeaderMap, schemes: &[&str]) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme)).then(|| key.trim().to_owned())
}

/// Routes as at the providers.
pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/listen", get(deepgram::listen))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/text-to-speech/{voice}/stream-input", get(elevenlabs::single))
        .route("/v1/text-to-speech/{voice}/multi-stream-input", get(elevenlabs::multi))
        .route("/v1/realtime", get(realtime::realtime))
}

/// Why rules make no sense, if they do not.
pub(crate) fn check(rules: &[ProviderRule]) -> Result<(), String> {
    rules.iter().try_for_each(|rule| when(rule.share, rule.next))
}
