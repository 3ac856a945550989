//! OpenAI Realtime, speech to speech over a WebSocket: `GET /v1/realtime` (names of the general release).
//!
//! Invariant: the events of a response come in the documented order, whole or cancelled, and one response is made at a time.
//! Not here: deciding what to say (`brain`); formats but G.711 mu-law, text answers, and deleting items.
use std::{sync::Arc, time::Duration};

use axum::{
    extract::{OriginalUri, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    Provider, ProviderFault, Session,
    brain::Question,
    key_of,
    line::{Gone, Line, Next, slim},
    listener::Listener,
};
use crate::sim::Shared;

mod items;
mod response;
mod session;

use items::Items;
use response::Speaking;
use session::Settings;

/// Bytes of 20 ms.
const BLOCK: usize = 160;

pub(super) async fn realtime(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let session = match Session::open(&shared, Provider::Realtime, key_of(&headers, &["bearer"]), &uri.to_string()) {
        Ok(session) => session,
        Err(refusal) => return refusal.openai(),
    };
    let model = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "model")
        .map_or_else(|| "gpt-realtime".to_owned(), |(_, model)| model.into_owned());
    slim(upgrade).on_upgrade(async move |socket| {
        // However it ends, the line is gone.
        Conversation::new(Line::new(socket, session), model).run().await.err();
    })
}

/// One socket.
struct Conversation {
    line: Line,
    settings: Settings,
    listener: Listener,
    items: Items,
    /// The response that is being made.
    speaking: Option<Speaking>,
    /// Since when the present turn of the person is heard, and its item.
    turn: Option<String>,
    events: u64,
}

impl Conversation {
    fn new(line: Line, model: String) -> Self {
        Self {
            line,
            settings: Settings::new(model),
            listener: Listener::default(),
            items: Items::default(),
            speaking: None,
            turn: None,
            events: 0,
        }
    }

    async fn run(mut self) -> Result<(), Gone> {
        self.tell("session.created", json!({"session": self.settings.shown()})).await?;
        if self.line.session.has(ProviderFault::Error) {
            self.refuse("server_error", "on demand", None).await?;
        }
        loop {
            let due = self.speaking.as_ref().map(|speaking| speaking.next);
            match self.line.next(due).await? {
                Next::Text(text) => match serde_json::from_str::<Value>(&text) {
                    Ok(event) => self.take(&event).await?,
                    Err(error) => self.refuse("invalid_json", &error.to_string(), None).await?,
                },
                Next::Sound(_) => self.refuse("invalid_frame", "text frames only", None).await?,
                Next::Due => self.speak().await?,
            }
        }
    }

    /// Takes an event of the client's.
    async fn take(&mut self, event: &Value) -> Result<(), Gone> {
        let id = event["event_id"].as_str();
        match event["type"].as_str().unwrap_or_default() {
            "session.update" => match self.settings.update(&event["session"]) {
                Ok(()) => self.tell("session.updated", json!({"session": self.settings.shown()})).await,
                Err(why) => self.refuse("invalid_value", &why, id).await,
            },
            "input_audio_buffer.append" => match STANDARD.decode(event["audio"].as_str().unwrap_or_default()) {
                Ok(sound) => self.hear(&sound).await,
                Err(error) => self.refuse("invalid_value", &error.to_string(), id).await,
            },
            "input_audio_buffer.commit" => {
                self.commit().await?;
                Ok(())
            }
            "input_audio_buffer.clear" => {
                self.listener.take(true);
                self.tell("input_audio_buffer.cleared", json!({})).await
            }
            "conversation.item.create" => self.create(event, id).await,
            "conversation.item.truncate" => self.truncate(event, id).await,
            "response.create" if self.speaking.is_some() => {
                self.refuse("conversation_already_has_active_response", "a response is being made", id).await
            }
            "response.create" => self.respond(event["response"]["metadata"].clone()).await,
            "response.cancel" if self.speaking.is_none() => {
                self.refuse("response_cancel_not_active", "Cancellation failed: no active response found", id).await
            }
            "response.cancel" => {
                self.cancel_soon();
                Ok(())
            }
            other => self.refuse("unknown_event", &format!("`{other}` is no event of the sandbox"), id).await,
        }
    }

