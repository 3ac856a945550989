//! OpenAI Realtime: one socket that hears and speaks (GA names).
//!
//! Source: OpenAI, "Realtime API", client and server events. The provider ends the caller's turn and answers by itself; what we
//! ask it to say carries its turn in the response's metadata. Sound is mu-law both ways.
//!
//! Invariant: one response is asked for at a time, and none before the session is set up.
//! Not here: the socket and how it is made anew (`link`); what is in the session (`speech_to_speech`).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    calls::Memory,
    models::Provider,
    telemetry::voice as figures,
    voice::{
        link::{Out, Protocol, Told, short},
        mulaw::PER_MS,
        pipeline::{Event, Sound, Turns},
    },
};

mod raw;
mod said;
#[cfg(test)]
mod tests;

use raw::{Asked, Begun, Raw};
use said::Said;

/// Errors that say that something was too late: nothing is broken by them.
const HARMLESS: [&str; 3] = ["response_cancel_not_active", ACTIVE, "invalid_value"];
/// An answer is being made already: the next one is asked for when that is over.
const ACTIVE: &str = "conversation_already_has_active_response";
/// The name of our `session.update`, by which an error tells that it was refused.
const UPDATE: &str = "session";
/// Sound that waits for the session to be set up, in blocks of 100 ms: before that it would be taken for sound of another kind.
const MOST_EARLY: usize = 20;

/// What the session orders.
#[derive(Debug)]
pub(super) enum Order {
    /// Sound of the caller.
    Hear(Bytes),
    /// Say this as it is.
    Say { turn: u32, text: String },
    /// Answer, though nobody spoke.
    Answer { turn: u32 },
    /// What a tool came to.
    Tool { id: String, output: String },
    /// The caller said this in another way than by voice.
    Words(String),
    /// The caller broke in, and had heard so much of it.
    Stop { turn: u32, heard_ms: u64, heard: String },
}

/// One conversation.
pub(super) struct Realtime {
    key: SecretString,
    model: String,
    /// The `session` of `session.update`.
    session: Value,
    turns: Turns,
    said: Said,
    /// The session is set up.
    ready: bool,
    /// Sound of the caller from before that.
    early: VecDeque<Bytes>,
    /// One after the other: the model makes one response at a time.
    asked: VecDeque<Asked>,
    /// By id.
    responses: HashMap<String, Begun>,
    /// The items that are spoken in each turn, and bytes of them.
    items: HashMap<u32, Vec<(String, usize)>>,
    stopped: HashSet<u32>,
    /// Turns that are asked for once more.
    failed: HashSet<u32>,
}

impl Realtime {
    pub(super) fn new(key: SecretString, model: &str, session: Value, turns: Turns, before: &Memory) -> Self {
        Self {
            key,
            model: model.to_owned(),
            session,
            turns,
            said: Said::new(before),
            ready: false,
            early: VecDeque::new(),
            asked: VecDeque::new(),
            responses: HashMap::new(),
            items: HashMap::new(),
            stopped: HashSet::new(),
            failed: HashSet::new(),
        }
    }

    fn ask(&mut self, turn: u32, text: Option<String>) -> Vec<Out> {
        self.asked.push_back(Asked { turn, text, sent: None });
        self.next().into_iter().collect()
    }

    /// Asks for the next response, once the session is set up and no other is being made.
    fn next(&mut self) -> Option<Out> {
        if !self.ready || !self.responses.is_empty() {
            return None;
        }
        // One that was refused may have been stopped since.
        self.asked.retain(|asked| asked.sent.is_some() || !self.stopped.contains(&asked.turn));
        let asked = self.asked.front_mut().filter(|asked| asked.sent.is_none())?;
        asked.sent = Some(Instant::now());
        let mut response = json!({"metadata": {"turn": asked.turn.to_string()}});
        if let Some(text) = &asked.text {
            response["instructions"] = format!("Say to the caller exactly this, and nothing else: {text}").into();
        }
        Some(Out::json(&json!({"type": "response.create", "event_id": ask_name(asked.turn), "response": response})))
    }

