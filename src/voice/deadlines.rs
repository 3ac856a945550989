//! The clock of a conversation: silence, answers that do not come, dead streams, and the longest that anything may take.

use std::time::{Duration, Instant};

use crate::{
    agents::rules::TEXT_MAX,
    models::Provider,
    telemetry::voice as figures,
    voice::{ending::Reason, session::Session},
};

/// Carriers send a frame every 20 ms, in silence too.
const DEAD: Duration = Duration::from_secs(5);
/// Words without an end of their turn are a turn after the agent's own endpointing and this.
const NO_END: Duration = Duration::from_millis(1_000);
/// A conversation that is to be handed over waits so long for a pause.
const PAUSE: Duration = Duration::from_secs(3);
/// The longest that nothing is looked at, whatever comes in.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// Last words are over after this, what they are made in, and [`LETTER`] for each of their characters, however much sound of them
/// comes: a provider that does not stop would keep a call that is over on the line, and its slot with it. Room for pauses.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Nobody speaks a character for longer on average: at the slowest speed that an agent may have it is 100 ms of a letter, 170 ms of a
/// figure, and some 300 ms where each is a syllable, as in Chinese.
const LETTER: Duration = Duration::from_millis(500);

impl Session {
    /// When to look at the clock next.
    pub(super) fn wake(&self, now: Instant) -> Instant {
        let turn = self.speaking.as_ref().map(|speaking| speaking.turn);
        let all = [
            self.playout.due(now),
            turn.and_then(|turn| self.playout.played_by(turn)),
            Some(self.media_at + DEAD),
            self.leave_by,
            self.leave_by.and_then(|_| self.pause_at()),
            self.limit_at(),
            self.last_words_by(),
            self.silence_at(),
            self.no_end_at(),
            self.no_answer_at(),
        ];
        // What comes in does not put it off.
        let at_last = self.looked_at + IDLE;
        all.into_iter().flatten().min().unwrap_or(at_last).min(at_last)
    }

    /// Does what is due.
    pub(super) async fn time(&mut self, now: Instant) -> Result<(), Reason> {
        self.looked_at = now;
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if now >= self.media_at + DEAD {
            figures::session_failed("dead_stream");
            return Err(Reason::DeadStream);
        }
        if passed(self.leave_by) || (self.leave_by.is_some() && passed(self.pause_at())) {
            return Err(Reason::HandedOver);
        }
        if passed(self.last_words_by()) {
            self.last_words_break_off().await;
            return Ok(());
        }
        if passed(self.limit_at()) {
            let goodbye = self.parts.agent.goodbye.clone();
            self.close(Reason::TimeLimit, goodbye);
            let clear = self.line.wire.clear(&self.line.stream);
            return self.send(clear).await;
        }
        if passed(self.no_answer_at()) {
            return self.stalled().await;
        }
        if passed(self.no_end_at()) {
            self.caller_has_spoken();
        }
        if passed(self.silence_at()) {
            self.nobody_speaks();
        }
        Ok(())
    }

    /// The longest that the conversation may go on, in all of its sessions together. Last words have a time of their own.
    fn limit_at(&self) -> Option<Instant> {
        let all = Duration::from_secs(self.parts.agent.limits.call_secs.into());
        let left = all.saturating_sub(Duration::from_millis(self.parts.spoken_ms));
        self.ending.is_none().then(|| self.parts.begin + left)
    }

    /// When the last words are over, whatever there still is of them.
    fn last_words_by(&self) -> Option<Instant> {
        let ending = self.ending.as_ref()?;
        let told = self.speaking.as_ref().map_or(0, |speaking| speaking.text.chars().count());
        let letters = told.max(ending.letters).min(TEXT_MAX);
        let answer = Duration::from_millis(self.parts.agent.limits.answer_ms.into());
        Some(ending.since + answer + LAST_WORDS + LETTER * u32::try_from(letters).unwrap_or(u32::MAX))
    }

