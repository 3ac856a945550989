//! The person at the far end: listens, says their lines in turn, interrupts, presses keys, hangs up.
use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::FRAME_MS;
use crate::sim::{
    config::Millis,
    outcome::Outcome,
    sound::{SILENCE, Speed, Utterance},
};

/// Who answers, as `PUT /_callees` takes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Callee {
    /// Only calls to this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only calls from this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Says the first line without waiting for the agent.
    pub speaks_first: bool,
    /// What they say, in turn.
    pub lines: Vec<Line>,
    /// Begins again with the first line after the last one, until the other side ends the call.
    pub repeats: bool,
    /// After the last line: what comes of the call.
    pub then: Then,
}

/// One line of a callee. Without `interrupts_after` it waits until the agent has finished.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Line {
    /// The words; `{tag}` stands for a word that no other call has.
    pub say: String,
    /// Keys that are pressed after the words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dtmf: String,
    /// Speaks as soon as so many bytes of the agent's sentence have been heard, into the middle of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupts_after: Option<usize>,
    /// How long the agent must have been quiet; as the flags say when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// What a callee does after the last line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Lets the agent answer, and hangs up.
    #[default]
    HangsUp,
    /// Stays until the other side ends the call.
    Stays,
}

/// What a callee does besides speaking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Begins to say a line; true when it is into the middle of what the agent says.
    Begins(bool),
    Presses(String),
    HangsUp,
}

/// What a callee notices in 20 ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    /// Sound of the agent was played.
    pub(super) voice: bool,
    /// Bytes of the agent's present sentence so far.
    pub(super) words: usize,
}

/// A callee in a call.
#[derive(Debug)]
pub(super) struct Person {
    lines: VecDeque<Line>,
    repeats: bool,
    then: Then,
    speed: Speed,
    reaction_ms: u64,
    /// Nobody waits longer than this for a word.
    patience_ms: u64,
    mouth: Option<Utterance>,
    dtmf: String,
    /// What has been said, as far as it was.
    pub(super) said: Vec<String>,
    number: u32,
    /// The agent has spoken since the callee's last line, or the callee speaks first.
    turn: bool,
    quiet_ms: u64,
    waited_ms: u64,
}

/// How callees behave when nothing else is said of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) speed: Speed,
    pub(super) reaction: Duration,
    pub(super) patience: Duration,
}

impl Person {
    /// A callee of a call that has a number of its own among all calls.
    pub(super) fn new(callee: Callee, manner: Manner, call: usize) -> Self {
        let tag = tag(call);
        let lines = callee.lines.into_iter().map(|line| Line { say: line.say.replace("{tag}", &tag), ..line });
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "numbers come round after 4 million calls")]
        let number = (call as u32 & 0x003F_FFFF) << 9;
        Self {
            lines: lines.collect(),
            repeats: callee.repeats,
            then: callee.then,
            speed: manner.speed,
            reaction_ms: ms(manner.reaction),
            patience_ms: ms(manner.patience),
            mouth: None,
            dtmf: String::new(),
            said: Vec::new(),
            number,
            turn: callee.speaks_first,
            quiet_ms: 0,
            waited_ms: 0,
        }
    }

    /// Lives 20 ms and writes what is said in them.
    pub(super) fn live(&mut self, notice: Notice, frame: &mut [u8]) -> Act {
        let begins = if self.mouth.is_none() { self.listen(notice) } else { Act::Nothing };
        let spoken = self.mouth.as_mut().map_or(0, |mouth| mouth.speak(frame));
        frame[spoken..].fill(SILENCE);
        if self.mouth.as_ref().is_some_and(Utterance::is_over) {
            self.mouth = None;
            (self.turn, self.quiet_ms, self.waited_ms) = (false, 0, 0);
            if !self.dtmf.is_empty() {
                return Act::Presses(std::mem::take(&mut self.dtmf));
            }
        }
        begins
    }

    /// True while the callee is speaking.
    pub(super) const fn is_speaking(&self) -> bool {
        self.mouth.is_some()
    }

    fn listen(&mut self, notice: Notice) -> Act {
        self.turn |= notice.voice;
        self.quiet_ms = if notice.voice { 0 } else { self.quiet_ms + FRAME_MS };
        self.waited_ms = if notice.voice { 0 } else { self.waited_ms + FRAME_MS };
        let reaction_ms = self.lines.front().and_then(|line| line.after_ms).unwrap_or(self.reaction_ms);
        let has_turn = self.turn && self.quiet_ms >= reaction_ms;
        let impatient = self.waited_ms >= self.patience_ms;
        let interrupts = notice.voice
            && self.lines.front().and_then(|line| line.interrupts_after).is_some_and(|after| notice.words >= after);
        if !(has_turn || impatient || interrupts) {
            return Act::Nothing;
        }
        let Some(line) = self.lines.pop_front() else {
            return if self.then == Then::HangsUp { Act::HangsUp } else { Act::Nothing };
        };
        if self.repeats {
            self.lines.push_back(line.clone());
        }
        self.mouth = Some(Utterance::new(self.number, &line.say, self.speed));
        self.number += 1;
        self.dtmf = line.dtmf;
        self.said.push(line.say);
        Act::Begins(interrupts)
    }
}

