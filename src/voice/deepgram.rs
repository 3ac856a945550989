//! Deepgram's live transcription, version 1.
//!
//! Source: Deepgram, "Live Streaming Audio" (`/v1/listen`). Ten seconds without sound or `KeepAlive` end a connection (NET-0001);
//! `KeepAlive` must be a text message. Times begin again with each connection; none is used here.

use std::time::Duration;

use axum::{body::Bytes, http::HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    models::Provider,
    voice::{
        link::{Out, Protocol, Told, short},
        mulaw::RATE,
        pipeline::Event,
    },
};

/// A silent connection is kept alive after this.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// One transcription.
pub(super) struct Deepgram {
    pub(super) key: SecretString,
    pub(super) model: String,
    pub(super) language: String,
    pub(super) endpointing_ms: u32,
    /// What the provider calls this connection, by its handshake, or else by the first message that names one. What names another is
    /// of another call.
    pub(super) request: Option<String>,
    /// What was understood of the words whose last version has not come.
    pub(super) guess: String,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    speech_final: bool,
    #[serde(default)]
    channel: Option<serde_json::Value>,
    #[serde(default)]
    duration: f64,
    #[serde(default)]
    description: Option<String>,
    /// Of results.
    #[serde(default)]
    metadata: Option<Named>,
    /// Of what is said about the connection itself.
    #[serde(default)]
    request_id: Option<String>,
}

impl Protocol for Deepgram {
    type Order = Bytes;