    /// Nobody has spoken for so long, counted from the end of what was heard.
    fn silence_at(&self) -> Option<Instant> {
        let quiet = self.speaking.is_none() && self.ending.is_none() && self.pending.trim().is_empty();
        quiet.then(|| self.quiet_at + Duration::from_secs(self.parts.agent.turns.silence_secs.into()))
    }

    fn nobody_speaks(&mut self) {
        let prompts = &self.parts.agent.turns.silence_prompts;
        let said = self.parts.state.memory.prompts;
        match prompts.get(said as usize).cloned() {
            Some(prompt) => {
                self.parts.state.memory.prompts += 1;
                self.say(&prompt);
            }
            None => {
                let goodbye = self.parts.agent.goodbye.clone();
                self.close(Reason::Silence, goodbye);
            }
        }
    }

    /// The caller has said something and is silent, and no provider says that the turn is over.
    fn no_end_at(&self) -> Option<Instant> {
        let spoken = !self.pending.trim().is_empty() || self.unanswered;
        let waits = spoken && self.speaking.is_none() && self.ending.is_none();
        waits.then(|| self.pending_at.max(self.voice_at) + self.no_end())
    }

    /// What the caller says is in words so long after it was heard, if ever.
    pub(super) fn no_end(&self) -> Duration {
        Duration::from_millis(self.parts.agent.turns.endpointing_ms.into()) + NO_END
    }

    /// The agent should have been heard, or heard further, by then. What is still to be played is waited for, however long it is,
    /// and tools have their own time.
    fn no_answer_at(&self) -> Option<Instant> {
        let speaking = self.speaking.as_ref()?;
        let waits = self.tools.open() == 0 || self.ending.is_some();
        let since = self.playout.waits_for_more(speaking.turn).filter(|_| waits)?;
        let since = since.max(speaking.asked).max(speaking.sound_at.unwrap_or(speaking.asked));
        Some(since + Duration::from_millis(self.parts.agent.limits.answer_ms.into()))
    }

    /// The last words end here, whatever is left of them.
    async fn last_words_break_off(&mut self) {
        let Some(ending) = self.ending.take() else { return };
        tracing::warn!(attempt.id = %self.parts.state.attempt, reason = ending.reason.as_str(), "the last words broke off");
        figures::session_failed("provider");
        self.cut();
        self.come_to(ending).await;
    }

    /// Nothing more comes of what the agent is saying. Last words end there; in the middle of a conversation it is a provider's fault.
    async fn stalled(&mut self) -> Result<(), Reason> {
        if self.ending.is_some() {
            self.last_words_break_off().await;
            return Ok(());
        }
        let Some(speaking) = &self.speaking else { return Ok(()) };
        let spoken = !speaking.answer || speaking.first_word.is_some();
        let provider = match spoken && !self.voice.pipeline.answers_by_itself() {
            // There is a text, and no sound of it.
            true => Provider::Elevenlabs,
            false => Provider::Openai,
        };
        self.trouble(provider, "it did not answer in time");
        Ok(())
    }

    /// Another replica may have the call at the next pause. A session without a carrier cannot be begun elsewhere.
    pub(super) fn leave(&mut self) {
        if self.parts.state.carrier.is_none() || self.ending.is_some() || self.leave_by.is_some() {
            return;
        }
        let now = Instant::now();
        if self.pause_at().is_some_and(|at| at <= now) {
            self.over = Some(Reason::HandedOver);
        } else {
            self.leave_by = Some(now + PAUSE);
        }
    }

    /// Nobody speaks then, and what the caller said last has come as words, if ever it will.
    fn pause_at(&self) -> Option<Instant> {
        let quiet = self.speaking.is_none() && self.vad.speaking() == 0 && self.pending.trim().is_empty();
        quiet.then(|| self.voice_at + self.no_end())
    }
}
