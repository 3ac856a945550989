//! The items of a Realtime conversation, as far as the sandbox needs them.
use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Items {
    next: u64,
    last: Option<String>,
    /// The last words of the person.
    pub(super) words: Option<String>,
    /// The result of a tool, until it is answered.
    pub(super) result: Option<String>,
    /// Ids of the calls of tools.
    calls: HashSet<String>,
    /// Answers so far.
    pub(super) answers: usize,
    /// How long the sound of each answer is, ms.
    lengths: HashMap<String, u64>,
}

impl Items {
    /// A new id.
    pub(super) fn id(&mut self) -> String {
        self.next += 1;
        format!("item_{:06}", self.next)
    }

    pub(super) fn last(&self) -> Option<String> {
        self.last.clone()
    }

    /// Adds an item to the end and returns the one before it.
    pub(super) fn follow(&mut self, id: &str) -> Option<String> {
        self.last.replace(id.to_owned())
    }

    pub(super) fn said_by_person(&mut self, words: String) {
        self.words = Some(words);
    }

    /// Takes an item of the client's.
    pub(super) fn take(&mut self, item: &Value) -> Result<(), String> {
        match item["type"].as_str() {
            Some("function_call") => self.called(item["call_id"].as_str().ok_or("`call_id` is missing")?),
            Some("function_call_output") => {
                let id = item["call_id"].as_str().unwrap_or_default();
                if !self.calls.contains(id) {
                    return Err(format!("Tool call ID '{id}' not found in conversation."));
                }
                self.result = Some(item["output"].as_str().ok_or("`output` is missing")?.to_owned());
            }
            Some("message") if item["role"] == "user" => {
                self.result = None;
                let parts = item["content"].as_array().ok_or("`content` is missing")?;
                self.words = Some(parts.iter().filter_map(|part| part["text"].as_str()).collect());
            }
            Some("message") => self.result = None,
            other => return Err(format!("an item of type {other:?} is not for a client to make")),
        }
        Ok(())
    }

    /// A tool is called by this id.
    pub(super) fn called(&mut self, id: &str) {
        self.calls.insert(id.to_owned());
    }

    /// Notes how long the sound of an answer has become.
    pub(super) fn lasts(&mut self, id: &str, ms: u64) {
        self.lengths.insert(id.to_owned(), ms);
    }

    pub(super) fn length_ms(&self, id: &str) -> Option<u64> {
        self.lengths.get(id).copied()
    }
}
