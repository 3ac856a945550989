//! What to say, decided by rules in place of a model.
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A rule: what is answered to what. The first one that fits is taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// The last words of the person contain this, in any case; without it, any words do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hears: Option<String>,
    /// Only this answer of the conversation, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
    /// What to say: `{words}` is what the person said, `{turn}` the number of the answer.
    pub says: String,
    /// A tool to call after it, if the agent has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Call>,
    /// More tools to call in the same answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Call>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Value,
}

/// What has been said so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The last words of the person; none before the first.
    pub(super) words: Option<&'a str>,
    /// The result of a tool, where that is the last thing that came.
    pub(super) result: Option<&'a str>,
    /// Answers so far.
    pub(super) answers: usize,
    /// Names of the tools at hand.
    pub(super) tools: &'a [String],
}

/// What is said, and which tool is called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) says: String,
    pub(super) calls: Vec<Call>,
}

/// Decides. Where no rule fits: a greeting first, then what was heard, said back; after "goodbye" a tool that ends the
/// call is called, if there is one.
pub(super) fn answer(rules: &[Answer], question: &Question<'_>) -> Reply {
    if let Some(result) = question.result {
        return Reply { says: format!("It is done: {result}."), calls: Vec::new() };
    }
    let words = question.words.unwrap_or_default();
    let lower = words.to_lowercase();
    let fits = |rule: &&Answer| {
        rule.hears.as_ref().is_none_or(|hears| lower.contains(&hears.to_lowercase()))
            && rule.turn.is_none_or(|turn| turn == question.answers + 1)
    };
    let has = |call: &Call| question.tools.contains(&call.name);
    if let Some(rule) = rules.iter().find(fits) {
        let turn = (question.answers + 1).to_string();
        let calls = rule.calls.iter().chain(&rule.also).filter(|call| has(call)).cloned().collect();
        let says = rule.says.replace("{words}", words).replace("{turn}", &turn);
        return Reply { says, calls };
    }
    if question.words.is_none() {
        return Reply { says: "Hello, how can I help you?".to_owned(), calls: Vec::new() };
    }
    let end = question.tools.iter().find(|name| name.contains("end_call") || name.contains("hang_up"));
    let calls = end.filter(|_| lower.contains("goodbye"));
    let calls = calls.map(|name| Call { name: name.clone(), arguments: Value::Object(serde_json::Map::new()) });
    let calls = calls.into_iter().collect();
    Reply { says: format!("I heard: {words}"), calls }
}
