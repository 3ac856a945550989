//! Turns: who speaks, what was heard of it, and what comes next.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    calls::{Spoken, Who},
    models::Provider,
    telemetry::voice as figures,
    voice::{
        caller::spoken_at,
        ending::{Ending, Reason},
        mulaw::PER_MS,
        pipeline::{Event, Sound},
        session::Session,
        turn_tools::{Last, Used},
    },
};

/// Turns whose parts are kept.
const MOST_KEPT: usize = 1_000;

/// What the agent is saying, or about to.
pub(super) struct Speaking {
    pub(super) turn: u32,
    /// True where a model answers; false for a text that was given.
    pub(super) answer: bool,
    pub(super) begun: Instant,
    /// Since when the model is waited for: later than `begun` where it used tools.
    pub(super) asked: Instant,
    /// When the caller had spoken.
    spoken: Option<Instant>,
    pub(super) first_word: Option<Instant>,
    pub(super) first_sound: Option<Instant>,
    /// When the last sound came.
    pub(super) sound_at: Option<Instant>,
    /// The sound broke off, and no more comes: not all of the text was heard.
    broke_off: bool,
    pub(super) text: String,
    /// Parts of the text with their places in the sound.
    words: Vec<(usize, String)>,
    pub(super) bytes: usize,
    /// The model waits for what its tools come to.
    pub(super) wants_tools: bool,
    /// How it ends the conversation.
    pub(super) last: Option<Last>,
    /// All sound has come that comes without another round.
    pub(super) sound_over: bool,
    pub(super) rounds: u32,
}

impl Speaking {
    pub(super) fn new(turn: u32, answer: bool, spoken: Option<Instant>, text: &str) -> Self {
        Self {
            turn,
            answer,
            begun: Instant::now(),
            asked: Instant::now(),
            spoken,
            first_word: None,
            first_sound: None,
            sound_at: None,
            broke_off: false,
            text: text.to_owned(),
            words: Vec::new(),
            bytes: 0,
            wants_tools: false,
            last: None,
            sound_over: false,
            rounds: 0,
        }
    }

    /// The text that was heard, of so many bytes of sound; all of it where `whole`.
    fn heard(&self, bytes: usize, whole: bool) -> String {
        if whole {
            return self.text.trim().to_owned();
        }
        let aligned: String = self.words.iter().filter(|(at, _)| *at < bytes).map(|(_, text)| text.as_str()).collect();
        if !self.words.is_empty() || self.bytes == 0 {
            return aligned.trim().to_owned();
        }
        // Without places, as much of the text as of the sound, to the end of the last whole word.
        let count = self.text.chars().count() * bytes.min(self.bytes) / self.bytes;
        let cut: String = self.text.chars().take(count).collect();
        cut.rsplit_once(' ').map_or("", |(whole, _)| whole).trim().to_owned()
    }

    /// What its beginning was made of, ms.
    fn parts(&self, cut: bool) -> Value {
        let between = |from: Option<Instant>, to: Option<Instant>| {
            Some(u64::try_from(to?.saturating_duration_since(from?).as_millis()).unwrap_or(u64::MAX))
        };
        let begun = Some(self.begun);
        json!({"turn": self.turn, "kind": if self.answer { "answer" } else { "say" }, "cut": cut,
            "transcription_ms": between(self.spoken, begun), "model_ms": between(begun, self.first_word),
            "speech_ms": between(self.first_word.or(begun), self.first_sound),
            "whole_ms": between(self.spoken.or(begun), self.first_sound)})
    }
}

impl Session {
    /// What is said first.
    pub(super) fn begin(&mut self) {
        let (state, agent) = (&self.parts.state, &self.parts.agent);
        let machine = state.answered_by.as_deref().is_some_and(|by| by.starts_with("machine") || by == "fax");
        let last = state.memory.said.last().map(|spoken| spoken.who);
        let cut = state.memory.said.last().is_some_and(|spoken| spoken.cut);
        if machine && state.on_machine.as_deref() != Some("continue") {
            let text = agent.voicemail.clone().filter(|_| state.on_machine.as_deref() != Some("hang_up"));
            return self.close(Reason::Voicemail, text);
        }
        match (last, agent.greeting.clone()) {
            (None, Some(greeting)) => self.say(&greeting),
            (Some(Who::Caller | Who::Tool), _) => self.answer(None),
            // It was cut in an earlier session, by the caller or by the end of that session: somebody has to go on.
            (Some(Who::Agent), _) if cut => self.answer(None),
            _ => self.save(),
        }
    }

