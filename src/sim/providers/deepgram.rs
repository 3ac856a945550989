//! Deepgram live transcription, version 1: `GET /v1/listen`.
use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    extract::{OriginalUri, State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    Provider, ProviderFault, Session, key_of,
    line::{Gone, Line, Next, slim},
    listener::Listener,
};
use crate::sim::{Shared, clock::Stamp};

/// A span of speech that goes on is final after this long, at a word's end.
const SPAN_MS: u64 = 3_000;
/// Words that may still change are told this often.
const INTERIM_MS: u64 = 240;
/// A silence is told, without words, this often.
const EMPTY_MS: u64 = 5_000;
/// Bytes of 20 ms.
const BLOCK: usize = 160;
/// What a fault says in place of another session's words.
const FOREIGN: &str = "This is tag-999999 speaking.";

/// What was asked for in the query.
#[derive(Debug)]
struct Wish {
    model: String,
    interim: bool,
    endpointing_ms: Option<u64>,
    utterance_end_ms: Option<u64>,
    vad_events: bool,
}

impl Wish {
    /// Reads the query, or says what is wrong with it.
    fn read(query: &str) -> Result<Self, String> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let number = |name: &str| match value(name) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("`{name}` is not a number of ms")),
        };
        let is_on = |name: &str| value(name) == Some("true");
        if (value("encoding"), value("sample_rate")) != (Some("mulaw"), Some("8000")) {
            return Err("the sandbox listens to encoding=mulaw with sample_rate=8000".to_owned());
        }
        if value("channels").is_some_and(|channels| channels != "1") {
            return Err("the sandbox listens to one channel".to_owned());
        }
        Ok(Self {
            model: value("model").unwrap_or("general").to_owned(),
            interim: is_on("interim_results"),
            endpointing_ms: match value("endpointing") {
                Some("false") => None,
                _ => Some(number("endpointing")?.unwrap_or(10)),
            },
            utterance_end_ms: number("utterance_end_ms")?,
            vad_events: is_on("vad_events"),
        })
    }
}

pub(super) async fn listen(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let id = Uuid::new_v4().to_string();
    let refuse = |status: StatusCode, code: &str, why: &str| {
        (status, axum::Json(json!({"err_code": code, "err_msg": why, "request_id": id}))).into_response()
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let wish = match Wish::read(uri.query().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, "Bad Request", &why),
    };
    let key = key_of(&headers, &["token", "bearer"]);
    let session = match Session::open(&shared, Provider::Transcription, key, &uri.to_string()) {
        Ok(session) => session,
        Err(refusal) => {
            let code = if refusal.status == StatusCode::UNAUTHORIZED { "INVALID_AUTH" } else { "REFUSED" };
            return refusal.with(json!({"err_code": code, "err_msg": "Refused.", "request_id": id}));
        }
    };
    let mut response = slim(upgrade).on_upgrade({
        let id = id.clone();
        async move |socket| {
            // However it ends, the line is gone.
            Transcription::new(Line::new(socket, session), wish, id).run().await.err();
        }
    });
    if let Ok(id) = id.parse() {
        response.headers_mut().insert("dg-request-id", id);
    }
    response
}

/// One transcription.
struct Transcription {
    line: Line,
    wish: Wish,
    id: String,
    listener: Listener,
    /// Where the span begins that has not been told as final, ms.
    span_ms: u64,
    told_ms: u64,
    told: String,
    /// Somebody has spoken since the last `UtteranceEnd`.
    owes_end: bool,
    /// Messages that have yet to go, with their moment.
    outbox: VecDeque<(Instant, String, Option<String>)>,
    /// When the client last gave a sign.
    sign: Instant,
}

impl Transcription {
    fn new(line: Line, wish: Wish, id: String) -> Self {
        Self {
            line,
            wish,
            id,
            listener: Listener::default(),
            span_ms: 0,
            told_ms: 0,
            told: String::new(),
            owes_end: false,
            outbox: VecDeque::new(),
            sign: Instant::now(),
        }
    }

