//! ElevenLabs text to speech over a WebSocket: one context (`stream-input`) or several (`multi-stream-input`).
use std::{sync::Arc, time::Duration};

use axum::{
    extract::{OriginalUri, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    Provider, ProviderFault, Session,
    line::{Gone, Line, Next, slim},
    sentence,
};
use crate::sim::{
    Shared,
    sound::{PER_MS, Utterance},
};

/// Contexts of one socket that may be open at once.
const MOST_CONTEXTS: usize = 5;
/// Characters that are waited for before the first sound, unless `auto_mode` is on (the default schedule's first step).
const FIRST_CHARACTERS: usize = 120;
/// Sound of one message, bytes: half a second.
const PIECE: usize = 4_000;

/// What was asked for in the query.
#[derive(Debug, Clone, Copy)]
struct Wish {
    auto: bool,
    inactivity: Duration,
    /// Several contexts on one socket.
    multi: bool,
}

/// A message of the client's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    text: Option<String>,
    #[serde(alias = "contextId")]
    context_id: Option<String>,
    flush: bool,
    try_trigger_generation: bool,
    close_context: bool,
    close_socket: bool,
    voice_settings: Option<VoiceSettings>,
}

#[derive(Debug, Deserialize)]
struct VoiceSettings {
    speed: Option<f64>,
}

pub(super) async fn single(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    open(&shared, &uri, &headers, upgrade, false)
}

pub(super) async fn multi(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    open(&shared, &uri, &headers, upgrade, true)
}

fn open(
    shared: &Arc<Shared>,
    uri: &Uri,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    multi: bool,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let key = headers.get("xi-api-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let session = match Session::open(shared, Provider::Speech, key, &uri.to_string()) {
        Ok(session) => session,
        Err(refusal) => {
            return refusal.with(json!({"detail": {"status": "refused", "message": "Refused."}}));
        }
    };
    let query = uri.query().unwrap_or_default().to_owned();
    slim(upgrade).on_upgrade(async move |socket| {
        let mut line = Line::new(socket, session);
        match Wish::read(&query, multi) {
            // However it ends, the line is gone.
            Ok(wish) => {
                Speech { line, wish, contexts: Vec::new(), sign: Instant::now(), is_closing: false }.run().await.err();
            }
            Err(why) => {
                line.send(complaint("unsupported", &why), None).await.ok();
                line.leave(1008, &why).await;
            }
        }
    })
}

fn complaint(error: &str, message: &str) -> String {
    json!({"error": error, "message": message, "code": 1008}).to_string()
}

impl Wish {
    fn read(query: &str, multi: bool) -> Result<Self, String> {
        let value = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        let seconds = match value("inactivity_timeout") {
            None => 20,
            Some(text) => text.parse().map_err(|_| "inactivity_timeout is no number of seconds".to_owned())?,
        };
        if value("output_format").as_deref() != Some("ulaw_8000") {
            return Err("the sandbox speaks output_format=ulaw_8000".to_owned());
        }
        let inactivity = Duration::from_secs(u64::min(seconds, 180));
        Ok(Self { auto: value("auto_mode").as_deref() == Some("true"), inactivity, multi })
    }
}

/// One context: text that waits, and sentences that are being sent.
struct Context {
    id: String,
    text: String,
    speed: f64,
    sentences: std::collections::VecDeque<Utterance>,
    /// When the next piece of sound goes.
    next: Instant,
    /// The first sound of the present turn is on its way or was sent.
    is_warm: bool,
    /// A flush has yet to be told as done.
    flushing: bool,
    /// Nothing has come since the last flush.
    flushed: bool,
    closing: bool,
}

/// One socket.
struct Speech {
    line: Line,
    wish: Wish,
    contexts: Vec<Context>,
    /// When the client last gave a sign.
    sign: Instant,
    /// The socket closes when everything has been spoken.
    is_closing: bool,
}