    /// It was a machine, and its greeting is over: what the agent says is cut, and its message left.
    pub(super) async fn leave_message(&mut self) -> Result<(), Reason> {
        if self.ending.is_some() || self.over.is_some() {
            return Ok(());
        }
        let text = self.parts.agent.voicemail.clone();
        self.close(Reason::Voicemail, text);
        let clear = self.line.wire.clear(&self.line.stream);
        self.send(clear).await
    }

    /// Says a text as it is.
    pub(super) fn say(&mut self, text: &str) {
        let turn = self.voice.turns.next();
        // A model that speaks by itself tells what it says.
        let known = if self.voice.pipeline.answers_by_itself() { "" } else { text };
        self.speaking = Some(Speaking::new(turn, false, None, known));
        self.voice.pipeline.say(turn, text);
        self.save();
    }

    /// Answers what was said so far.
    pub(super) fn answer(&mut self, spoken: Option<Instant>) {
        let turn = self.voice.turns.next();
        self.unanswered = false;
        self.parts.state.memory.turns += 1;
        self.speaking = Some(Speaking::new(turn, true, spoken, ""));
        self.voice.pipeline.answer(turn, &self.parts.state.memory, "");
        self.save();
    }

    pub(super) async fn event(&mut self, event: Event) -> Result<(), Reason> {
        let by_itself = self.voice.pipeline.answers_by_itself();
        match event {
            Event::SpeechStarted | Event::SpeechStopped => {
                (self.voice_at, self.quiet_at) = (Instant::now(), Instant::now());
                if by_itself && event == Event::SpeechStarted {
                    self.break_in().await?;
                }
            }
            Event::Guess(_) => {
                (self.voice_at, self.quiet_at) = (Instant::now(), Instant::now());
                self.break_in().await?;
            }
            Event::Transcribed { text, spoken } => {
                self.parts.state.memory.prompts = 0;
                if !text.is_empty() {
                    let at_ms = self.at_ms(spoken);
                    self.parts.state.memory.add_late(Spoken { who: Who::Caller, text, at_ms, cut: false, tool: None });
                    // Whoever has the call next must know that an answer is owed.
                    self.save();
                }
            }
            Event::Heard { text, end } => {
                self.break_in().await?;
                self.pending.push_str(&text);
                self.pending.push(' ');
                let now = Instant::now();
                (self.pending_at, self.quiet_at) = (now, now);
                self.voice_at = spoken_at(self.voice_at, self.no_end(), now);
                if end {
                    self.caller_has_spoken();
                }
            }
            Event::TurnOver => self.caller_has_spoken(),
            Event::Began { turn } => self.began(turn).await?,
            Event::FirstWord { turn } => {
                if let Some(speaking) = self.current(turn) {
                    speaking.first_word.get_or_insert_with(Instant::now);
                }
            }
            Event::Text { turn, text } => {
                if let Some(speaking) = self.current(turn) {
                    speaking.first_word.get_or_insert_with(Instant::now);
                    speaking.text.push_str(&text);
                }
            }
            Event::Called { turn, id, name, arguments } => self.use_tool(Used { turn, id, name, arguments }),
            Event::Answered { turn, tools } => self.answered(turn, tools),
            Event::Used { what, amount } => self.parts.state.memory.used(what, amount),
            Event::Failed { provider, why } => self.trouble(provider, &why),
        }
        Ok(())
    }

    pub(super) fn sound(&mut self, sound: Sound) {
        match sound {
            Sound::Audio { turn, sound } => {
                let Some(speaking) = self.current(turn) else { return };
                speaking.bytes += sound.len();
                speaking.sound_at = Some(Instant::now());
                if speaking.first_sound.is_none() {
                    speaking.first_sound = Some(Instant::now());
                    let parts = speaking.parts(false);
                    for part in ["transcription", "model", "speech", "whole"] {
                        if let Some(ms) = parts[format!("{part}_ms")].as_u64() {
                            figures::turn(part, std::time::Duration::from_millis(ms));
                        }
                    }
                }
                self.add_sound(turn, sound);
            }
            Sound::Words { turn, text, at } => {
                if let Some(speaking) = self.current(turn) {
                    speaking.words.push((at, text));
                }
            }
            Sound::Waits { turn } => {
                let last = self.ending.as_ref().is_some_and(|ending| ending.after == turn);
                if let Some(speaking) = self.current(turn) {
                    speaking.sound_over = true;
                    if last {
                        self.playout.complete(turn);
                    }
                }
            }
            Sound::BrokeOff { turn } => {
                if let Some(speaking) = self.current(turn) {
                    speaking.broke_off = true;
                    self.playout.complete(turn);
                }
            }
            Sound::Done { turn } => {
                if let Some(speaking) = self.current(turn) {
                    // A voice that makes no sound of a text has said nothing.
                    speaking.broke_off |= speaking.bytes == 0;
                    self.playout.complete(turn);
                }
            }
        }
    }

