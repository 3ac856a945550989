//! A chat model that streams its answer (OpenAI chat completions, and what speaks the same).
//!
//! Source: OpenAI, "Chat", streaming. Server-sent events may be cut anywhere and end in `\n` or `\r\n`; a tool call comes in pieces
//! that belong together by their `index`. Whoever drops the task cancels the answer.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    pin::pin,
    time::{Duration, Instant},
};

use eventsource_stream::Eventsource;
use futures::{FutureExt, StreamExt};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    agents::{Definition, Tool},
    calls::{Memory, Who},
    carriers::http::retry_after,
    ids::AttemptId,
    models::{Login, Permits, Provider},
    voice::{
        elevenlabs::Order,
        event_lines::lines,
        link::short,
        now::Now,
        pipeline::{Ears, Event},
        sentences::Sentences,
    },
};

/// Before a busy model is asked once more, where it does not say when.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Most characters of one answer: nobody listens longer.
const MOST_TEXT: usize = 20_000;

/// One answer that is asked for.
pub(super) struct Ask {
    pub(super) turn: u32,
    pub(super) body: Value,
    pub(super) limit: Duration,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    /// Some servers say in the middle of a stream that it has failed.
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    /// Said once, with or behind the last of it.
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    /// Said instead of an answer, in words that are meant to be heard.
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Piece>>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: f64,
    #[serde(default)]
    completion_tokens: f64,
}

/// The body of a request: the agent's prompt with the time, what was said, and its tools. `so_far` was said in the turn whose tools
/// came last.
pub(super) fn body((agent, now): (&Definition, &Now), memory: &Memory, so_far: &str) -> Value {
    let mut messages = vec![json!({"role": "system", "content": now.added_to(&agent.prompt)})];
    let first_of_turn = memory.said.iter().rposition(|spoken| spoken.who != Who::Tool).map_or(0, |last| last + 1);
    for (at, spoken) in memory.said.iter().enumerate() {
        match (spoken.who, &spoken.tool) {
            (Who::Caller, _) => messages.push(json!({"role": "user", "content": spoken.text})),
            (Who::Agent, _) => messages.push(json!({"role": "assistant", "content": spoken.text})),
            (Who::Tool, Some(tool)) => {
                let said = (at == first_of_turn && !so_far.is_empty()).then_some(so_far);
                messages.push(json!({"role": "assistant", "content": said, "tool_calls": [{"id": tool["id"],
                    "type": "function", "function": {"name": tool["name"], "arguments": tool["arguments"]}}]}));
                let output = tool["output"].to_string();
                messages.push(json!({"role": "tool", "tool_call_id": tool["id"], "content": output}));
            }
            (Who::Tool, None) => {}
        }
    }
    let mut body = json!({"model": agent.models.chat, "messages": messages, "stream": true,
        "stream_options": {"include_usage": true}});
    if !agent.tools.is_empty() {
        body["tools"] = agent.tools.iter().map(described).collect();
    }
    if let Some(temperature) = agent.models.temperature {
        body["temperature"] = temperature.into();
    }
    if let Some(most) = agent.models.max_tokens {
        body["max_completion_tokens"] = most.into();
    }
    body
}

fn described(tool: &Tool) -> Value {
    let (name, description, parameters) = tool.told();
    json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
}

/// Where the words of an answer go: to the speech in whole sentences, and to the session as they are ordered.
pub(super) struct Mouth {
    turn: u32,
    sentences: Sentences,
    /// Bytes of the answer so far.
    length: usize,
    events: mpsc::Sender<Event>,
    texts: mpsc::Sender<Order>,
}

impl Mouth {
    pub(super) fn new(turn: u32, events: mpsc::Sender<Event>, texts: mpsc::Sender<Order>) -> Self {
        Self { turn, sentences: Sentences::default(), length: 0, events, texts }
    }

    async fn add(&mut self, words: &str) {
        self.length += words.len();
        if let Some(piece) = self.sentences.add(words) {
            self.speak(piece).await;
        }
    }

    async fn rest(&mut self) {
        if let Some(piece) = self.sentences.rest() {
            self.speak(piece).await;
        }
    }

    /// In this order: what is spoken is known before it can be heard. Nobody takes it where the session has ended.
    async fn speak(&self, text: String) {
        let _ = self.events.send(Event::Text { turn: self.turn, text: text.clone() }).await;
        let _ = self.texts.send(Order::Speak { turn: self.turn, text }).await;
    }
}

