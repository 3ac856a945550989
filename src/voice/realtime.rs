//! OpenAI Realtime: one socket that hears and speaks (GA names).
//!
//! Source: OpenAI, "Realtime API", client and server events. The provider ends the caller's turn and answers by itself; what we
//! ask it to say carries its turn in the response's metadata. Sound is mu-law both ways.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    models::Provider,
    voice::{
        link::{Out, Protocol, Told, short},
        mulaw::PER_MS,
        pipeline::{Event, Sound, Turns},
    },
};

/// Errors that say that something was too late: nothing is broken by them.
const HARMLESS: [&str; 3] = ["response_cancel_not_active", "conversation_already_has_active_response", "invalid_value"];

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
    /// The caller broke in.
    Stop { turn: u32, heard_ms: u64 },
}

/// One conversation.
pub(super) struct Realtime {
    key: SecretString,
    model: String,
    /// The `session` of `session.update`.
    session: Value,
    turns: Turns,
    /// What was said before this connection, for the next one.
    said: Vec<(&'static str, String)>,
    /// Turns that were asked for and have no response yet.
    asked: VecDeque<(u32, Instant)>,
    /// Responses that are under way, by id.
    responses: HashMap<String, u32>,
    /// The item that is spoken in each turn, and bytes of it.
    items: HashMap<u32, (String, usize)>,
    stopped: HashSet<u32>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    response_id: Option<String>,
    #[serde(default)]
    item_id: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    #[serde(default)]
    delta: Option<String>,
    #[serde(default)]
    transcript: Option<String>,
    #[serde(default)]
    response: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

impl Realtime {
    pub(super) fn new(
        key: SecretString,
        model: &str,
        session: Value,
        turns: Turns,
        said: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            key,
            model: model.to_owned(),
            session,
            turns,
            said,
            asked: VecDeque::new(),
            responses: HashMap::new(),
            items: HashMap::new(),
            stopped: HashSet::new(),
        }
    }

    fn ask(&mut self, turn: u32, instructions: Option<&str>) -> Out {
        self.asked.push_back((turn, Instant::now()));
        let mut response = json!({"metadata": {"turn": turn.to_string()}});
        if let Some(text) = instructions {
            response["instructions"] = text.into();
        }
        Out::json(&json!({"type": "response.create", "response": response}))
    }

    fn message(role: &str, text: &str) -> Out {
        let kind = if role == "assistant" { "output_text" } else { "input_text" };
        Out::json(&json!({"type": "conversation.item.create",
            "item": {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}}))
    }

    /// A response began: of a turn that we asked for, or of one that the provider began by itself.
    fn created(&mut self, response: &Value) -> Vec<Told> {
        let Some(id) = response["id"].as_str() else { return Vec::new() };
        let named =
            response.pointer("/metadata/turn").and_then(Value::as_str).and_then(|turn| turn.parse::<u32>().ok());
        let place = match named {
            Some(turn) => self.asked.iter().position(|(asked, _)| *asked == turn),
            None => (!self.asked.is_empty()).then_some(0),
        };
        let mut told = Vec::new();
        let turn = match place.and_then(|place| self.asked.remove(place)) {
            Some((turn, asked)) => {
                told.push(Told::Answered(asked.elapsed()));
                turn
            }
            None => {
                let turn = self.turns.next();
                told.push(Told::Event(Event::Began { turn }));
                turn
            }
        };
        self.responses.insert(id.to_owned(), turn);
        if self.stopped.contains(&turn) {
            told.push(Told::Reply(Out::json(&json!({"type": "response.cancel", "response_id": id}))));
        }
        told
    }

    fn done(&mut self, response: &Value) -> Vec<Told> {
        let Some(turn) = response["id"].as_str().and_then(|id| self.responses.remove(id)) else { return Vec::new() };
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
        if response["status"] == "failed" {
            let why = response["status_details"].to_string();
            told.push(Told::Event(Event::Failed { provider: Provider::Openai, why: short(Provider::Openai, &why) }));
        }
        told.push(Told::Event(Event::Answered { turn, tools }));
        // Behind the sound, which the session may take much later than this.
        told.push(Told::Sound(if tools { Sound::Waits { turn } } else { Sound::Done { turn } }));
        told
    }

    fn audio(&mut self, raw: Raw) -> Vec<Told> {
        let turn = raw.response_id.and_then(|id| self.responses.get(&id).copied());
        let Some(turn) = turn.filter(|turn| !self.stopped.contains(turn)) else { return Vec::new() };
        let Some(sound) = raw.delta.and_then(|delta| STANDARD.decode(delta).ok()) else { return Vec::new() };
        let item = raw.item_id.unwrap_or_default();
        let (current, bytes) = self.items.entry(turn).or_default();
        if *current != item {
            // What was heard of an item is counted from its own beginning.
            (*current, *bytes) = (item, 0);
        }
        *bytes += sound.len();
        vec![Told::Sound(Sound::Audio { turn, sound: Bytes::from(sound) })]
    }
}

impl Protocol for Realtime {
    type Order = Order;

