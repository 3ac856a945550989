//! One response of a Realtime conversation: its events in their order, and its sound in pieces.
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Conversation, Gone, ProviderFault};
use crate::sim::{
    providers::{brain::Call, sentence},
    sound::{PER_MS, Utterance},
};

/// Sound of one delta, bytes: 200 ms.
const PIECE: usize = 1_600;
/// What a cancellation takes.
const CANCEL: Duration = Duration::from_millis(50);

/// A response that is being made.
pub(super) struct Speaking {
    id: String,
    item: String,
    sentence: Utterance,
    calls: Vec<Call>,
    /// What the client wrote of it.
    metadata: Value,
    /// It is being cancelled, and why: that takes a moment, and until then no other response is taken.
    cancelled: Option<&'static str>,
    has_begun: bool,
    sent_ms: usize,
    /// When the next piece goes.
    pub(super) next: Instant,
}

impl Conversation {
    /// Begins a response; its sound comes later.
    pub(super) async fn respond(&mut self, metadata: Value) -> Result<(), Gone> {
        let reply = self.reply();
        self.items.result = None;
        self.items.answers += 1;
        let speed = self.line.session.shared.config.providers.speech_speed;
        let speaking = Speaking {
            id: format!("resp_{}", Uuid::new_v4().simple()),
            item: self.items.id(),
            sentence: Utterance::new(sentence(), &reply.says, speed),
            calls: reply.calls,
            metadata,
            cancelled: None,
            has_begun: false,
            sent_ms: 0,
            next: Instant::now() + self.first(),
        };
        let body = speaking.response("in_progress", &Value::Null, Vec::new());
        self.speaking = Some(speaking);
        self.tell("response.created", json!({"response": body})).await
    }

    /// Sends what is due.
    pub(super) async fn speak(&mut self) -> Result<(), Gone> {
        if let Some(reason) = self.speaking.as_ref().and_then(|speaking| speaking.cancelled) {
            return self.cancel(reason).await;
        }
        let Some(mut speaking) = self.speaking.take() else { return Ok(()) };
        if !speaking.has_begun {
            speaking.has_begun = true;
            self.begin(&speaking).await?;
        }
        let before = speaking.sentence.said().len();
        let mut sound = vec![0; PIECE];
        let length = speaking.sentence.speak(&mut sound);
        sound.truncate(length);
        let words = speaking.sentence.said()[before..].to_owned();
        if !words.is_empty() {
            self.tell("response.output_audio_transcript.delta", speaking.part(json!({"delta": words}))).await?;
        }
        if length > 0 {
            speaking.sent_ms += length / PER_MS;
            self.items.lasts(&speaking.item, speaking.sent_ms as u64);
            let delta = json!({"delta": STANDARD.encode(&sound)});
            self.tell("response.output_audio.delta", speaking.part(delta)).await?;
        }
        if speaking.sentence.is_over() {
            return self.end(speaking, "completed", Value::Null).await;
        }
        speaking.next = Instant::now() + self.gap(length);
        self.speaking = Some(speaking);
        Ok(())
    }

    /// Ends it soon: nothing more of it is sent.
    pub(super) fn cancel_soon(&mut self) {
        if let Some(speaking) = &mut self.speaking {
            (speaking.cancelled, speaking.next) = (Some("client_cancelled"), Instant::now() + CANCEL);
        }
    }

    /// Ends the response that is being made, in the middle of it.
    pub(super) async fn cancel(&mut self, reason: &str) -> Result<(), Gone> {
        let Some(speaking) = self.speaking.take() else { return Ok(()) };
        let late = self.line.session.has(ProviderFault::Late).then(|| speaking.late());
        self.end(speaking, "cancelled", json!({"type": "cancelled", "reason": reason})).await?;
        match late {
            Some(late) => self.tell("response.output_audio.delta", late).await,
            None => Ok(()),
        }
    }

    async fn begin(&mut self, speaking: &Speaking) -> Result<(), Gone> {
        let item = speaking.shown("in_progress", "");
        let added = json!({"response_id": speaking.id, "output_index": 0, "item": item});
        self.tell("response.output_item.added", added).await?;
        let before = self.items.follow(&speaking.item);
        self.tell("conversation.item.added", json!({"previous_item_id": before, "item": item})).await?;
        let part = json!({"part": {"type": "audio", "transcript": ""}});
        self.tell("response.content_part.added", speaking.part(part)).await
    }

