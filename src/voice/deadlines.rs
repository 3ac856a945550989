//! The clock of a conversation: silence, answers that do not come, dead streams, and the longest that anything may take.

use std::time::{Duration, Instant};

use crate::{
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
/// The longest that nothing is looked at.
const IDLE: Duration = Duration::from_secs(1);

impl Session {
    /// When to look at the clock next.
    pub(super) fn wake(&self, now: Instant) -> Instant {
        let turn = self.speaking.as_ref().map(|speaking| speaking.turn);
        let all = [
            self.playout.due(now),
            turn.and_then(|turn| self.playout.played_by(turn)),
            Some(self.media_at + DEAD),
            self.ending.as_ref().map(|ending| ending.by),
            self.leave_by,
            self.silence_at(),
            self.no_end_at(),
            self.no_answer_at(),
        ];
        all.into_iter().flatten().min().unwrap_or(now + IDLE).min(now + IDLE)
    }

    /// Does what is due.
    pub(super) async fn time(&mut self, now: Instant) -> Result<(), Reason> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if now >= self.media_at + DEAD {
            figures::session_failed("dead_stream");
            return Err(Reason::DeadStream);
        }
        if passed(self.ending.as_ref().map(|ending| ending.by)) {
            return Err(self.ending.as_ref().map_or(Reason::Stopped, |ending| ending.reason));
        }
        if passed(self.leave_by) {
            return Err(Reason::HandedOver);
        }
        let limit = u64::from(self.parts.agent.limits.call_secs) * 1_000;
        if self.ending.is_none() && self.at_ms() >= limit {
            let goodbye = self.parts.agent.goodbye.clone();
            self.close(Reason::TimeLimit, goodbye);
            let clear = self.line.wire.clear(&self.line.stream);
            return self.send(clear).await;
        }
        if passed(self.no_answer_at()) {
            self.trouble(Provider::Openai, "it did not answer in time");
        }
        if passed(self.no_end_at()) {
            self.caller_has_spoken();
        }
        if passed(self.silence_at()) {
            self.nobody_speaks();
        }
        Ok(())
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
        let waits = !self.pending.trim().is_empty() && self.speaking.is_none() && self.ending.is_none();
        let pause = Duration::from_millis(self.parts.agent.turns.endpointing_ms.into()) + NO_END;
        waits.then(|| self.pending_at.max(self.voice_at) + pause)
    }

    /// The agent should have been heard by then.
    fn no_answer_at(&self) -> Option<Instant> {
        let speaking = self.speaking.as_ref().filter(|speaking| speaking.first_sound.is_none())?;
        let waits = self.ending.is_none() && self.open_tools == 0;
        // Tools had their own time.
        waits.then(|| speaking.asked + Duration::from_millis(self.parts.agent.limits.answer_ms.into()))
    }

    /// Another replica may have the call at the next pause. A session without a carrier cannot be begun elsewhere.
    pub(super) fn leave(&mut self) {
        if self.parts.state.carrier.is_none() || self.ending.is_some() || self.leave_by.is_some() {
            return;
        }
        if self.speaking.is_none() && self.vad.speaking() == 0 {
            self.over = Some(Reason::HandedOver);
        } else {
            self.leave_by = Some(Instant::now() + PAUSE);
        }
    }
}
