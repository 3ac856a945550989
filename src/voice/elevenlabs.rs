//! ElevenLabs' speech over one socket, a context per turn.
//!
//! Source: ElevenLabs, "Multi-Context WebSocket" (`multi-stream-input`). `{"text":""}` keeps a context alive here. The id comes as
//! `contextId` or `context_id`, and the flags in both spellings, too. Contexts are closed after a normal end as well: they are
//! counted against a limit.

use std::{collections::BTreeMap, time::Duration};

use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    models::Provider,
    voice::{
        link::{Out, Protocol, Told, short},
        mulaw::PER_MS,
        pipeline::{Event, Sound},
    },
};

/// Contexts that are open and quiet are kept alive after this; the provider's own limit is 20 s where nothing is said.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What the session orders.
#[derive(Debug)]
pub(super) enum Order {
    /// Speak this text as part of a turn.
    Speak { turn: u32, text: String },
    /// The turn has no more text.
    Finish { turn: u32 },
    /// Nothing more of this turn.
    Stop { turn: u32 },
}

/// One voice.
pub(super) struct ElevenLabs {
    key: SecretString,
    model: String,
    voice: String,
    speed: f64,
    /// Turns that are not over: what was ordered, and what came of it.
    open: BTreeMap<u32, Context>,
    /// The last turn that broke off with its connection: nothing more of it is spoken.
    broke_off: Option<u32>,
    /// Characters that were ordered and are not told of yet.
    used: usize,
}

#[derive(Default)]
struct Context {
    text: String,
    finished: bool,
    bytes: usize,
    asked: Option<std::time::Instant>,
}

/// Whoever names one thing in two spellings may do so in one message: they are no aliases, of which serde takes one only.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    audio: Option<String>,
    #[serde(default)]
    context_id: Option<String>,
    #[serde(default, rename = "contextId")]
    context_id_too: Option<String>,
    #[serde(default)]
    is_final: Option<bool>,
    #[serde(default, rename = "isFinal")]
    is_final_too: Option<bool>,
    #[serde(default)]
    alignment: Option<Alignment>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Alignment {
    #[serde(default)]
    chars: Vec<String>,
    #[serde(default)]
    char_start_times_ms: Option<Vec<f64>>,
    #[serde(default, rename = "charStartTimesMs")]
    char_start_times_ms_too: Option<Vec<f64>>,
    #[serde(default, rename = "charsStartTimesMs")]
    chars_start_times_ms: Option<Vec<f64>>,
}

impl Raw {
    fn turn(&self) -> Option<u32> {
        let id = self.context_id.as_deref().or(self.context_id_too.as_deref())?;
        id.strip_prefix('t')?.parse().ok()
    }

    fn is_final(&self) -> bool {
        self.is_final == Some(true) || self.is_final_too == Some(true)
    }
}

impl Alignment {
    fn starts(&self) -> &[f64] {
        let all = [&self.char_start_times_ms, &self.char_start_times_ms_too, &self.chars_start_times_ms];
        all.into_iter().flatten().next().map_or(&[], Vec::as_slice)
    }
}

impl ElevenLabs {
    pub(super) fn new(key: SecretString, model: &str, voice: &str, speed: f64) -> Self {
        Self {
            key,
            model: model.to_owned(),
            voice: voice.to_owned(),
            speed,
            open: BTreeMap::new(),
            broke_off: None,
            used: 0,
        }
    }

    fn begin(&self, turn: u32) -> Out {
        Out::json(&json!({"text": " ", "context_id": name(turn), "voice_settings": {"speed": self.speed}}))
    }

    fn end(turn: u32) -> [Out; 2] {
        let id = name(turn);
        [
            Out::json(&json!({"context_id": id, "flush": true})),
            Out::json(&json!({"context_id": id, "close_context": true})),
        ]
    }
}

fn name(turn: u32) -> String {
    format!("t{turn}")
}

impl Protocol for ElevenLabs {
    type Order = Order;