impl Speech {
    async fn run(mut self) -> Result<(), Gone> {
        if self.line.session.has(ProviderFault::Error) {
            self.line.send(json!({"error": "on_demand", "message": "on demand"}).to_string(), None).await?;
        }
        loop {
            self.speak().await?;
            let endless = self.line.session.has(ProviderFault::Endless);
            let end = if endless { Instant::now() } else { self.sign } + self.wish.inactivity;
            let due = self.contexts.iter().filter(|context| context.owes()).map(|context| context.next).min();
            match self.line.next(Some(due.map_or(end, |due| due.min(end)))).await? {
                Next::Text(text) => match serde_json::from_str::<Message>(&text) {
                    Ok(message) => {
                        self.sign = Instant::now();
                        self.take(message).await?;
                    }
                    Err(error) => {
                        self.line.send(complaint("invalid_message", &error.to_string()), None).await?;
                        return Err(self.line.leave(1008, "invalid message").await);
                    }
                },
                Next::Sound(_) => return Err(self.line.leave(1008, "text only").await),
                Next::Due if Instant::now() >= end => {
                    self.line.send(complaint("input_timeout_exceeded", "no text for too long"), None).await?;
                    return Err(self.line.leave(1008, "input_timeout_exceeded").await);
                }
                Next::Due => {}
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), Gone> {
        if message.close_socket {
            self.is_closing = true;
            for at in 0..self.contexts.len() {
                self.trigger(at);
                self.contexts[at].closing = true;
            }
            return Ok(());
        }
        let id = message.context_id.clone().unwrap_or_else(|| "default".to_owned());
        let at = match self.contexts.iter().position(|context| context.id == id && !context.closing) {
            Some(at) => at,
            // Nothing that a closed or unknown context is told has any effect, but for text, which opens it.
            None if message.text.as_deref().is_none_or(str::is_empty) => return Ok(()),
            None if self.contexts.iter().filter(|context| !context.closing).count() >= MOST_CONTEXTS => {
                self.line.send(complaint("max_contexts_exceeded", "too many open contexts"), None).await?;
                return Err(self.line.leave(1008, "max_contexts_exceeded").await);
            }
            None => {
                self.contexts.push(Context::new(id));
                self.contexts.len() - 1
            }
        };
        let context = &mut self.contexts[at];
        if let Some(speed) = message.voice_settings.and_then(|settings| settings.speed) {
            context.speed = speed.clamp(0.7, 1.2);
        }
        if message.close_context {
            // What was flushed is still spoken; nothing else is (the `text` of this message is ignored).
            if !context.flushed {
                context.sentences.clear();
            }
            context.closing = true;
            return Ok(());
        }
        // In the one-context interface an empty text is the end; among several it keeps the context alive.
        let is_end = !self.wish.multi && message.text.as_deref() == Some("");
        let text = message.text.unwrap_or_default();
        context.flushed &= text.trim().is_empty();
        context.text.push_str(&text);
        context.flushing |= message.flush;
        context.flushed |= message.flush;
        context.closing |= is_end;
        let enough = self.wish.auto || message.try_trigger_generation || context.text.len() >= FIRST_CHARACTERS;
        if message.flush || is_end || enough {
            self.trigger(at);
        }
        Ok(())
    }

    /// Makes a sentence of the text that waits.
    fn trigger(&mut self, at: usize) {
        let settings = &self.line.session.shared.config.providers;
        let delay = self.line.session.delay(settings.speech_first_ms);
        let context = &mut self.contexts[at];
        let text = std::mem::take(&mut context.text);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if !std::mem::replace(&mut context.is_warm, true) {
            context.next = Instant::now() + delay;
        }
        context.sentences.push_back(Utterance::new(sentence(), text, settings.speech_speed.times(context.speed)));
        self.line.session.heard(text);
    }

    /// Sends what is due in every context.
    async fn speak(&mut self) -> Result<(), Gone> {
        let mut at = 0;
        while at < self.contexts.len() {
            let now = Instant::now();
            while self.contexts[at].owes() && self.contexts[at].next <= now {
                self.piece(at).await?;
            }
            let context = &self.contexts[at];
            if !context.closing || context.owes() {
                at += 1;
                continue;
            }
            let context = self.contexts.remove(at);
            let last = self.message(&context.id, json!({"isFinal": true, "audio": null}));
            self.line.send(last, None).await?;
            if self.line.session.has(ProviderFault::Late) {
                let mut late =
                    Utterance::new(sentence(), "too late", self.line.session.shared.config.providers.speech_speed);
                let sound = STANDARD.encode(late.sound());
                let late = self.message(&context.id, json!({"audio": sound, "isFinal": null}));
                self.line.send(late, None).await?;
            }
            if !self.wish.multi {
                return Err(self.line.leave(1000, "").await);
            }
        }
        if self.is_closing && self.contexts.is_empty() {
            return Err(self.line.leave(1000, "").await);
        }
        Ok(())
    }

    /// Sends one piece of sound with the times of its characters, or tells that a flush is done.
    async fn piece(&mut self, at: usize) -> Result<(), Gone> {
        let pace = self.pace();
        let context = &mut self.contexts[at];
        let Some(sentence) = context.sentences.front_mut() else {
            (context.flushing, context.is_warm) = (false, false);
            let done = self.message(&self.contexts[at].id.clone(), json!({"type": "flush_done"}));
            return self.line.send(done, None).await;
        };
        let before = sentence.said().len();
        let mut sound = vec![0; PIECE];
        let length = sentence.speak(&mut sound);
        sound.truncate(length);
        let begins = sentence.begins_ms(before);
        let characters: Vec<(usize, char)> = sentence.said()[before..].char_indices().collect();
        let times: Vec<(usize, usize)> = characters
            .iter()
            .map(|(byte, character)| {
                let start = sentence.begins_ms(before + byte);
                (start - begins, sentence.begins_ms(before + byte + character.len_utf8()) - start)
            })
            .collect();
        let alignment = json!({
            "chars": characters.iter().map(|(_, character)| character.to_string()).collect::<Vec<_>>(),
            "charStartTimesMs": times.iter().map(|(start, _)| *start).collect::<Vec<_>>(),
            "charDurationsMs": times.iter().map(|(_, length)| *length).collect::<Vec<_>>(),
        });
        let is_over = sentence.is_over();
        let text =
            if is_over { context.sentences.pop_front().map(|sentence| sentence.text().to_owned()) } else { None };
        if let Some(text) = text.as_deref().filter(|_| self.line.session.has(ProviderFault::Endless)) {
            let speed = self.line.session.shared.config.providers.speech_speed.times(context.speed);
            context.sentences.push_back(Utterance::new(super::sentence(), text, speed));
        }
        if pace > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "at most half a second")]
            let plays = length as f64 / PER_MS as f64 / 1000.0;
            context.next = context.next.max(Instant::now()) + Duration::from_secs_f64(plays / pace);
        }
        let id = context.id.clone();
        let body = json!({
            "audio": STANDARD.encode(&sound), "isFinal": null, "alignment": alignment, "normalizedAlignment": alignment,
        });
        let foreign = self.line.session.has(ProviderFault::ForeignId).then(|| {
            let mut foreign =
                Utterance::new(super::sentence(), "tag-999999", self.line.session.shared.config.providers.speech_speed);
            self.message(
                &Uuid::new_v4().to_string(),
                json!({"audio": STANDARD.encode(foreign.sound()), "isFinal": null}),
            )
        });
        let message = self.message(&id, body);
        if let Some(text) = text {
            self.line.session.said(text);
        }
        self.line.send(message, foreign).await
    }

    /// How much faster than it plays sound is sent; 0 for at once.
    fn pace(&self) -> f64 {
        match self.line.session.fault.as_ref().map(|rule| rule.kind) {
            Some(ProviderFault::Burst) => 20.0,
            Some(ProviderFault::Trickle) => 0.5,
            Some(ProviderFault::Endless) => 1.0,
            _ => self.line.session.shared.config.providers.speech_pace,
        }
    }

    fn message(&self, context: &str, mut body: Value) -> String {
        if self.wish.multi {
            body["contextId"] = json!(context);
        }
        body.to_string()
    }
}

impl Context {
    fn new(id: String) -> Self {
        Self {
            id,
            text: String::new(),
            speed: 1.0,
            sentences: std::collections::VecDeque::new(),
            next: Instant::now(),
            is_warm: false,
            flushing: false,
            flushed: false,
            closing: false,
        }
    }

    /// True while something has yet to be sent.
    fn owes(&self) -> bool {
        !self.sentences.is_empty() || self.flushing
    }
}
