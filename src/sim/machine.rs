//! Machines that answer: when the carrier knows that it is one, when its greeting ends with a beep, and what is left on it.
use std::time::{Duration, Instant};

use super::{Shared, call::CallId, figures::Whose, outcome::Outcome};

/// What a carrier hears of whoever picked up, from the answer on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listening {
    pub(crate) outcome: Outcome,
    /// Until it is known who it is.
    pub(crate) verdict: Duration,
    /// Until the beep, where it is a machine; a person and a fax have none.
    pub(crate) beep: Option<Duration>,
}

impl Listening {
    /// Until the carrier tells who it is, where it is asked to wait for the end of a greeting.
    pub(crate) fn told(self) -> Duration {
        self.beep.map_or(self.verdict, |beep| beep.max(self.verdict))
    }
}

impl Shared {
    /// A call was answered just now: a machine begins to greet.
    pub(crate) fn picked_up(&self, id: CallId) -> Listening {
        let mut world = self.world();
        let world = &mut *world;
        let verdict = self.config.detect_ms.draw(&mut world.random);
        let greeting = self.config.greeting_ms.draw(&mut world.random);
        let call = &mut world.calls[id.0];
        let beep = (call.outcome == Outcome::Machine).then(|| call.tempo.of(greeting));
        call.beep = beep.map(|beep| Instant::now() + beep);
        Listening { outcome: call.outcome, verdict: call.tempo.of(verdict), beep }
    }

    /// Something was said to its end, from `begun` on: a machine has recorded it, if it had beeped by then.
    pub(crate) fn said_to(&self, id: CallId, begun: Instant, words: &str) {
        let mut world = self.world();
        let world = &mut *world;
        let call = &mut world.calls[id.0];
        if call.beep.is_some_and(|beep| beep <= begun) {
            call.voicemails.push(words.to_owned());
            world.tally.voicemail(Whose { account: &call.account, from: &call.dial.from });
        }
    }
}