/// Asks, and gives the words to `mouth` as they come; everything else is told.
pub(super) async fn answer(
    http: &reqwest::Client,
    (login, permits, call): (&Login, &Permits, AttemptId),
    ask: Ask,
    ears: &Ears,
    mut mouth: Mouth,
) {
    let mut outcome = guarded(call, streamed(http, (login, permits, call), &ask, ears, &mut mouth)).await;
    if mouth.length == 0
        && let Err(Failure { again: true, why }) = &outcome
    {
        tracing::warn!(attempt.id = %call, why, "an answer without a word is asked for once more");
        outcome = guarded(call, streamed(http, (login, permits, call), &ask, ears, &mut mouth)).await;
    }
    mouth.rest().await;
    let event = match outcome {
        Ok(tools) => Event::Answered { turn: ask.turn, tools },
        // What broke off behind its first words ends there.
        Err(_) if mouth.length > 0 => Event::Answered { turn: ask.turn, tools: false },
        Err(Failure { why, .. }) => Event::Failed { provider: Provider::Openai, why: short(Provider::Openai, &why) },
    };
    // Nobody hears it where the session has ended.
    let _ = ears.events.send(event).await;
}

/// A panic is a failure at once, like any other: somebody waits for the answer.
async fn guarded(call: AttemptId, answer: impl Future<Output = Result<bool, Failure>>) -> Result<bool, Failure> {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(attempt.id = %call, "the reading of an answer panicked");
        Err(Failure { why: "the reading of the answer panicked".to_owned(), again: true })
    })
}

async fn streamed(
    http: &reqwest::Client,
    (login, permits, call): (&Login, &Permits, AttemptId),
    ask: &Ask,
    ears: &Ears,
    mouth: &mut Mouth,
) -> Result<bool, Failure> {
    // Others hold theirs for the time of an answer: one comes free before this one is too late.
    let permit = permits.take_within(login, call, ask.limit).await;
    let permit = permit.map_err(|full| Failure::final_one(full.to_string()))?;
    let begin = Instant::now();
    let response = match ask_twice(http, login, ask).await {
        Ok(response) => response,
        Err(why) => {
            permit.failed();
            return Err(Failure::final_one(why));
        }
    };
    let mut events = pin!(lines(response.bytes_stream()).eventsource());
    let mut calls: BTreeMap<usize, (String, String, String)> = BTreeMap::new();
    let mut finished: Option<String> = None;
    let broken = |why: &str, again| {
        permit.failed();
        Err(Failure { why: why.to_owned(), again })
    };
    loop {
        let event = match tokio::time::timeout(ask.limit, events.next()).await {
            Err(_) => return broken("it stalls", false),
            // Not every server says [DONE] behind the end.
            Ok(None) if finished.is_some() => break,
            Ok(None) => return broken("the answer broke off", true),
            Ok(Some(Err(error))) => return broken(&error.to_string(), true),
            Ok(Some(Ok(event))) => event,
        };
        if event.data == "[DONE]" {
            break;
        }
        // What cannot be read, or is of a kind that is not known, is nothing.
        let Ok(chunk) = serde_json::from_str::<Chunk>(&event.data) else { continue };
        if let Some(error) = chunk.error {
            return broken(&format!("it says: {error}"), true);
        }
        if let Some(usage) = chunk.usage {
            for (what, amount) in
                [("chat_input_tokens", usage.prompt_tokens), ("chat_output_tokens", usage.completion_tokens)]
            {
                let _ = ears.events.send(Event::Used { what, amount }).await;
            }
        }
        for Choice { delta, finish_reason } in chunk.choices {
            finished = finish_reason.or(finished);
            if let Some(text) = delta.content.or(delta.refusal).filter(|text| !text.is_empty()) {
                if mouth.length == 0 {
                    permit.answered(begin.elapsed());
                    let _ = ears.events.send(Event::FirstWord { turn: ask.turn }).await;
                }
                mouth.add(&text).await;
                if mouth.length > MOST_TEXT {
                    return Ok(false);
                }
            }
            for piece in delta.tool_calls.into_iter().flatten() {
                let call = calls.entry(piece.index).or_default();
                call.0 = piece.id.unwrap_or(std::mem::take(&mut call.0));
                if let Some(function) = piece.function {
                    call.1.push_str(function.name.as_deref().unwrap_or_default());
                    call.2.push_str(function.arguments.as_deref().unwrap_or_default());
                }
            }
        }
    }
    if mouth.length == 0 && calls.is_empty() && finished.as_deref() == Some("content_filter") {
        return broken("its filter holds the answer back", true);
    }
    // Before the tools: one of them may say that this is all.
    mouth.rest().await;
    let tools = !calls.is_empty();
    for (id, name, arguments) in calls.into_values() {
        let _ = ears.events.send(Event::Called { turn: ask.turn, id, name, arguments }).await;
    }
    Ok(tools)
}