    async fn run(mut self) -> Result<(), Gone> {
        let idle = Duration::from_millis(self.line.session.shared.config.providers.transcript_idle_ms);
        if self.line.session.has(ProviderFault::Error) {
            let error = json!({"type": "Error", "description": "on demand", "message": "on demand", "variant": "x"});
            self.line.send(error.to_string(), None).await?;
        }
        loop {
            self.post().await?;
            let end = self.sign + idle;
            let due = self.outbox.front().map_or(end, |(moment, ..)| *moment);
            match self.line.next(Some(due)).await? {
                Next::Sound(sound) if sound.is_empty() => return self.finish().await,
                Next::Sound(sound) => {
                    self.sign = Instant::now();
                    for block in sound.chunks(BLOCK) {
                        self.hear(block);
                    }
                }
                Next::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap_or_default();
                    match message["type"].as_str() {
                        Some("KeepAlive") => self.sign = Instant::now(),
                        Some("Finalize") => self.tell(true, false, true),
                        Some("CloseStream") => return self.finish().await,
                        _ => return Err(self.line.leave(1008, "DATA-0000").await),
                    }
                }
                Next::Due if Instant::now() >= end => return Err(self.line.leave(1011, "NET-0001").await),
                Next::Due => {}
            }
        }
    }

    /// Tells the rest, then how much it was, and closes.
    async fn finish(mut self) -> Result<(), Gone> {
        if !self.listener.words().is_empty() {
            self.tell(true, false, false);
        }
        for (_, text, foreign) in std::mem::take(&mut self.outbox) {
            self.line.send(text, foreign).await?;
        }
        let metadata = json!({
            "type": "Metadata", "transaction_key": "deprecated", "request_id": self.id,
            "sha256": "0".repeat(64), "created": Stamp::now().rfc3339(),
            "duration": seconds(self.listener.at_ms()), "channels": 1,
        });
        self.line.send(metadata.to_string(), None).await?;
        Err(self.line.leave(1000, "").await)
    }

    /// Sends what is due.
    async fn post(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        while self.outbox.front().is_some_and(|(moment, ..)| *moment <= now) {
            let Some((_, text, foreign)) = self.outbox.pop_front() else { break };
            self.line.send(text, foreign).await?;
        }
        Ok(())
    }

    fn hear(&mut self, block: &[u8]) {
        let begins = self.listener.listen(block);
        let at = self.listener.at_ms();
        if begins {
            (self.span_ms, self.told_ms, self.owes_end) = (at - block.len() as u64 / 8, at, true);
            if self.wish.vad_events {
                let started =
                    json!({"type": "SpeechStarted", "channel": [0], "timestamp": seconds(self.span_ms)}).to_string();
                self.later(started, None);
            }
        }
        if self.listener.is_speaking {
            // Without endpointing a long silence still ends a span.
            let pause = self.wish.endpointing_ms.unwrap_or(1_000);
            if self.listener.silent_ms >= pause {
                self.listener.is_speaking = false;
                self.tell(true, self.wish.endpointing_ms.is_some(), false);
            } else if at - self.span_ms >= SPAN_MS {
                self.tell(false, false, false);
            } else if self.wish.interim && at - self.told_ms >= INTERIM_MS {
                self.told_ms = at;
                let words = self.listener.words();
                if words != self.told {
                    let result = self.result(&words, at, (false, false, false));
                    self.told = words;
                    self.later(result.0, result.1);
                }
            }
        } else if at - self.told_ms >= EMPTY_MS {
            let result = self.result("", at, (true, false, false));
            (self.span_ms, self.told_ms) = (at, at);
            self.later(result.0, result.1);
        }
        if self.owes_end && self.wish.utterance_end_ms.is_some_and(|after| self.listener.silent_ms >= after) {
            self.owes_end = false;
            let end = seconds(self.listener.voice_ms);
            self.later(json!({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": end}).to_string(), None);
        }
    }

    /// Tells a span as final: all of it, or up to the last whole word.
    fn tell(&mut self, all: bool, speech_final: bool, from_finalize: bool) {
        let words = self.listener.take(all);
        let at = self.listener.at_ms();
        let result = self.result(&words, at, (true, speech_final, from_finalize));
        if !words.is_empty() {
            self.line.session.heard(words);
        }
        (self.span_ms, self.told_ms) = (at, at);
        self.told.clear();
        self.later(result.0, result.1);
        if speech_final && self.line.session.has(ProviderFault::Mumble) {
            for (guess, flags) in [("hm", (false, false, false)), ("", (true, true, false))] {
                let result = self.result(guess, at, flags);
                self.later(result.0, result.1);
            }
        }
    }

    /// A `Results` message, and the same in the name of another session where a fault wants it.
    fn result(&self, words: &str, at: u64, flags: (bool, bool, bool)) -> (String, Option<String>) {
        let of = |words: &str, id: &str| {
            let (is_final, speech_final, from_finalize) = flags;
            let (start, length) = (self.span_ms, at - self.span_ms);
            json!({
                "type": "Results", "channel_index": [0, 1], "start": seconds(start), "duration": seconds(length),
                "is_final": is_final, "speech_final": speech_final, "from_finalize": from_finalize,
                "channel": {"alternatives": [{
                    "transcript": words, "confidence": if words.is_empty() { 0.0 } else { 0.99 },
                    "words": timed(words, start, length),
                }]},
                "metadata": {
                    "request_id": id, "model_uuid": Uuid::nil().to_string(),
                    "model_info": {"name": self.wish.model, "version": "sandbox", "arch": "sandbox"},
                },
            })
            .to_string()
        };
        let mixes_up = self.line.session.has(ProviderFault::ForeignId) && !words.is_empty();
        (of(words, &self.id), mixes_up.then(|| of(FOREIGN, &Uuid::new_v4().to_string())))
    }

    fn later(&mut self, text: String, foreign: Option<String>) {
        let delay = self.line.session.delay(self.line.session.shared.config.providers.transcript_ms);
        // What comes later is never told before.
        let moment = Instant::now() + delay;
        let moment = self.outbox.back().map_or(moment, |(last, ..)| moment.max(*last));
        self.outbox.push_back((moment, text, foreign));
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// Each word with its time, spread over a span by its length.
fn timed(words: &str, start_ms: u64, length_ms: u64) -> Vec<Value> {
    let letters = words.len().max(1) as u64;
    let mut at = 0;
    let mut timed = Vec::new();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let (begin, end) =
            (start_ms + length_ms * at / letters, start_ms + length_ms * (at + word.len() as u64) / letters);
        let plain: String = word.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect();
        timed.push(json!({
            "word": plain.to_lowercase(), "punctuated_word": word, "confidence": 0.99,
            "start": seconds(begin), "end": seconds(end),
        }));
        at += word.len() as u64 + 1;
    }
    timed
}