/// A word that no other call has.
pub(crate) fn tag(call: usize) -> String {
    format!("tag-{call:06}")
}

/// Tags in a text that are not this call's.
pub(super) fn foreign_tags<'a>(text: &'a str, own: &'a str) -> impl Iterator<Item = &'a str> {
    let tags = text.match_indices("tag-").filter_map(|(at, _)| text.get(at..at + 10));
    tags.filter(move |tag| *tag != own && tag[4..].bytes().all(|byte| byte.is_ascii_digit()))
}

/// Who answers when no rule says it: three lines, the second into the agent's words for a share of calls.
pub(super) fn usual(outcome: Outcome, interrupts: bool) -> Callee {
    let line = |say: &str| Line { say: say.to_owned(), ..Line::default() };
    if outcome == Outcome::Machine {
        // It records until the other side hangs up.
        let greeting = "You have reached the voice mail of {tag}. Please leave a message after the tone.";
        return Callee { speaks_first: true, lines: vec![line(greeting)], then: Then::Stays, ..Callee::default() };
    }
    let mut lines = vec![
        line("Hello, this is {tag} speaking."),
        line("Yes, you may tell {tag} what it is about."),
        line("Thank you, that was all. Goodbye."),
    ];
    lines[1].interrupts_after = interrupts.then_some(12);
    let then = if outcome == Outcome::NeverEnds { Then::Stays } else { Then::HangsUp };
    Callee { lines, then, ..Callee::default() }
}

/// How callees speak and wait, as flags.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
#[command(next_help_heading = "Callees on a media stream")]
pub struct Manners {
    /// How fast callees speak: 1 is 16.7 characters a second, 12 is 200.
    #[arg(long, value_name = "FACTOR", default_value_t = Manners::default().callee_speed)]
    pub callee_speed: Speed,
    /// How long the agent must be quiet until a callee speaks.
    #[arg(long, value_name = "MS", default_value_t = Manners::default().reaction_ms)]
    pub reaction_ms: Millis,
    /// How long a callee waits for a word before going on.
    #[arg(long, value_name = "MS", default_value_t = Manners::default().patience_ms)]
    pub patience_ms: Millis,
    /// Share of calls in which the callee interrupts the agent once.
    #[arg(long, value_name = "SHARE", default_value_t = Manners::default().interrupts, value_parser = crate::sim::config::share)]
    pub interrupts: f64,
    /// Telnyx: share of frames that come after the next one.
    #[arg(long = "frames-reordered", value_name = "SHARE", default_value_t = Manners::default().reordered, value_parser = crate::sim::config::share)]
    pub reordered: f64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            callee_speed: Speed::HUMAN,
            reaction_ms: Millis::between(500, 900),
            patience_ms: Millis::exactly(10_000),
            interrupts: 0.2,
            reordered: 0.0,
        }
    }
}