    fn address(&self) -> (String, Vec<(&'static str, String)>) {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("model", &self.model).finish();
        (format!("/realtime?{query}"), vec![("authorization", format!("Bearer {}", self.key.expose_secret()))])
    }

    fn hello(&mut self) -> Vec<Out> {
        let mut out = vec![Out::json(&json!({"type": "session.update", "session": self.session}))];
        out.extend(self.said.iter().map(|(role, text)| Self::message(role, text)));
        // What was asked for on a connection that is lost is asked for again; what had begun ends there.
        self.responses.clear();
        self.items.clear();
        let asked: Vec<u32> = std::mem::take(&mut self.asked).into_iter().map(|(turn, _)| turn).collect();
        out.extend(asked.into_iter().map(|turn| self.ask(turn, None)));
        out
    }

    fn order(&mut self, order: Order) -> Vec<Out> {
        match order {
            Order::Hear(sound) => {
                let append = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, STANDARD.encode(sound));
                vec![Out::Sound(Message::text(append))]
            }
            Order::Say { turn, text } => {
                let asked = format!("Say to the caller exactly this, and nothing else: {text}");
                vec![self.ask(turn, Some(&asked))]
            }
            Order::Answer { turn } => vec![self.ask(turn, None)],
            Order::Tool { id, output } => vec![Out::json(&json!({"type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": id, "output": output}}))],
            Order::Stop { turn, heard_ms } => {
                self.stopped.insert(turn);
                let mut out = Vec::new();
                if let Some((id, _)) = self.responses.iter().find(|(_, under_way)| **under_way == turn) {
                    out.push(Out::json(&json!({"type": "response.cancel", "response_id": id})));
                }
                if let Some((item, bytes)) = self.items.remove(&turn) {
                    // More than there is would be an error, and some sessions stay mute after it.
                    let most = (bytes / PER_MS) as u64;
                    out.push(Out::json(
                        &json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0,
                        "audio_end_ms": heard_ms.min(most.saturating_sub(1))}),
                    ));
                }
                out
            }
        }
    }

    fn heard(&mut self, text: &str) -> Vec<Told> {
        let Ok(raw) = serde_json::from_str::<Raw>(text) else { return Vec::new() };
        let turn = raw.response_id.as_deref().and_then(|id| self.responses.get(id).copied());
        match raw.kind.as_str() {
            "input_audio_buffer.speech_started" => vec![Told::Event(Event::SpeechStarted)],
            "input_audio_buffer.speech_stopped" => vec![Told::Event(Event::SpeechStopped)],
            "conversation.item.input_audio_transcription.completed" => {
                let text = raw.transcript.unwrap_or_default().trim().to_owned();
                self.said.push(("user", text.clone()));
                vec![Told::Event(Event::Heard { text, end: true })]
            }
            "response.created" => raw.response.map_or_else(Vec::new, |response| self.created(&response)),
            "response.output_audio.delta" => self.audio(raw),
            "response.output_audio_transcript.delta" => match (turn, raw.delta) {
                (Some(turn), Some(text)) if !self.stopped.contains(&turn) => {
                    vec![Told::Event(Event::Text { turn, text })]
                }
                _ => Vec::new(),
            },
            "response.output_audio_transcript.done" => {
                self.said.extend(raw.transcript.map(|text| ("assistant", text)));
                Vec::new()
            }
            "response.function_call_arguments.done" => match (turn, raw.call_id, raw.name) {
                (Some(turn), Some(id), Some(name)) => {
                    let arguments = raw.arguments.unwrap_or_default();
                    vec![Told::Event(Event::Called { turn, id, name, arguments })]
                }
                _ => Vec::new(),
            },
            "response.done" => raw.response.map_or_else(Vec::new, |response| self.done(&response)),
            "error" => {
                let error = raw.error.unwrap_or_default();
                let code = error["code"].as_str().unwrap_or_default();
                if code == "session_expired" {
                    return vec![Told::Broken("the session has expired".to_owned())];
                }
                if !HARMLESS.contains(&code) {
                    tracing::warn!(code, "OpenAI says that something was wrong");
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn keep_alive(&mut self, _: Duration) -> Option<Out> {
        None
    }

    fn farewell(&mut self) -> Option<Message> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realtime() -> Realtime {
        Realtime::new("k".into(), "gpt-realtime", json!({"type": "realtime"}), Turns::default(), Vec::new())
    }

    fn heard(realtime: &mut Realtime, value: &Value) -> Vec<Told> {
        realtime.heard(&value.to_string())
    }

    fn delta(response: &str, item: &str, bytes: usize) -> Value {
        json!({"type": "response.output_audio.delta", "response_id": response, "item_id": item,
            "delta": STANDARD.encode(vec![1; bytes])})
    }

    #[test]
    fn a_response_of_its_own_takes_the_next_turn_and_one_that_was_asked_for_keeps_its() {
        let mut realtime = realtime();
        let created = |id: &str, metadata: Value| json!({"type": "response.created", "response": {"id": id, "metadata": metadata}});
        assert_eq!(heard(&mut realtime, &created("r1", Value::Null)), [Told::Event(Event::Began { turn: 1 })]);
        realtime.order(Order::Say { turn: 7, text: "Hi".into() });
        let told = heard(&mut realtime, &created("r2", json!({"turn": "7"})));
        assert!(matches!(told.as_slice(), [Told::Answered(_)]));
        let sound = heard(&mut realtime, &delta("r2", "i", 160));
        assert!(matches!(sound.as_slice(), [Told::Sound(Sound::Audio { turn: 7, .. })]));
    }

    #[test]
    fn what_was_heard_is_never_more_than_there_is() {
        let mut realtime = realtime();
        heard(&mut realtime, &json!({"type": "response.created", "response": {"id": "r1"}}));
        heard(&mut realtime, &delta("r1", "i1", 8_000));
        let out = realtime.order(Order::Stop { turn: 1, heard_ms: 60_000 });
        let Some(Out::Word(Message::Text(truncate))) = out.last() else { panic!("{out:?}") };
        let truncate: Value = serde_json::from_str(truncate).unwrap();
        assert_eq!((&truncate["item_id"], &truncate["audio_end_ms"]), (&json!("i1"), &json!(999)));
        assert_eq!(heard(&mut realtime, &delta("r1", "i1", 160)), [], "nothing more of it");
    }

    #[test]
    fn what_is_not_known_is_nothing() {
        for text in ["", "{", "[]", r#"{"type":"new.event"}"#, r#"{"type":"response.done"}"#, r#"{"type":"error"}"#] {
            assert_eq!(realtime().heard(text), [], "{text}");
        }
    }
}