    /// The events that end a response, whole or not.
    async fn end(&mut self, speaking: Speaking, status: &str, details: Value) -> Result<(), Gone> {
        let said = speaking.sentence.said().to_owned();
        let mut output = Vec::new();
        if speaking.has_begun {
            self.tell("response.output_audio.done", speaking.part(json!({}))).await?;
            let transcript = speaking.part(json!({"transcript": said}));
            self.tell("response.output_audio_transcript.done", transcript).await?;
            let part = speaking.part(json!({"part": {"type": "audio", "transcript": said}}));
            self.tell("response.content_part.done", part).await?;
            let item = speaking.shown(if status == "completed" { "completed" } else { "incomplete" }, &said);
            let done = json!({"response_id": speaking.id, "output_index": 0, "item": item});
            self.tell("response.output_item.done", done).await?;
            self.tell("conversation.item.done", json!({"previous_item_id": null, "item": item})).await?;
            output.push(item);
            self.line.session.said(said);
        }
        for call in speaking.calls.iter().filter(|_| status == "completed") {
            let at = output.len();
            output.push(self.call(&speaking.id, at, call).await?);
        }
        let body = speaking.response(status, &details, output);
        self.tell("response.done", json!({"response": body})).await
    }

    /// A call of a tool, as an item of its own.
    async fn call(&mut self, response: &str, at: usize, call: &Call) -> Result<Value, Gone> {
        let (id, call_id) = (self.items.id(), format!("call_{}", &Uuid::new_v4().simple().to_string()[..16]));
        self.items.called(&call_id);
        let arguments = call.arguments.to_string();
        let item = |status: &str, arguments: &str| {
            json!({
                "id": id, "object": "realtime.item", "type": "function_call", "status": status, "call_id": call_id,
                "name": call.name, "arguments": arguments,
            })
        };
        let of = |mut body: Value| {
            (body["response_id"], body["item_id"]) = (json!(response), json!(id));
            (body["output_index"], body["call_id"]) = (json!(at), json!(call_id));
            body
        };
        let added = json!({"response_id": response, "output_index": at, "item": item("in_progress", "")});
        self.tell("response.output_item.added", added).await?;
        self.tell("response.function_call_arguments.delta", of(json!({"delta": arguments}))).await?;
        let done = of(json!({"name": call.name, "arguments": arguments}));
        self.tell("response.function_call_arguments.done", done).await?;
        let item = item("completed", &arguments);
        self.tell("response.output_item.done", json!({"response_id": response, "output_index": at, "item": item}))
            .await?;
        Ok(item)
    }

    /// The time until the next piece.
    fn gap(&self, length: usize) -> Duration {
        let pace = match self.line.session.fault.as_ref().map(|rule| rule.kind) {
            Some(ProviderFault::Burst) => 20.0,
            Some(ProviderFault::Trickle) => 0.5,
            _ => self.line.session.shared.config.providers.speech_pace,
        };
        #[expect(clippy::cast_precision_loss, reason = "at most 200 ms")]
        let plays = length as f64 / PER_MS as f64 / 1000.0;
        if pace > 0.0 { Duration::from_secs_f64(plays / pace) } else { Duration::ZERO }
    }
}

impl Speaking {
    /// An event about the sound of this response.
    fn part(&self, mut body: Value) -> Value {
        (body["response_id"], body["item_id"]) = (json!(self.id), json!(self.item));
        (body["output_index"], body["content_index"]) = (json!(0), json!(0));
        body
    }

    /// Sound that comes after the end.
    fn late(&self) -> Value {
        let mut late = self.sentence.clone();
        let mut sound = vec![0; PIECE];
        late.speak(&mut sound);
        self.part(json!({"delta": STANDARD.encode(sound)}))
    }

    fn shown(&self, status: &str, transcript: &str) -> Value {
        let content =
            if transcript.is_empty() { json!([]) } else { json!([{"type": "output_audio", "transcript": transcript}]) };
        json!({
            "id": self.item, "object": "realtime.item", "type": "message", "status": status, "role": "assistant",
            "content": content,
        })
    }

    fn response(&self, status: &str, details: &Value, output: Vec<Value>) -> Value {
        let mut shown = shown(&self.id, status, details, output);
        shown["metadata"] = self.metadata.clone();
        shown
    }
}

fn shown(id: &str, status: &str, details: &Value, output: Vec<Value>) -> Value {
    let usage = (status != "in_progress").then(|| {
        json!({"total_tokens": 30, "input_tokens": 10, "output_tokens": 20,
            "input_token_details": {"cached_tokens": 0, "text_tokens": 5, "audio_tokens": 5},
            "output_token_details": {"text_tokens": 5, "audio_tokens": 15}})
    });
    json!({
        "id": id, "object": "realtime.response", "status": status, "status_details": details, "output": output,
        "conversation_id": "conv_sandbox", "output_modalities": ["audio"], "max_output_tokens": "inf",
        "usage": usage, "metadata": null,
    })
}
