//! A live call as JSON, version 1: whoever reads it can go on with the conversation.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use crate::ids::{AgentId, AttemptId, BusinessId, Carrier, JobId, RunId};

/// The version of this shape. A reader of a later version reads it too; unknown fields are kept out of the way, not refused.
pub const VERSION: u32 = 1;
/// Most bytes of what was said that are kept: the answers of tools are shortened first, and then the beginning goes.
pub const MOST_SAID: usize = 64 * 1024;
/// Characters that are left of a tool's answer then.
const SHORTENED: usize = 1_000;

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
    /// Time zones that whoever is talked to may be in, by their IANA names; none where nothing is known.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Which agent talks.
    pub agent: AgentId,
    /// In which version.
    pub agent_version: i32,
    /// The agent, its texts with the variables in them: the same for as long as the call lasts, however often it is written.
    pub definition: Text,
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

/// JSON as its text: a tree of the same takes three times the room, and as long as a call lasts it is mostly handed on.
#[derive(Debug, Clone)]
pub struct Text(Arc<RawValue>);

impl Text {
    /// The text of this.
    ///
    /// # Errors
    /// Where it cannot be said in JSON.
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(value).map(|text| Self(text.into()))
    }

    /// What it says.
    ///
    /// # Errors
    /// Where it says something else.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.0.get())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(from).map(|text| Self(text.into()))
    }
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
    /// How much of `said` has gone from its beginning.
    pub gone: u32,
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

impl Spoken {
    fn size(&self) -> usize {
        self.text.len() + self.tool.as_ref().map_or(0, |tool| tool.to_string().len())
    }

    /// Shortens what a tool has answered; the bytes that are gained by that.
    fn shorten(&mut self) -> usize {
        let before = self.size();
        let Some(output) = self.tool.as_mut().and_then(|tool| tool.get_mut("output")) else { return 0 };
        let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
        if let Some((end, _)) = text.char_indices().nth(SHORTENED) {
            *output = format!("{} (shortened)", &text[..end]).into();
        }
        before.saturating_sub(self.size())
    }
}

/// What stands for the answer of a tool that is at work while the conversation goes on: its model must not ask for the same again.
pub const AT_WORK: &str = "This was asked for and may be done; what it came to is not known yet.";

fn is_at_work(noted: &Value, tool: &Value) -> bool {
    noted["id"] == tool["id"] && noted["output"]["status"] == AT_WORK
}

impl Memory {
    /// True where this tool is noted as at work.
    #[must_use]
    pub fn is_at_work(&self, tool: &Value) -> bool {
        self.said.iter().filter_map(|spoken| spoken.tool.as_ref()).any(|noted| is_at_work(noted, tool))
    }

    /// Fills in what a tool came to that is noted as at work; false where it is not.
    pub fn comes_to(&mut self, tool: &Value) -> bool {
        let mut all = self.said.iter_mut().filter_map(|spoken| spoken.tool.as_mut());
        let Some(noted) = all.find(|noted| is_at_work(noted, tool)) else { return false };
        noted["output"] = tool["output"].clone();
        true
    }

    /// Adds what was said. Where it is too much, earlier answers of tools are shortened, the oldest first, before anything that was
    /// said goes from the beginning.
    pub fn add(&mut self, spoken: Spoken) {
        self.said.push(spoken);
        self.fit();
    }

    /// Adds what is known late where it was said, before what ended after it.
    pub fn add_late(&mut self, spoken: Spoken) {
        let place = self.said.iter().rposition(|said| said.at_ms <= spoken.at_ms).map_or(0, |before| before + 1);
        self.said.insert(place, spoken);
        self.fit();
    }

    fn fit(&mut self) {
        let mut all: usize = self.said.iter().map(Spoken::size).sum();
        let last = self.said.len() - 1;
        for one in &mut self.said[..last] {
            if all <= MOST_SAID {
                return;
            }
            all -= one.shorten();
        }
        let mut gone = 0;
        while all > MOST_SAID && gone < last {
            all -= self.said[gone].size();
            gone += 1;
        }
        self.said.drain(..gone);
        self.gone = self.gone.saturating_add(u32::try_from(gone).unwrap_or(u32::MAX));
    }

    /// What was said as it is kept with the attempt: a first line says where a beginning is missing.
    #[must_use]
    pub fn transcript(&self) -> Vec<Value> {
        let missing = (self.gone > 0).then(|| {
            let text = format!("{} lines before this one are not kept: the conversation was too long.", self.gone);
            json!({"who": "note", "text": text, "at_ms": 0})
        });
        missing.into_iter().chain(self.said.iter().map(|spoken| json!(spoken))).collect()
    }

    /// The number of the last turn that is known, whichever session it was of; 0 before the first.
    #[must_use]
    pub fn last_turn(&self) -> u32 {
        let turns = self.latencies.iter().filter_map(|turn| turn["turn"].as_u64());
        turns.max().and_then(|turn| u32::try_from(turn).ok()).unwrap_or(0)
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
    fn large_answers_of_tools_are_shortened_before_anything_that_was_said_goes() {
        let mut memory = Memory::default();
        let said = |text: &str, tool| Spoken { who: Who::Caller, text: text.to_owned(), at_ms: 0, cut: false, tool };
        memory.add(said("the first words", None));
        for i in 0..4 {
            let output = json!({"rows": "x".repeat(30_000)});
            let tool = json!({"id": format!("t{i}"), "name": "look_up", "arguments": "{}", "output": output});
            memory.add(said("look_up", Some(tool)));
            memory.add(said(&format!("words {i}"), None));
        }
        assert_eq!((memory.said.len(), memory.said[0].text.as_str()), (9, "the first words"));
        let output = |at: usize| memory.said[at].tool.as_ref().unwrap()["output"].to_string();
        assert!(output(1).len() < 4_000 && output(1).contains("xxx"), "{}", output(1).len());
        assert!(output(7).len() > 30_000, "the newest is whole");
        let id = &memory.said[1].tool.as_ref().unwrap()["id"];
        assert_eq!(id, "t0", "it is still the answer of its own question");
    }

    #[test]
    fn what_is_known_late_stands_where_it_was_said() {
        let mut memory = Memory::default();
        let said =
            |text: &str, at_ms| Spoken { who: Who::Caller, text: text.to_owned(), at_ms, cut: false, tool: None };
        memory.add(said("one", 1_000));
        memory.add(said("three", 3_000));
        memory.add_late(said("two", 2_000));
        memory.add_late(said("zero", 0));
        memory.add_late(said("four", 3_000));
        let texts: Vec<_> = memory.said.iter().map(|spoken| spoken.text.as_str()).collect();
        assert_eq!(texts, ["zero", "one", "two", "three", "four"]);
    }

    #[test]
    fn where_the_beginning_is_gone_the_transcript_says_so() {
        let mut memory = Memory::default();
        for i in 0..40 {
            let text = format!("{i} {}", "x".repeat(4_000));
            memory.add(Spoken { who: Who::Caller, text, at_ms: i, cut: false, tool: None });
        }
        let lines = memory.transcript();
        assert_eq!((&lines[0]["who"], lines.len()), (&json!("note"), memory.said.len() + 1));
        assert!(lines[0]["text"].as_str().unwrap().contains(&memory.gone.to_string()), "{}", lines[0]);
        assert_eq!(memory.gone as usize + memory.said.len(), 40);
        assert_eq!(Memory::default().transcript(), [] as [Value; 0]);
    }

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
