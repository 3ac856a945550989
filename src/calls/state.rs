//! A live call as JSON, version 1: whoever reads it can go on with the conversation.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::ids::{AgentId, AttemptId, BusinessId, Carrier, JobId, RunId};

/// The version of this shape. A reader of a later version reads it too; unknown fields are kept out of the way, not refused.
pub const VERSION: u32 = 1;
/// Most bytes of what was said that are kept: the beginning goes first.
pub const MOST_SAID: usize = 64 * 1024;

/// A live call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallState {
    /// [`VERSION`].
    pub v: u32,
    /// Whose call.
    pub business: BusinessId,
    /// Which attempt of the ledger.
    pub attempt: AttemptId,
    /// Its run; none for a single call and one that came in.
    pub run: Option<RunId>,
    /// Its job.
    pub job: Option<JobId>,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// Through whom; none for a session without a carrier.
    pub carrier: Option<Carrier>,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call.
    pub call_id: String,
    /// Caller, E.164.
    pub from: String,
    /// Callee, E.164.
    pub to: String,
    /// What answered, in the carrier's word.
    pub answered_by: Option<String>,
    /// What is to be done when that is, or turns out to be, a machine: `leave_message` or `continue`; none where nobody listens.
    #[serde(default)]
    pub on_machine: Option<String>,
    /// The callee's variables.
    pub variables: Map<String, Value>,
    /// Which agent talks.
    pub agent: AgentId,
    /// In which version.
    pub agent_version: i32,
    /// The agent, its texts with the variables in them: the same for as long as the call lasts, however often it is written.
    #[serde(serialize_with = "written", deserialize_with = "shared")]
    pub definition: Arc<Value>,
    /// Seconds that the call may last, by the carrier.
    pub call_time_limit_secs: i32,
    /// How far the conversation is.
    pub phase: Phase,
    /// Why it is over, in the word that is kept with the attempt; none while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// What has happened in it so far.
    pub memory: Memory,
}

fn written<S: Serializer>(value: &Arc<Value>, to: S) -> Result<S::Ok, S::Error> {
    value.serialize(to)
}

fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Value>, D::Error> {
    Value::deserialize(from).map(Arc::new)
}

/// How far a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Answered; no session has it yet.
    Answered,
    /// A session has it.
    Live,
    /// Over; nothing may speak to this call again.
    Ended,
}

/// What has happened in a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What was said and heard, oldest first.
    pub said: Vec<Spoken>,
    /// Answers of the agent so far.
    pub turns: u32,
    /// Silence prompts that were said since the caller last spoke.
    pub prompts: u32,
    /// What came out of the call.
    pub outcome: Map<String, Value>,
    /// Per turn of the agent: what its beginning was made of.
    pub latencies: Vec<Value>,
    /// What was used at the providers, by name.
    pub usage: Map<String, Value>,
    /// When the first session began, ms since 1970 by Redis' clock; 0 before.
    pub started_at_ms: u64,
    /// Sessions that had this call.
    pub sessions: u32,
    /// Times that the caller broke in.
    pub interruptions: u32,
    /// The message for machines was heard to its end.
    pub left: bool,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The agent, as far as it was heard.
    Agent,
    /// The caller.
    Caller,
    /// A tool was used.
    Tool,
}

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spoken {
    /// By whom.
    pub who: Who,
    /// What.
    pub text: String,
    /// When it ended, ms since the first session began.
    pub at_ms: u64,
    /// True where the caller broke in before its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The model's own record of a tool: its call and its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Value>,
}

impl Memory {
    /// Adds what was said; what is too much goes from the beginning.
    pub fn add(&mut self, spoken: Spoken) {
        self.said.push(spoken);
        let size = |one: &Spoken| one.text.len() + one.tool.as_ref().map_or(0, |tool| tool.to_string().len());
        let mut all: usize = self.said.iter().map(size).sum();
        let mut gone = 0;
        while all > MOST_SAID && gone + 1 < self.said.len() {
            all -= size(&self.said[gone]);
            gone += 1;
        }
        self.said.drain(..gone);
    }

    /// Adds to what was used at a provider.
    pub fn used(&mut self, what: &str, amount: f64) {
        let before = self.usage.get(what).and_then(Value::as_f64).unwrap_or(0.0);
        self.usage.insert(what.to_owned(), (before + amount).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_goes_from_the_beginning() {
        let mut memory = Memory::default();
        for i in 0..40 {
            let text = format!("{i} {}", "x".repeat(4_000));
            memory.add(Spoken { who: Who::Caller, text, at_ms: i, cut: false, tool: None });
        }
        assert!(memory.said.len() < 20 && memory.said.last().unwrap().at_ms == 39);
        memory.add(Spoken { who: Who::Agent, text: "y".repeat(MOST_SAID * 2), at_ms: 40, cut: true, tool: None });
        assert_eq!(memory.said.len(), 1, "the last one stays, whatever its size");
    }
}