    fn address(&self) -> (String, Vec<(&'static str, String)>) {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("model_id", &self.model)
            .append_pair("output_format", "ulaw_8000")
            .append_pair("auto_mode", "true")
            .append_pair("inactivity_timeout", "180")
            .append_pair("sync_alignment", "true")
            .finish();
        let path = format!("/v1/text-to-speech/{}/multi-stream-input?{query}", self.voice);
        (path, vec![("xi-api-key", self.key.expose_secret().to_owned())])
    }

    /// After a lost connection what was ordered and not begun is ordered again.
    fn hello(&mut self) -> Vec<Out> {
        let mut out = Vec::new();
        for (turn, context) in &self.open {
            out.push(Out::json(&json!({
                "text": " ", "context_id": name(*turn), "voice_settings": {"speed": self.speed}
            })));
            if !context.text.is_empty() {
                out.push(Out::json(&json!({"text": context.text, "context_id": name(*turn)})));
            }
            if context.finished {
                out.extend(Self::end(*turn));
            }
        }
        out
    }

    /// What was begun ends where it broke off: nobody knows which words are missing.
    fn lost(&mut self) -> Vec<Told> {
        let (begun, open) = std::mem::take(&mut self.open).into_iter().partition(|(_, context)| context.bytes > 0);
        self.open = open;
        let begun: BTreeMap<u32, Context> = begun;
        self.broke_off = begun.keys().next_back().copied().or(self.broke_off);
        begun.into_keys().map(|turn| Told::Sound(Sound::BrokeOff { turn })).collect()
    }

    fn order(&mut self, order: Order) -> Vec<Out> {
        match order {
            Order::Speak { turn, .. } if self.broke_off == Some(turn) => Vec::new(),
            Order::Speak { turn, text } => {
                let mut out = Vec::new();
                if !self.open.contains_key(&turn) {
                    out.push(self.begin(turn));
                }
                let context = self.open.entry(turn).or_default();
                context.asked.get_or_insert_with(std::time::Instant::now);
                context.text.push_str(&text);
                self.used += text.chars().count();
                out.push(Out::json(&json!({"text": text, "context_id": name(turn)})));
                out
            }
            Order::Finish { turn } => match self.open.get_mut(&turn) {
                Some(context) => {
                    context.finished = true;
                    Self::end(turn).into()
                }
                None => Vec::new(),
            },
            Order::Stop { turn } => match self.open.remove(&turn) {
                Some(_) => vec![Out::json(&json!({"context_id": name(turn), "close_context": true}))],
                None => Vec::new(),
            },
        }
    }

    /// Told when it is ordered: it is to be paid for whether or not it is heard, and not twice where it is ordered again.
    fn used(&mut self) -> Option<Event> {
        let used = std::mem::take(&mut self.used);
        (used > 0).then_some(Event::Used { what: "speech_characters", amount: used as f64 })
    }

    fn heard(&mut self, text: &str) -> Vec<Told> {
        let Ok(raw) = serde_json::from_str::<Raw>(text) else { return Vec::new() };
        if let Some(error) = raw.error.as_ref().filter(|error| !error.is_null()) {
            return vec![Told::Broken(short(Provider::Elevenlabs, &error.to_string()))];
        }
        // What comes of a context that was closed is nobody's.
        let (is_final, turn) = (raw.is_final(), raw.turn());
        let Some((turn, context)) = turn.and_then(|turn| Some((turn, self.open.get_mut(&turn)?))) else {
            return Vec::new();
        };
        let mut told = Vec::new();
        if let Some(sound) =
            raw.audio.as_deref().and_then(|audio| STANDARD.decode(audio).ok()).filter(|s| !s.is_empty())
        {
            if let Some(asked) = context.asked.take() {
                told.push(Told::Answered(asked.elapsed()));
            }
            if let Some(alignment) = raw.alignment {
                words(turn, context.bytes, &alignment, &mut told);
            }
            context.bytes += sound.len();
            told.push(Told::Sound(Sound::Audio { turn, sound: Bytes::from(sound) }));
        }
        if is_final {
            self.open.remove(&turn);
            told.push(Told::Sound(Sound::Done { turn }));
        }
        told
    }

    fn keep_alive(&mut self, quiet: Duration) -> Option<Out> {
        let turn = self.open.keys().next_back().filter(|_| quiet >= KEEP_ALIVE)?;
        Some(Out::json(&json!({"text": "", "context_id": name(*turn)})))
    }

    fn farewell(&mut self) -> Option<Message> {
        Some(Message::text(r#"{"close_socket":true}"#))
    }
}

/// The words of a piece of sound, each with its place in the sound of the turn. The times are those of this piece.
fn words(turn: u32, begin: usize, alignment: &Alignment, told: &mut Vec<Told>) {
    let mut word = (String::new(), 0);
    for (text, at_ms) in alignment.chars.iter().zip(alignment.starts()) {
        if word.0.is_empty() {
            word.1 = begin + (at_ms.max(0.0) as usize) * PER_MS;
        }
        word.0.push_str(text);
        if text.ends_with(char::is_whitespace) {
            let (text, at) = std::mem::take(&mut word);
            told.push(Told::Sound(Sound::Words { turn, text, at }));
        }
    }
    if !word.0.is_empty() {
        told.push(Told::Sound(Sound::Words { turn, text: word.0, at: word.1 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> ElevenLabs {
        ElevenLabs::new("k".into(), "eleven_flash_v2_5", "v", 1.0)
    }

    fn sound(id: &str, bytes: usize) -> String {
        json!({"audio": STANDARD.encode(vec![1; bytes]), "contextId": id, "isFinal": null,
            "alignment": {"chars": ["H", "i", " ", "y", "o"], "charStartTimesMs": [0, 50, 90, 100, 140]}})
        .to_string()
    }

    #[test]
    fn a_turn_is_a_context_and_its_words_have_places_in_its_sound() {
        let mut voice = voice();
        assert_eq!(voice.order(Order::Speak { turn: 3, text: "Hi yo. ".into() }).len(), 2, "begin and text");
        assert_eq!(voice.order(Order::Speak { turn: 3, text: "More. ".into() }).len(), 1);
        voice.heard(&sound("t3", 1_600));
        let told = voice.heard(&sound("t3", 1_600));
        let words: Vec<_> = told
            .iter()
            .filter_map(|told| match told {
                Told::Sound(Sound::Words { text, at, .. }) => Some((text.as_str(), *at)),
                _ => None,
            })
            .collect();
        assert_eq!(words, [("Hi ", 1_600), ("yo", 2_400)]);
        let done = voice.heard(r#"{"is_final":true,"context_id":"t3"}"#);
        assert_eq!(done.last(), Some(&Told::Sound(Sound::Done { turn: 3 })));
    }

    #[test]
    fn nothing_is_heard_of_a_context_that_was_stopped() {
        let mut voice = voice();
        voice.order(Order::Speak { turn: 1, text: "Hi. ".into() });
        assert_eq!(voice.order(Order::Stop { turn: 1 }).len(), 1);
        assert_eq!(voice.heard(&sound("t1", 160)), []);
        assert_eq!(voice.heard(&sound("t9", 160)), []);
    }

    #[test]
    fn after_a_lost_connection_what_had_not_begun_is_ordered_again() {
        let mut voice = voice();
        voice.order(Order::Speak { turn: 1, text: "Hi yo. ".into() });
        voice.order(Order::Finish { turn: 1 });
        assert_eq!(voice.hello().len(), 4, "begin, text, flush, close");
        assert_eq!(voice.lost(), []);
        voice.heard(&sound("t1", 160));
        assert_eq!(
            voice.lost().last(),
            Some(&Told::Sound(Sound::BrokeOff { turn: 1 })),
            "nobody knows which words are missing"
        );
        assert_eq!(voice.hello(), []);
        assert_eq!(voice.order(Order::Speak { turn: 1, text: "More. ".into() }), []);
        assert_eq!(voice.order(Order::Speak { turn: 2, text: "Next. ".into() }).len(), 2);
    }

    #[test]
    fn a_text_is_counted_once_however_its_turn_ends() {
        let mut voice = voice();
        let used = |amount| Some(Event::Used { what: "speech_characters", amount });
        voice.order(Order::Speak { turn: 1, text: "Hé. ".into() });
        assert_eq!(voice.used(), used(4.0), "while its context is open");
        assert_eq!(voice.lost(), []);
        assert_eq!((voice.hello().len(), voice.used()), (2, None), "not twice where it is ordered again");
        voice.order(Order::Stop { turn: 1 });
        assert_eq!(voice.used(), None);
        voice.order(Order::Speak { turn: 2, text: "Yo. ".into() });
        voice.order(Order::Finish { turn: 2 });
        assert_eq!(voice.used(), used(4.0));
        assert_eq!(voice.heard(r#"{"isFinal":true,"contextId":"t2"}"#), [Told::Sound(Sound::Done { turn: 2 })]);
        assert_eq!(voice.used(), None);
    }

    #[test]
    fn a_message_in_both_spellings_is_understood() {
        let mut voice = voice();
        voice.order(Order::Speak { turn: 2, text: "Hi. ".into() });
        let message = json!({"audio": STANDARD.encode([1; 160]), "contextId": "t2", "context_id": "t2", "isFinal": true,
            "is_final": true, "alignment": {"chars": ["H", "i"], "charStartTimesMs": [0, 50], "charsStartTimesMs": [0, 50],
            "char_start_times_ms": [0, 50]}});
        let told = voice.heard(&message.to_string());
        assert!(told.contains(&Told::Sound(Sound::Words { turn: 2, text: "Hi".into(), at: 0 })), "{told:?}");
        assert_eq!(told.last(), Some(&Told::Sound(Sound::Done { turn: 2 })));
        voice.order(Order::Speak { turn: 3, text: "Hi. ".into() });
        let message = r#"{"contextId":null,"context_id":"t3","isFinal":true,"is_final":null}"#;
        assert_eq!(voice.heard(message), [Told::Sound(Sound::Done { turn: 3 })], "null in one of them says nothing");
    }
}