    /// What is said now, where that is this turn. Anything else came too late.
    pub(super) fn current(&mut self, turn: u32) -> Option<&mut Speaking> {
        self.speaking.as_mut().filter(|speaking| speaking.turn == turn)
    }

    /// Ends the current turn where it is.
    pub(super) fn cut(&mut self) {
        let now = Instant::now();
        let Some(speaking) = self.speaking.take() else { return };
        let bytes = self.playout.heard(speaking.turn, now);
        self.playout.clear(now);
        let text = speaking.heard(bytes, false);
        self.voice.pipeline.stop(speaking.turn, (bytes / PER_MS) as u64, &text);
        self.tools.cut();
        self.kept(&speaking, text, true);
        for (name, tool) in self.tools.at_work() {
            if !self.parts.state.memory.is_at_work(&tool) {
                self.remember(Who::Tool, name, false, Some(tool));
            }
        }
    }

    /// The current turn was heard to its end.
    pub(super) async fn heard_to_its_end(&mut self) {
        let Some(speaking) = self.speaking.take() else { return };
        let text = speaking.heard(speaking.bytes, !speaking.broke_off);
        self.kept(&speaking, text, speaking.broke_off);
        self.save();
        if let Some(ending) = self.ending.take_if(|ending| ending.after == speaking.turn) {
            self.parts.state.memory.left |= ending.reason == Reason::Voicemail && !speaking.broke_off;
            self.come_to(ending).await;
        } else {
            // What the caller said meanwhile.
            self.caller_has_spoken();
        }
    }

    /// The last words were heard, or will not be.
    pub(super) async fn come_to(&mut self, ending: Ending) {
        match ending.transfer {
            None => self.over = Some(ending.reason),
            // What few calls need, no call makes room for.
            Some((id, to)) => {
                Box::pin(self.transfer(id, to)).await;
                // Nobody read the stream meanwhile: it is not dead for that.
                self.looked_at = Instant::now();
                self.media_at = self.looked_at;
            }
        }
    }

    fn kept(&mut self, speaking: &Speaking, text: String, cut: bool) {
        self.quiet_at = Instant::now();
        if !text.is_empty() {
            self.remember(Who::Agent, text, cut, None);
        }
        let memory = &mut self.parts.state.memory;
        if memory.latencies.len() < MOST_KEPT {
            memory.latencies.push(speaking.parts(cut));
        }
    }

    pub(super) fn remember(&mut self, who: Who, text: String, cut: bool, tool: Option<Value>) {
        let at_ms = self.at_ms(Instant::now());
        self.parts.state.memory.add(Spoken { who, text, at_ms, cut, tool });
    }

    /// A provider has failed for good: the agent says so where it still can, and the call ends.
    pub(super) fn trouble(&mut self, provider: Provider, why: &str) {
        figures::session_failed("provider");
        tracing::error!(attempt.id = %self.parts.state.attempt, %provider, why, "a conversation ends: its provider has failed");
        let mute = provider == Provider::Elevenlabs || self.voice.pipeline.answers_by_itself();
        let text = self.parts.agent.trouble.clone().filter(|_| !mute);
        if self.ending.is_some() && mute {
            self.over = Some(Reason::Trouble);
        } else {
            self.close(Reason::Trouble, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_were_heard_are_remembered() {
        let mut speaking = Speaking::new(1, true, None, "One two three four");
        speaking.bytes = 8_000;
        assert_eq!(speaking.heard(4_500, false), "One two", "by the share of the sound");
        speaking.words =
            vec![(0, "One ".into()), (1_000, "two ".into()), (5_000, "three ".into()), (7_000, "four".into())];
        assert_eq!(speaking.heard(5_500, false), "One two three");
        assert_eq!(speaking.heard(0, false), "");
        assert_eq!(speaking.heard(0, true), "One two three four");
    }
}
