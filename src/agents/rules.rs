//! Which definitions fit, each fault with the pointer of its field. Pure.

use std::collections::HashSet;

use serde_json::Value;
use url::Url;

use crate::{
    agents::{
        Definition, PipelineKind, Tool, addresses,
        definition::Models,
        tools::{Field, outcome},
    },
    error::FieldError,
};

/// The most characters of a prompt, and of what it says.
pub const PROMPT_MAX: usize = 20_000;
/// The most characters of any other text of an agent.
pub const TEXT_MAX: usize = 4_000;
/// OpenAI, "Realtime API": `audio.output.voice` of a session.
const REALTIME_VOICES: [&str; 10] =
    ["alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse"];
/// The most tools of one agent.
pub const TOOLS_MAX: usize = 32;

/// Every field that does not fit, but for numbers that callers are put through to: what is right there is the business's. `private` allows tools at private addresses without TLS, for development.
#[must_use]
pub fn faults(agent: &Definition, private: bool) -> Vec<FieldError> {
    let mut wrong = Faults(Vec::new());
    wrong.text("/name", &agent.name, 200);
    wrong.text("/prompt", &agent.prompt, PROMPT_MAX);
    for (at, text) in agent.templates().skip(1) {
        wrong.text(&at, text, TEXT_MAX);
    }
    wrong.word("/language", &agent.language, "-");
    let models = &agent.models;
    for (at, name) in [
        ("/models/transcription", &models.transcription),
        ("/models/chat", &models.chat),
        ("/models/speech", &models.speech),
        ("/models/realtime", &models.realtime),
    ] {
        wrong.word(at, name, "-._:/");
    }
    if let Some(id) = &agent.voice.id {
        wrong.word("/voice/id", id, "-_");
    }
    wrong.range("/voice/speed", agent.voice.speed, 0.7, 1.2);
    wrong.range("/models/temperature", models.temperature.unwrap_or(1.0), 0.0, 2.0);
    let realtime = agent.pipeline == PipelineKind::Realtime;
    of_the_other_pipeline(models, realtime, &mut wrong);
    let most = if realtime { 4_096.0 } else { 16_384.0 };
    wrong.range("/models/max_tokens", f64::from(models.max_tokens.unwrap_or(1)), 1.0, most);
    // A session whose settings are refused talks with those of nobody.
    match &agent.voice.id {
        Some(id) if realtime && !REALTIME_VOICES.contains(&id.as_str()) => {
            let known = REALTIME_VOICES.join(", ");
            wrong.add("/voice/id", "unknown_voice", format!("The realtime pipeline speaks as one of {known}."));
        }
        Some(id) if !realtime && REALTIME_VOICES.contains(&id.as_str()) => {
            wrong.add("/voice/id", "unknown_voice", "Write the id of a voice at ElevenLabs; this is one of OpenAI's.");
        }
        _ => {}
    }
    let turns = &agent.turns;
    wrong.range("/turns/endpointing_ms", turns.endpointing_ms.into(), 50.0, 5_000.0);
    wrong.range("/turns/interrupt_after_ms", turns.interrupt_after_ms.into(), 60.0, 2_000.0);
    wrong.range("/turns/voice_threshold", turns.voice_threshold.into(), 0.1, 0.95);
    wrong.range("/turns/silence_secs", turns.silence_secs.into(), 1.0, 120.0);
    if turns.silence_prompts.len() > 5 {
        wrong.add("/turns/silence_prompts", "too_many", "At most 5 fit here.");
    }
    wrong.range("/limits/call_secs", agent.limits.call_secs.into(), 5.0, 14_400.0);
    wrong.range("/limits/turns", agent.limits.turns.into(), 1.0, 1_000.0);
    wrong.range("/limits/answer_ms", agent.limits.answer_ms.into(), 500.0, 30_000.0);
    tools(&agent.tools, private, &mut wrong);
    wrong.0
}

/// What is set for a pipeline that the agent does not have would be without effect.
fn of_the_other_pipeline(models: &Models, realtime: bool, wrong: &mut Faults) {
    let default = Models::default();
    let names = |read: fn(&Models) -> &String| (read(models) != read(&default), read(&default).as_str());
    for (at, (is_set, default), is_of) in [
        ("/models/temperature", (models.temperature.is_some(), "null"), PipelineKind::Cascade),
        ("/models/transcription", names(|models| &models.transcription), PipelineKind::Cascade),
        ("/models/chat", names(|models| &models.chat), PipelineKind::Cascade),
        ("/models/speech", names(|models| &models.speech), PipelineKind::Cascade),
        ("/models/realtime", names(|models| &models.realtime), PipelineKind::Realtime),
    ] {
        if is_set && (is_of == PipelineKind::Realtime) != realtime {
            let is_of = is_of.as_str();
            let detail = format!("Only the pipeline {is_of} takes this. Set it to {default}, which it is by default.");
            wrong.add(at, "not_available", detail);
        }
    }
}

struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, at: &str, code: &'static str, detail: impl Into<String>) {
        self.0.push(FieldError::new(at, code, detail));
    }

    fn text(&mut self, at: &str, text: &str, most: usize) {
        if text.trim().is_empty() {
            self.add(at, "empty", "Write something here, or leave it out.");
        } else if text.chars().count() > most {
            self.add(at, "too_long", format!("At most {most} characters fit here."));
        }
    }

    fn word(&mut self, at: &str, text: &str, extra: &str) {
        let fits =
            (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
        if !fits {
            self.add(at, "invalid_name", format!("Write 1 to 100 letters, digits or characters of {extra}"));
        }
    }

    fn range(&mut self, at: &str, value: f64, least: f64, most: f64) {
        if !(least..=most).contains(&value) {
            self.add(at, "out_of_range", format!("Write a number from {least} to {most}."));
        }
    }
}