/// Why there is no answer, and whether asking once more may bring one.
struct Failure {
    why: String,
    again: bool,
}

impl Failure {
    fn final_one(why: String) -> Self {
        Self { why, again: false }
    }
}

/// Asks once more where the provider is busy or away: nothing was said yet.
async fn ask_twice(http: &reqwest::Client, login: &Login, ask: &Ask) -> Result<reqwest::Response, String> {
    let (begin, mut again) = (Instant::now(), true);
    loop {
        let mut pause = AGAIN_AFTER;
        let url = format!("{}/chat/completions", login.base_url.as_str().trim_end_matches('/'));
        let request = http.post(url).bearer_auth(login.key.expose_secret()).json(&ask.body);
        let why = match tokio::time::timeout(ask.limit, request.send()).await {
            Ok(Ok(response)) if response.status().is_success() => return Ok(response),
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                let why = format!("the request was answered with HTTP {status}");
                if status < 500 && status != 429 && status != 408 {
                    return Err(why);
                }
                // Whoever asks for more time than the answer has is asked all the same: there is nothing to lose.
                let asked = retry_after(response.headers()).filter(|asked| begin.elapsed() + *asked < ask.limit);
                pause = asked.unwrap_or_default().max(AGAIN_AFTER);
                why
            }
            Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error.without_url())),
            Err(_) => return Err("the request was not answered".to_owned()),
        };
        if !std::mem::take(&mut again) {
            return Err(why);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Spoken;

    #[test]
    fn a_request_holds_what_was_said_and_what_tools_came_to() {
        let agent: Definition =
            serde_json::from_value(json!({"name": "A", "prompt": "Be kind.", "tools": [{"type": "end_call"}]}))
                .unwrap();
        let mut memory = Memory::default();
        let spoken = |who, text: &str, tool| Spoken { who, text: text.into(), at_ms: 0, cut: false, tool };
        memory.add(spoken(Who::Agent, "Hello", None));
        memory.add(spoken(Who::Caller, "Bye", None));
        let tool = json!({"id": "c1", "name": "end_call", "arguments": "{}", "output": {"ok": true}});
        memory.add(spoken(Who::Tool, "end_call", Some(tool)));
        let body = body((&agent, &Now::at("2026-11-23T21:05:00Z", "America/Boise", &agent)), &memory, "One moment.");
        let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "assistant", "user", "assistant", "tool"]);
        assert_eq!(body["messages"][3]["content"], "One moment.", "what was said before its tools stands before them");
        assert_eq!(body["messages"][4]["content"], r#"{"ok":true}"#);
        assert_eq!(body["tools"][0]["function"]["name"], "end_call");
        assert!(body.get("temperature").is_none());
        assert_eq!(body["messages"][0]["content"], "Be kind.", "who agrees on no time needs none");
    }

    #[test]
    fn who_agrees_on_times_is_told_what_time_it_is_where_the_callee_is() {
        let agent = json!({"name": "A", "prompt": "Be kind.", "tools": [{"type": "agree_time"}]});
        let agent: Definition = serde_json::from_value(agent).unwrap();
        let now = Now::at("2026-11-23T21:05:00Z", "America/Boise", &agent);
        let body = body((&agent, &now), &Memory::default(), "");
        let told = body["messages"][0]["content"].as_str().unwrap();
        assert!(
            told.starts_with("Be kind.\n\nIt is now Monday, 23 November 2026, 14:05 (America/Boise, -07:00)"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn an_answer_whose_reading_panics_has_failed_and_may_be_asked_for_again() {
        let answer = guarded(AttemptId::new(), async { panic!("on purpose") }).await;
        assert!(matches!(answer, Err(Failure { again: true, .. })));
        assert!(matches!(guarded(AttemptId::new(), async { Ok(true) }).await, Ok(true)));
    }
}