    /// A response began: of a turn that we asked for, or of one that the provider began by itself.
    fn created(&mut self, response: &Value) -> Vec<Told> {
        let Some(id) = response["id"].as_str() else { return Vec::new() };
        let named =
            response.pointer("/metadata/turn").and_then(Value::as_str).and_then(|turn| turn.parse::<u32>().ok());
        let place = named.and_then(|turn| self.asked.iter().position(|asked| asked.turn == turn));
        let mut told = Vec::new();
        let (turn, text) = match place.and_then(|place| self.asked.remove(place)) {
            Some(Asked { turn, text, sent }) => {
                told.extend(sent.map(|sent| Told::Answered(sent.elapsed())));
                (turn, text)
            }
            None => {
                let turn = self.turns.next();
                told.push(Told::Event(Event::Began { turn }));
                (turn, None)
            }
        };
        self.responses.insert(id.to_owned(), Begun { turn, text, spoken: String::new(), called: false });
        if self.stopped.contains(&turn) {
            told.push(Told::Reply(Out::json(&json!({"type": "response.cancel", "response_id": id}))));
        }
        told
    }

    fn done(&mut self, response: &Value) -> Vec<Told> {
        let begun = response["id"].as_str().and_then(|id| self.responses.remove(id));
        let Some(Begun { turn, text, .. }) = begun else { return Vec::new() };
        let mut told = Vec::new();
        for (what, at) in
            [("realtime_input_tokens", "/usage/input_tokens"), ("realtime_output_tokens", "/usage/output_tokens")]
        {
            if let Some(amount) = response.pointer(at).and_then(Value::as_f64) {
                told.push(Told::Event(Event::Used { what, amount }));
            }
        }
        let output = response["output"].as_array();
        let tools = output.is_some_and(|items| items.iter().any(|item| item["type"] == "function_call"));
        let failed = response["status"] == "failed" && !self.stopped.contains(&turn);
        if failed && self.items.get(&turn).is_none_or(Vec::is_empty) && self.failed.insert(turn) {
            // Most of what goes wrong leaves the session as it was, and nothing of it was heard: once more.
            self.asked.push_front(Asked { turn, text, sent: None });
            told.extend(self.next().map(Told::Reply));
            return told;
        }
        if failed {
            let why = response["status_details"].to_string();
            told.push(Told::Event(Event::Failed { provider: Provider::Openai, why: short(Provider::Openai, &why) }));
        }
        told.push(Told::Event(Event::Answered { turn, tools }));
        // Behind the sound, which the session may take much later than this.
        told.push(Told::Sound(if tools { Sound::Waits { turn } } else { Sound::Done { turn } }));
        told.extend(self.next().map(Told::Reply));
        told
    }

    fn audio(&mut self, raw: Raw) -> Vec<Told> {
        let turn = raw.response_id.as_deref().and_then(|id| self.turn_of(id));
        let Some(turn) = turn.filter(|turn| !self.stopped.contains(turn)) else { return Vec::new() };
        let Some(sound) = raw.delta.and_then(|delta| STANDARD.decode(delta).ok()) else { return Vec::new() };
        let item = raw.item_id.unwrap_or_default();
        let items = self.items.entry(turn).or_default();
        match items.last_mut().filter(|(current, _)| *current == item) {
            Some((_, bytes)) => *bytes += sound.len(),
            None => items.push((item, sound.len())),
        }
        vec![Told::Sound(Sound::Audio { turn, sound: Bytes::from(sound) })]
    }

    fn turn_of(&self, response: &str) -> Option<u32> {
        self.responses.get(response).map(|begun| begun.turn)
    }

    fn begun(&mut self, response: Option<String>) -> Option<&mut Begun> {
        response.and_then(|id| self.responses.get_mut(&id))
    }