    fn address(&self) -> (String, Vec<(&'static str, String)>) {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("model", &self.model)
            .append_pair("language", &self.language)
            .append_pair("encoding", "mulaw")
            .append_pair("sample_rate", &RATE.to_string())
            .append_pair("channels", "1")
            .append_pair("interim_results", "true")
            .append_pair("endpointing", &self.endpointing_ms.to_string())
            .append_pair("utterance_end_ms", &self.endpointing_ms.max(1_000).to_string())
            .append_pair("vad_events", "true")
            .append_pair("smart_format", "true")
            .finish();
        (format!("/v1/listen?{query}"), vec![("authorization", format!("Token {}", self.key.expose_secret()))])
    }

    fn opened(&mut self, headers: &HeaderMap) {
        self.request = headers.get("dg-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    }

    fn hello(&mut self) -> Vec<Out> {
        Vec::new()
    }

    fn order(&mut self, sound: Bytes) -> Vec<Out> {
        vec![Out::Sound(Message::Binary(sound))]
    }

    fn heard(&mut self, text: &str) -> Vec<Told> {
        let Ok(mut raw) = serde_json::from_str::<Raw>(text) else { return Vec::new() };
        let named = raw.metadata.take().and_then(|of| of.request_id).or_else(|| raw.request_id.take());
        if let Some(named) = named
            && *self.request.get_or_insert_with(|| named.clone()) != named
        {
            tracing::error!("a transcription of another call came, and is not believed");
            return Vec::new();
        }
        let event = match raw.kind.as_str() {
            "Results" => {
                let transcript = raw.channel.as_ref().and_then(|channel| {
                    channel.pointer("/alternatives/0/transcript").and_then(serde_json::Value::as_str)
                });
                let words = transcript.unwrap_or_default().trim().to_owned();
                let mut told = Vec::new();
                let last = raw.is_final || raw.speech_final;
                self.guess = if last { String::new() } else { words.clone() };
                match (words.is_empty(), last) {
                    (false, false) => told.push(Told::Event(Event::Guess(words))),
                    (false, true) => told.push(Told::Event(Event::Heard { text: words, end: raw.speech_final })),
                    (true, _) if raw.speech_final => told.push(Told::Event(Event::TurnOver)),
                    (true, _) => {}
                }
                if raw.is_final {
                    told.push(Told::Event(Event::Used { what: "transcription_secs", amount: raw.duration }));
                }
                return told;
            }
            "SpeechStarted" => Event::SpeechStarted,
            "UtteranceEnd" => Event::TurnOver,
            "Error" => {
                let why = raw.description.unwrap_or_default();
                return vec![Told::Broken(short(Provider::Deepgram, &why))];
            }
            _ => return Vec::new(),
        };
        vec![Told::Event(event)]
    }

    fn lost(&mut self) -> Vec<Told> {
        // The sound behind it is not sent again: what was understood of it is what there will be.
        let text = std::mem::take(&mut self.guess);
        if text.is_empty() { Vec::new() } else { vec![Told::Event(Event::Heard { text, end: false })] }
    }

    fn keep_alive(&mut self, quiet: Duration) -> Option<Out> {
        (quiet >= KEEP_ALIVE).then(|| Out::Word(Message::text(r#"{"type":"KeepAlive"}"#)))
    }

    fn farewell(&mut self) -> Option<Message> {
        Some(Message::text(r#"{"type":"CloseStream"}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deepgram() -> Deepgram {
        Deepgram {
            key: "k".into(),
            model: "nova-3".into(),
            language: "en-US".into(),
            endpointing_ms: 300,
            request: None,
            guess: String::new(),
        }
    }

    #[test]
    fn results_are_guesses_words_and_ends_of_turns() {
        let result = |text: &str, is_final: bool, speech_final: bool| {
            let json = serde_json::json!({"type": "Results", "is_final": is_final, "speech_final": speech_final, "duration": 1.0,
                "channel": {"alternatives": [{"transcript": text, "confidence": 0.9, "words": []}]}});
            let mut told = deepgram().heard(&json.to_string());
            told.retain(|told| !matches!(told, Told::Event(Event::Used { .. })));
            told
        };
        assert_eq!(result("hel", false, false), [Told::Event(Event::Guess("hel".into()))]);
        assert_eq!(result("hello", true, false), [Told::Event(Event::Heard { text: "hello".into(), end: false })]);
        assert_eq!(result("hello", true, true), [Told::Event(Event::Heard { text: "hello".into(), end: true })]);
        assert_eq!(result(" ", true, true), [Told::Event(Event::TurnOver)]);
        assert_eq!(result("", true, false), []);
    }

    #[test]
    fn what_names_another_request_is_not_of_this_call() {
        let said = |request: &str, text: &str| {
            serde_json::json!({"type": "Results", "is_final": true, "speech_final": true, "metadata": {"request_id": request},
                "channel": {"alternatives": [{"transcript": text}]}})
            .to_string()
        };
        let mut ours = deepgram();
        assert_eq!(ours.heard(&said("a", "one")).len(), 2);
        assert_eq!(ours.heard(&said("b", "of somebody else")), []);
        assert_eq!(ours.heard(r#"{"type": "Metadata", "request_id": "b"}"#), []);
        assert_eq!(ours.heard(&said("a", "two")).len(), 2);
        let named = HeaderMap::from_iter([("dg-request-id".parse().unwrap(), "c".parse().unwrap())]);
        ours.opened(&named);
        assert_eq!(ours.heard(&said("d", "of somebody else, first of all")), []);
        assert_eq!(ours.heard(&said("c", "a connection of its own")).len(), 2);
    }

    #[test]
    fn a_guess_is_what_was_said_where_the_connection_is_lost_before_its_last_version() {
        let said = |text: &str, is_final: bool| {
            serde_json::json!({"type": "Results", "is_final": is_final, "channel": {"alternatives": [{"transcript": text}]}})
                .to_string()
        };
        let mut deepgram = deepgram();
        assert_eq!(deepgram.lost(), [], "nothing was said");
        deepgram.heard(&said("I would", false));
        deepgram.heard(&said("I would like", false));
        assert_eq!(deepgram.lost(), [Told::Event(Event::Heard { text: "I would like".into(), end: false })]);
        assert_eq!(deepgram.lost(), [], "once");
        deepgram.heard(&said("tea", false));
        deepgram.heard(&said("tea.", true));
        assert_eq!(deepgram.lost(), [], "its last version has come");
    }

    #[test]
    fn what_is_not_known_is_nothing() {
        for text in ["", "{", "[]", r#"{"type":"New"}"#, r#"{"type":"Results"}"#, r#"{"type":"Results","channel":7}"#] {
            assert_eq!(deepgram().heard(text), [], "{text}");
        }
    }

    #[test]
    fn the_address_says_what_is_sent_and_asks_for_ends_of_speech() {
        let (path, headers) = deepgram().address();
        assert!(path.contains("encoding=mulaw&sample_rate=8000") && path.contains("endpointing=300"), "{path}");
        assert_eq!(headers, [("authorization", "Token k".to_owned())]);
    }
}
