//! What was said in a conversation and which tools were used, for the next connection: the model that answers there knows of nothing.
//!
//! Invariant: each thing stands where it was said. The caller's words come whenever they are written down, often after the answer to
//! them; what a tool came to stands behind its call, whenever it comes, and never without it.

use std::{collections::VecDeque, time::Instant};

use serde_json::{Value, json};

use crate::calls::{self, Memory, Who};

/// One thing that was said.
struct Spoken {
    role: &'static str,
    text: String,
    turn: Option<u32>,
    /// The provider's name of what the caller said, until its words have come.
    item: Option<String>,
    /// The model used this in place of words.
    tool: Option<Used>,
}

/// A tool that was used: as long as it is at work it has no output.
struct Used {
    id: String,
    name: String,
    arguments: String,
    output: Option<String>,
}

impl Spoken {
    fn new(role: &'static str, text: String, turn: Option<u32>) -> Self {
        Self { role, text, turn, item: None, tool: None }
    }

    fn used(tool: Used) -> Self {
        Self { tool: Some(tool), ..Self::new("assistant", String::new(), None) }
    }

    /// As it was said in an earlier session.
    fn before(spoken: &calls::Spoken) -> Option<Self> {
        match spoken.who {
            Who::Agent => Some(Self::new("assistant", spoken.text.clone(), None)),
            Who::Caller => Some(Self::new("user", spoken.text.clone(), None)),
            Who::Tool => {
                let tool = spoken.tool.as_ref()?;
                let text = |name: &str| tool[name].as_str().map(str::to_owned);
                let output = Some(tool["output"].to_string());
                Some(Self::used(Used { id: text("id")?, name: text("name")?, arguments: text("arguments")?, output }))
            }
        }
    }

    /// As the model is told of it.
    fn items(&self) -> Vec<Value> {
        match &self.tool {
            Some(Used { id, name, arguments, output: came }) => {
                let call = json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments});
                [call].into_iter().chain(came.as_ref().map(|came| output(id, came))).collect()
            }
            None if self.text.is_empty() => Vec::new(),
            None => vec![message(self.role, &self.text)],
        }
    }
}

/// Words, as an item of the model's.
pub(super) fn message(role: &str, text: &str) -> Value {
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})
}

/// What a tool came to, as an item of the model's.
pub(super) fn output(id: &str, output: &str) -> Value {
    json!({"type": "function_call_output", "call_id": id, "output": output})
}

/// All that was said, oldest first.
pub(super) struct Said {
    all: Vec<Spoken>,
    /// What the caller said whose words have not come, and when it was over.
    unwritten: VecDeque<(String, Instant)>,
}

impl Said {
    /// What was said before this session.
    pub(super) fn new(before: &Memory) -> Self {
        Self { all: before.said.iter().filter_map(Spoken::before).collect(), unwritten: VecDeque::new() }
    }

    /// The model uses a tool.
    pub(super) fn by_tool(&mut self, id: &str, name: &str, arguments: &str) {
        let [id, name, arguments] = [id, name, arguments].map(str::to_owned);
        self.all.push(Spoken::used(Used { id, name, arguments, output: None }));
    }

    /// A tool came to this; false where nobody knows that it was used.
    pub(super) fn came_to(&mut self, id: &str, output: &str) -> bool {
        let tool = self.all.iter_mut().filter_map(|spoken| spoken.tool.as_mut()).rfind(|tool| tool.id == id);
        tool.map(|tool| tool.output = Some(output.to_owned())).is_some()
    }

    /// The caller has said something, which is called so. Its words are still to come.
    pub(super) fn by_caller(&mut self, item: String) {
        self.all.push(Spoken { item: Some(item.clone()), ..Spoken::new("user", String::new(), None) });
        self.unwritten.push_back((item, Instant::now()));
    }

    /// The words of the caller; when they were said.
    pub(super) fn written(&mut self, item: Option<&str>, text: &str) -> Instant {
        let place = self.unwritten.iter().position(|(unwritten, _)| Some(unwritten.as_str()) == item);
        let spoken = place.and_then(|place| self.unwritten.remove(place));
        match self.all.iter_mut().find(|spoken| spoken.item.is_some() && spoken.item.as_deref() == item) {
            Some(spoken) => (spoken.text, spoken.item) = (text.to_owned(), None),
            None => self.in_words(text.to_owned()),
        }
        spoken.map_or_else(Instant::now, |(_, at)| at)
    }

    /// The caller said this in another way than by voice.
    pub(super) fn in_words(&mut self, text: String) {
        self.all.push(Spoken::new("user", text, None));
    }

    /// The agent said this, in one of its turns.
    pub(super) fn by_agent(&mut self, text: String, turn: u32) {
        self.all.push(Spoken::new("assistant", text, Some(turn)));
    }

    /// Of this turn no more than this was heard.
    pub(super) fn cut(&mut self, turn: u32, heard: String) {
        let at = self.all.iter().position(|spoken| spoken.turn == Some(turn)).unwrap_or(self.all.len());
        self.all.retain(|spoken| spoken.turn != Some(turn));
        if !heard.is_empty() {
            self.all.insert(at, Spoken::new("assistant", heard, Some(turn)));
        }
    }

    /// The connection is lost, and words that have not come will not come.
    pub(super) fn lost(&mut self) {
        self.unwritten.clear();
        self.all.retain(|spoken| spoken.item.is_none());
    }

    /// All of it, as the model is told.
    pub(super) fn items(&self) -> impl Iterator<Item = Value> {
        self.all.iter().flat_map(Spoken::items)
    }
}