    /// Nothing more of a turn. What was heard of each item is counted from its own beginning.
    fn stop(&mut self, turn: u32, heard_ms: u64, heard: String) -> Vec<Out> {
        self.stopped.insert(turn);
        self.asked.retain(|asked| asked.turn != turn || asked.sent.is_some());
        let mut out = Vec::new();
        if let Some((id, _)) = self.responses.iter().find(|(_, begun)| begun.turn == turn) {
            out.push(Out::json(&json!({"type": "response.cancel", "response_id": id})));
        }
        let items = self.items.remove(&turn).unwrap_or_default();
        let (mut begins_ms, last) = (0, items.len());
        for (i, (item, bytes)) in items.into_iter().enumerate() {
            let (length_ms, end_ms) = ((bytes / PER_MS) as u64, heard_ms.saturating_sub(begins_ms));
            begins_ms += length_ms;
            // Of the last one the model may have made more than it has sent.
            if i + 1 == last || end_ms < length_ms {
                // More than there is would be an error, and some sessions stay mute after it.
                let end_ms = end_ms.min(length_ms.saturating_sub(1));
                out.push(Out::json(&json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0,
                    "audio_end_ms": end_ms})));
            }
        }
        self.said.cut(turn, heard);
        out
    }

    /// The session is set up: it may hear, and be asked.
    fn set_up(&mut self) -> Vec<Told> {
        self.ready = true;
        let mut told: Vec<Told> = self.early.drain(..).map(|sound| Told::Reply(append(&sound))).collect();
        told.extend(self.next().map(Told::Reply));
        told
    }

    fn error(&mut self, error: &Value) -> Vec<Told> {
        let code = error["code"].as_str().unwrap_or_default();
        let cause = error["event_id"].as_str().unwrap_or_default();
        if code == "session_expired" {
            return vec![Told::Broken("the session has expired".to_owned())];
        }
        if cause == UPDATE {
            // It would go on in another voice, of another mind, and with sound of another kind.
            let why = short(Provider::Openai, &format!("the session was refused: {}", error["message"]));
            return vec![Told::Event(Event::Failed { provider: Provider::Openai, why })];
        }
        if let Some(place) = self.asked.iter().position(|asked| ask_name(asked.turn) == cause) {
            match code {
                ACTIVE => self.asked[place].sent = None,
                // Nothing comes of it, and the next one must not wait for it.
                _ => drop(self.asked.remove(place)),
            }
        }
        if !HARMLESS.contains(&code) {
            tracing::warn!(code, "OpenAI says that something was wrong");
        }
        Vec::new()
    }
}

fn ask_name(turn: u32) -> String {
    format!("ask-{turn}")
}

fn create(item: &Value) -> Out {
    Out::json(&json!({"type": "conversation.item.create", "item": item}))
}

fn append(sound: &Bytes) -> Out {
    let append = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, STANDARD.encode(sound));
    Out::Sound(Message::text(append))
}

impl Protocol for Realtime {
    type Order = Order;

