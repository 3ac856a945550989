//! The settings of a Realtime session, as `session.update` changes them.
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sim::clock::Stamp;

/// The most tokens of one answer.
const MOST_TOKENS: u64 = 4_096;
/// The voices that there are.
const VOICES: [&str; 10] = ["alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse"];

/// Turn detection on the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detection {
    pub(super) silence_ms: u64,
    pub(super) prefix_ms: u64,
    pub(super) responds: bool,
    pub(super) interrupts: bool,
}

/// What holds for a session.
#[derive(Debug)]
pub(super) struct Settings {
    shown: Value,
    /// None when the client says itself when a turn is over.
    pub(super) detection: Option<Detection>,
    pub(super) transcribes: bool,
    pub(super) tools: Vec<String>,
}

impl Settings {
    pub(super) fn new(model: String) -> Self {
        let mulaw = json!({"type": "audio/pcmu"});
        let vad = json!({
            "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500,
            "create_response": true, "interrupt_response": true, "idle_timeout_ms": null,
        });
        // A session ends after 60 minutes.
        let expires = Stamp::now().unix_ms() / 1000 + 3600;
        let shown = json!({
            "type": "realtime", "object": "realtime.session", "id": format!("sess_{}", Uuid::new_v4().simple()),
            "model": model, "output_modalities": ["audio"], "instructions": "", "tools": [], "tool_choice": "auto",
            "max_output_tokens": "inf", "expires_at": expires, "truncation": "auto", "tracing": null, "prompt": null,
            "audio": {
                "input": {"format": mulaw, "noise_reduction": null, "transcription": null, "turn_detection": vad},
                "output": {"format": mulaw, "voice": "marin", "speed": 1.0},
            },
        });
        let mut settings = Self { shown, detection: None, transcribes: false, tools: Vec::new() };
        settings.read();
        settings
    }

    pub(super) fn shown(&self) -> Value {
        self.shown.clone()
    }

    /// Takes over what is given, or says why not; then nothing changes.
    pub(super) fn update(&mut self, given: &Value) -> Result<(), String> {
        if given["type"] != "realtime" {
            return Err("session.type must be `realtime`".to_owned());
        }
        if given["output_modalities"].as_array().is_some_and(|modalities| modalities.len() != 1) {
            return Err("output_modalities is [\"audio\"] or [\"text\"]".to_owned());
        }
        if given["model"].as_str().is_some_and(|model| self.shown["model"] != model) {
            return Err("the model of a session cannot change".to_owned());
        }
        for side in ["input", "output"] {
            let format = &given["audio"][side]["format"]["type"];
            if format.as_str().is_some_and(|format| format != "audio/pcmu") {
                return Err(format!("the sandbox knows audio.{side}.format audio/pcmu only"));
            }
        }
        let most = &given["max_output_tokens"];
        if !(most.is_null() || most == "inf" || most.as_u64().is_some_and(|most| (1..=MOST_TOKENS).contains(&most))) {
            return Err(format!("max_output_tokens is 1 to {MOST_TOKENS}, or `inf`"));
        }
        if given["audio"]["output"]["voice"].as_str().is_some_and(|voice| !VOICES.contains(&voice)) {
            return Err(format!("audio.output.voice is one of {VOICES:?}"));
        }
        merge(&mut self.shown, given);
        self.read();
        Ok(())
    }

    fn read(&mut self) {
        let input = &self.shown["audio"]["input"];
        let vad = &input["turn_detection"];
        self.detection = vad.is_object().then(|| Detection {
            silence_ms: vad["silence_duration_ms"].as_u64().unwrap_or(500),
            prefix_ms: vad["prefix_padding_ms"].as_u64().unwrap_or(300),
            responds: vad["create_response"].as_bool().unwrap_or(true),
            interrupts: vad["interrupt_response"].as_bool().unwrap_or(true),
        });
        self.transcribes = input["transcription"].is_object();
        let tools = self.shown["tools"].as_array().into_iter().flatten();
        self.tools = tools.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect();
    }
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
