//! The caller's side of turns: when theirs is over, when they break in, and when an answer that began by itself may go on.

use std::time::{Duration, Instant};

use crate::{
    calls::Who,
    telemetry::voice as figures,
    voice::{ending::Reason, session::Session, turn::Speaking},
};

/// When words were spoken that come `now`, as far as it is known: a voice that was heard so long ago that its own words have come is
/// not theirs, and they were too low to be heard here.
pub(super) fn spoken_at(voice_at: Instant, no_end: Duration, now: Instant) -> Instant {
    if voice_at + no_end < now { now } else { voice_at }
}

impl Session {
    /// The caller's turn is over: the agent answers, unless it is still speaking and must not be interrupted.
    pub(super) fn caller_has_spoken(&mut self) {
        if self.speaking.is_some() || self.ending.is_some() {
            return;
        }
        if self.pending.trim().is_empty() {
            // What seemed to be words came to nothing: what was said before them still waits for its answer.
            if std::mem::take(&mut self.unanswered) {
                self.answer(None);
            }
            return;
        }
        let text = self.keep_pending();
        if self.leave_by.is_some() {
            // Whoever has the call next answers it.
            self.over = Some(Reason::HandedOver);
            return;
        }
        let spoken = self.voice_at;
        self.voice.pipeline.told(&text);
        self.parts.state.memory.prompts = 0;
        if self.parts.state.memory.turns >= self.parts.agent.limits.turns {
            let goodbye = self.parts.agent.goodbye.clone();
            return self.close(Reason::TurnLimit, goodbye);
        }
        self.answer(Some(spoken));
    }

    /// Words of the caller that are no turn yet are remembered all the same.
    pub(super) fn keep_pending(&mut self) -> String {
        let text = std::mem::take(&mut self.pending).trim().to_owned();
        if !text.is_empty() {
            self.remember(Who::Caller, text.clone(), false, None);
        }
        text
    }

    /// The provider answers by itself: not where the agent has said its last words, or must be heard first.
    pub(super) async fn began(&mut self, turn: u32) -> Result<(), Reason> {
        let heard = self.speaking.as_ref().is_some_and(|speaking| speaking.first_sound.is_some());
        let waits = heard && !self.parts.agent.turns.interruptible;
        if waits || self.ending.is_some() {
            self.unanswered |= waits;
            self.voice.pipeline.stop(turn, 0, "");
            return Ok(());
        }
        self.break_in().await?;
        if self.parts.state.memory.turns >= self.parts.agent.limits.turns {
            self.voice.pipeline.stop(turn, 0, "");
            let goodbye = self.parts.agent.goodbye.clone();
            self.close(Reason::TurnLimit, goodbye);
            return Ok(());
        }
        if let Some(unheard) = self.speaking.take() {
            // A text that was given, of which nothing was heard yet: the caller was first.
            self.voice.pipeline.stop(unheard.turn, 0, "");
        }
        self.unanswered = false;
        self.parts.state.memory.turns += 1;
        self.speaking = Some(Speaking::new(turn, true, Some(self.voice_at), ""));
        self.save();
        Ok(())
    }

    /// The caller breaks in: nothing more of this turn is sent, made or remembered than was heard.
    pub(super) async fn break_in(&mut self) -> Result<(), Reason> {
        let Some(speaking) = &self.speaking else { return Ok(()) };
        let heard = speaking.first_sound.is_some();
        if self.ending.is_some() || (heard && !self.parts.agent.turns.interruptible) {
            return Ok(());
        }
        if heard || speaking.answer {
            // A provider that answers by itself hears for itself what was said.
            self.unanswered = !heard && !self.voice.pipeline.answers_by_itself();
            self.cut();
            self.parts.state.memory.interruptions += u32::from(heard);
            if heard {
                figures::interrupted();
            }
            // Also where all was sent: the carrier still has some of it.
            let clear = self.line.wire.clear(&self.line.stream);
            self.send(clear).await?;
            self.save();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_voice_that_was_not_heard_were_spoken_when_they_came_and_not_at_the_last_voice() {
        let (voice_at, no_end) = (Instant::now(), Duration::from_secs(2));
        let after = |secs| voice_at + Duration::from_secs(secs);
        assert_eq!(spoken_at(voice_at, no_end, after(1)), voice_at, "they take their time");
        assert_eq!(spoken_at(voice_at, no_end, after(9)), after(9));
    }
}