    fn address(&self) -> (String, Vec<(&'static str, String)>) {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("model", &self.model).finish();
        (format!("/realtime?{query}"), vec![("authorization", format!("Bearer {}", self.key.expose_secret()))])
    }

    fn hello(&mut self) -> Vec<Out> {
        let update = json!({"type": "session.update", "event_id": UPDATE, "session": self.session});
        let mut out = vec![Out::json(&update)];
        out.extend(self.said.items().map(|item| create(&item)));
        out
    }

    /// What was asked for is asked for again; what had been heard in part ends where it broke off, and what uses a tool goes on behind
    /// that.
    fn lost(&mut self) -> Vec<Told> {
        self.ready = false;
        self.asked.iter_mut().for_each(|asked| asked.sent = None);
        let mut told = Vec::new();
        for Begun { turn, text, spoken, called } in std::mem::take(&mut self.responses).into_values() {
            if self.stopped.contains(&turn) {
                continue;
            }
            if !called && self.items.get(&turn).is_none_or(Vec::is_empty) {
                self.asked.push_front(Asked { turn, text, sent: None });
                continue;
            }
            self.said.by_agent(spoken, turn);
            told.push(Told::Event(Event::Answered { turn, tools: called }));
            told.push(Told::Sound(if called { Sound::Waits { turn } } else { Sound::BrokeOff { turn } }));
        }
        self.items.clear();
        self.said.lost();
        told
    }

    fn order(&mut self, order: Order) -> Vec<Out> {
        match order {
            Order::Hear(sound) if !self.ready => {
                if self.early.len() >= MOST_EARLY {
                    self.early.pop_front();
                    figures::audio_dropped(1);
                }
                self.early.push_back(sound);
                Vec::new()
            }
            Order::Hear(sound) => vec![append(&sound)],
            Order::Say { turn, text } => self.ask(turn, Some(text)),
            Order::Answer { turn } => self.ask(turn, None),
            Order::Words(text) => {
                let message = create(&said::message("user", &text));
                self.said.in_words(text);
                vec![message]
            }
            Order::Tool { id, output } => {
                let known = self.said.came_to(&id, &output);
                known.then(|| create(&said::output(&id, &output))).into_iter().collect()
            }
            Order::Stop { turn, heard_ms, heard } => self.stop(turn, heard_ms, heard),
        }
    }

    fn heard(&mut self, text: &str) -> Vec<Told> {
        let Ok(raw) = serde_json::from_str::<Raw>(text) else { return Vec::new() };
        let turn = raw.response_id.as_deref().and_then(|id| self.turn_of(id));
        let turn = turn.filter(|turn| !self.stopped.contains(turn));
        match raw.kind.as_str() {
            "session.updated" => self.set_up(),
            "input_audio_buffer.speech_started" => vec![Told::Event(Event::SpeechStarted)],
            "input_audio_buffer.speech_stopped" => {
                if let Some(item) = raw.item_id {
                    self.said.by_caller(item);
                }
                vec![Told::Event(Event::SpeechStopped)]
            }
            "conversation.item.input_audio_transcription.completed" => {
                let text = raw.transcript.unwrap_or_default().trim().to_owned();
                let spoken = self.said.written(raw.item_id.as_deref(), &text);
                vec![Told::Event(Event::Transcribed { text, spoken })]
            }
            "response.created" => raw.response.map_or_else(Vec::new, |response| self.created(&response)),
            "response.output_audio.delta" => self.audio(raw),
            "response.output_audio_transcript.delta" => match (turn, raw.delta) {
                (Some(turn), Some(text)) => {
                    self.begun(raw.response_id).into_iter().for_each(|begun| begun.spoken.push_str(&text));
                    vec![Told::Event(Event::Text { turn, text })]
                }
                _ => Vec::new(),
            },
            "response.output_audio_transcript.done" => {
                if let (Some(turn), Some(text)) = (turn, raw.transcript) {
                    self.begun(raw.response_id).into_iter().for_each(|begun| begun.spoken.clear());
                    self.said.by_agent(text, turn);
                }
                Vec::new()
            }
            "response.function_call_arguments.done" => match (turn, raw.call_id, raw.name) {
                (Some(turn), Some(id), Some(name)) => {
                    let arguments = raw.arguments.unwrap_or_default();
                    self.begun(raw.response_id).into_iter().for_each(|begun| begun.called = true);
                    self.said.by_tool(&id, &name, &arguments);
                    vec![Told::Event(Event::Called { turn, id, name, arguments })]
                }
                _ => Vec::new(),
            },
            "response.done" => raw.response.map_or_else(Vec::new, |response| self.done(&response)),
            "error" => self.error(&raw.error.unwrap_or_default()),
            _ => Vec::new(),
        }
    }

    fn keep_alive(&mut self, _: Duration) -> Option<Out> {
        // What was refused because of a response that nobody has told us of.
        self.next()
    }

    fn farewell(&mut self) -> Option<Message> {
        None
    }
}
