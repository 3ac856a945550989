//! Sets what nothing reads any more to one value, so that worlds with the same future are one world.
//!
//! Only protocols that read no more than the chosen one are shortened so.

use crate::{
    protocol::Protocol,
    state::{Age, Phase, State, World},
};

impl Protocol {
    /// Shortens the world; its future stays as it was.
    pub(crate) fn forget(&self, world: &mut World) {
        let workers = world.workers.clone();
        let may_crash = self.may_crash(world);
        for id in (0..).take(world.attempts.len()) {
            let sent = world.requests.contains(&id) || workers.iter().any(|worker| worker.id() == Some(id));
            let calls = world.calls.iter().filter(|call| call.attempt == id).count();
            let Some(attempt) = &mut world.attempts[usize::from(id)] else { continue };
            attempt.soft &= may_crash;
            let closed = !attempt.state.is_open() && !attempt.soft;
            if closed && !sent && calls == 0 {
                // Nobody will ever speak of it again.
                world.attempts[usize::from(id)] = None;
                continue;
            }
            // With its call known, its age and its looks decide nothing, unless a crash takes the call's id back.
            if closed || (attempt.call.is_some() && !may_crash) {
                (attempt.looked, attempt.age, attempt.soft) = (false, Age::Old, false);
            }
            let heard = closed || attempt.state >= State::Initiated && !may_crash;
            let known = attempt.call.filter(|_| closed || !may_crash);
            for call in world.calls.iter_mut().filter(|call| call.attempt == id) {
                call.says_initiated &= !heard;
            }
            if let Some(known) = known {
                let call = &mut world.calls[usize::from(known)];
                call.listed = true;
                call.says_completed &= !closed;
                debug_assert!(!closed || call.phase == Phase::Ended, "only a final status ends an attempt");
            }
        }
    }
}