    async fn hear(&mut self, sound: &[u8]) -> Result<(), Gone> {
        for block in sound.chunks(BLOCK) {
            let begins = self.listener.listen(block);
            let Some(detection) = self.settings.detection else { continue };
            if begins {
                let item = self.items.id();
                let start = self.listener.at_ms().saturating_sub(20 + detection.prefix_ms);
                let body = json!({"audio_start_ms": start, "item_id": item});
                self.turn = Some(item);
                self.tell("input_audio_buffer.speech_started", body).await?;
                if detection.interrupts && self.speaking.is_some() {
                    self.cancel("turn_detected").await?;
                }
            } else if self.listener.is_speaking && self.listener.silent_ms >= detection.silence_ms {
                self.listener.is_speaking = false;
                let (end, item) = (self.listener.at_ms(), self.turn.clone());
                self.tell("input_audio_buffer.speech_stopped", json!({"audio_end_ms": end, "item_id": item})).await?;
                if self.commit().await? && detection.responds && self.speaking.is_none() {
                    self.respond(Value::Null).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes an item of what was heard. False when there were no words.
    async fn commit(&mut self) -> Result<bool, Gone> {
        let item = self.turn.take().unwrap_or_else(|| self.items.id());
        let words = self.listener.take(true);
        let before = self.items.last();
        self.tell("input_audio_buffer.committed", json!({"item_id": item, "previous_item_id": before})).await?;
        let shown = json!({
            "id": item, "object": "realtime.item", "type": "message", "status": "completed", "role": "user",
            "content": [{"type": "input_audio", "transcript": null}],
        });
        self.add(shown).await?;
        if self.settings.transcribes {
            let body = json!({
                "item_id": item, "content_index": 0, "transcript": words, "usage": {"type": "duration", "seconds": 1},
            });
            self.tell("conversation.item.input_audio_transcription.completed", body).await?;
        }
        if words.is_empty() {
            return Ok(false);
        }
        self.line.session.heard(words.clone());
        self.items.said_by_person(words);
        Ok(true)
    }

    async fn create(&mut self, event: &Value, id: Option<&str>) -> Result<(), Gone> {
        let mut item = event["item"].clone();
        match self.items.take(&item) {
            Ok(()) => {
                if !item["id"].is_string() {
                    item["id"] = json!(self.items.id());
                }
                (item["object"], item["status"]) = (json!("realtime.item"), json!("completed"));
                self.add(item).await
            }
            Err(why) => self.refuse("invalid_value", &why, id).await,
        }
    }

    async fn add(&mut self, item: Value) -> Result<(), Gone> {
        let before = self.items.follow(item["id"].as_str().unwrap_or_default());
        for event in ["conversation.item.added", "conversation.item.done"] {
            self.tell(event, json!({"previous_item_id": before, "item": item})).await?;
        }
        Ok(())
    }

    /// Shortens what an answer counts as having said. More than there was is an error.
    async fn truncate(&mut self, event: &Value, id: Option<&str>) -> Result<(), Gone> {
        let item = event["item_id"].as_str().unwrap_or_default();
        let end = event["audio_end_ms"].as_u64().unwrap_or(u64::MAX);
        match self.items.length_ms(item) {
            None => self.refuse("item_not_found", &format!("no item `{item}` with sound"), id).await,
            Some(length) if end > length => {
                let why = format!("Audio content of {length}ms is already shorter than {end}ms");
                self.refuse("invalid_value", &why, id).await
            }
            Some(_) => {
                let body = json!({"item_id": item, "content_index": event["content_index"], "audio_end_ms": end});
                self.tell("conversation.item.truncated", body).await
            }
        }
    }

    async fn refuse(&mut self, code: &str, message: &str, cause: Option<&str>) -> Result<(), Gone> {
        let error = json!({
            "type": "invalid_request_error", "code": code, "message": message, "param": null, "event_id": cause,
        });
        self.tell("error", json!({"error": error})).await
    }

    /// Sends an event with an id of its own.
    async fn tell(&mut self, kind: &str, mut body: Value) -> Result<(), Gone> {
        self.events += 1;
        body["type"] = json!(kind);
        body["event_id"] = json!(format!("event_{:08}", self.events));
        let foreign = self.line.session.has(ProviderFault::ForeignId) && body["response_id"].is_string();
        let foreign = foreign.then(|| {
            let mut other = body.clone();
            (other["response_id"], other["item_id"]) = (json!("resp_foreign"), json!("item_foreign"));
            other.to_string()
        });
        self.line.send(body.to_string(), foreign).await
    }

    /// What to say, by all that was said.
    fn reply(&self) -> super::brain::Reply {
        self.line.session.answer(&Question {
            words: self.items.words.as_deref(),
            result: self.items.result.as_deref(),
            answers: self.items.answers,
            tools: &self.settings.tools,
        })
    }

    /// The time before the first sound of an answer.
    fn first(&self) -> Duration {
        let settings = &self.line.session.shared.config.providers;
        self.line.session.delay(settings.chat_first_ms) + self.line.session.delay(settings.speech_first_ms)
    }
}