fn tools(tools: &[Tool], private: bool, wrong: &mut Faults) {
    if tools.len() > TOOLS_MAX {
        wrong.add("/tools", "too_many", format!("At most {TOOLS_MAX} fit here."));
    }
    let mut names = HashSet::new();
    for (i, tool) in tools.iter().enumerate() {
        let at = format!("/tools/{i}");
        if !names.insert(tool.name()) {
            wrong.add(&at, "duplicate", format!("There is a tool of the name {} already.", tool.name()));
        }
        match tool {
            Tool::RecordOutcome { fields } => self::fields(&at, fields, wrong),
            Tool::Http { name, description, url, parameters, time_limit_ms } => {
                if name.len() > 64 || !is_name(name, "_-") {
                    wrong.add(&format!("{at}/name"), "invalid_name", "Write letters, digits, _ and -, at most 64.");
                }
                wrong.text(&format!("{at}/description"), description, 1_000);
                if let Err(detail) = tool_url(url, private) {
                    wrong.add(&format!("{at}/url"), "invalid_url", detail);
                }
                let object = parameters.get("type").and_then(Value::as_str) == Some("object");
                if !object || parameters.to_string().len() > 8_000 {
                    let detail = "Write a JSON schema of type object, at most 8,000 bytes.";
                    wrong.add(&format!("{at}/parameters"), "invalid_schema", detail);
                }
                wrong.range(&format!("{at}/time_limit_ms"), (*time_limit_ms).into(), 100.0, 20_000.0);
            }
            _ => {}
        }
    }
}

fn fields(at: &str, fields: &[Field], wrong: &mut Faults) {
    if !(1..=20).contains(&fields.len()) {
        wrong.add(&format!("{at}/fields"), "invalid_length", "Write 1 to 20 fields.");
    }
    let mut names = HashSet::new();
    for (i, field) in fields.iter().enumerate() {
        if field.name.len() > 64 || !is_name(&field.name, "_") || !names.insert(&field.name) {
            let detail = "Write letters, digits and _, at most 64, each name once.";
            wrong.add(&format!("{at}/fields/{i}/name"), "invalid_name", detail);
        }
    }
    // Reading nothing must say what is missing, never panic.
    debug_assert!(outcome(fields, &serde_json::Map::new()).is_ok() || fields.iter().any(|field| field.required));
}

fn is_name(text: &str, extra: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// The address of a tool: https without user and fragment. Where its name leads is judged at each call.
///
/// # Errors
/// A sentence that says what to write.
pub fn tool_url(text: &str, private: bool) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("This is no URL: {error}."))?;
    let scheme = url.scheme() == "https" || (private && url.scheme() == "http");
    if !scheme || url.host_str().is_none() {
        return Err("Write an https address with a host.".to_owned());
    }
    if !private && !addresses::may_be_public(&url) {
        return Err("Write a public address: this one is inside of a network.".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() || text.len() > 2_000 {
        return Err("Leave out user, password and fragment; at most 2,000 characters fit.".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Vec<(String, String)> {
        let agent: Definition = serde_json::from_value(value).unwrap();
        faults(&agent, false).into_iter().map(|fault| (fault.pointer, fault.code.into_owned())).collect()
    }

    #[test]
    fn each_fault_has_its_own_pointer() {
        assert_eq!(of(json!({"name": "A", "prompt": "Be kind."})), []);
        let bad = of(json!({"name": " ", "prompt": "x", "language": "", "voice": {"speed": 3.0},
            "turns": {"endpointing_ms": 1, "silence_prompts": ["a", " "]},
            "tools": [{"type": "transfer", "to": "911"}, {"type": "end_call"}, {"type": "end_call"},
                      {"type": "http", "name": "a b", "description": "d", "url": "http://10.0.0.1/x"},
                      {"type": "record_outcome", "fields": []}]}));
        let pointers: Vec<&str> = bad.iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/name",
                "/turns/silence_prompts/1",
                "/language",
                "/voice/speed",
                "/turns/endpointing_ms",
                "/tools/2",
                "/tools/3/name",
                "/tools/3/url",
                "/tools/4/fields"
            ]
        );
    }

    #[test]
    fn voices_and_lengths_of_answers_are_those_of_the_pipeline() {
        let agent = |pipeline: &str, voice: &str, most: u32| {
            of(json!({"name": "A", "prompt": "x", "pipeline": pipeline, "voice": {"id": voice}, "models": {"max_tokens": most}}))
                .into_iter()
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        assert_eq!(agent("realtime", "marin", 4_096), [] as [&str; 0]);
        assert_eq!(agent("realtime", "21m00Tcm4TlvDq8ikWAM", 4_097), ["/models/max_tokens", "/voice/id"]);
        assert_eq!(agent("cascade", "21m00Tcm4TlvDq8ikWAM", 16_384), [] as [&str; 0]);
        assert_eq!(agent("cascade", "marin", 16_385), ["/models/max_tokens", "/voice/id"]);
    }

    #[test]
    fn only_public_looking_https_addresses_are_tools() {
        for bad in ["http://a.example/", "https://u@a.example/", "https://a.example/#x", "ftp://a", "x"] {
            assert!(tool_url(bad, false).is_err(), "{bad}");
        }
        for bad in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest",
            "https://localhost/",
            "https://LOCALHOST.:8443/",
            "https://db.localhost/",
        ] {
            assert!(tool_url(bad, false).is_err(), "{bad}");
        }
        assert!(tool_url("https://a.example/x?y=1", false).is_ok());
        assert!(tool_url("https://1.1.1.1/", false).is_ok());
        assert!(tool_url("http://127.0.0.1:1/", true).is_ok());
    }
}
