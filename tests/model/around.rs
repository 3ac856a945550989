//! The steps of what stands around a dial: the gate's correction, bells, cancel, and what goes wrong.

use crate::{
    protocol::{Protocol, Step},
    state::{Id, JobState, State, Worker, World},
};

impl Protocol {
    /// Takes the step; `None` where it cannot be taken now.
    pub(crate) fn around(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Evict(id) => self.evicts(world, id),
            Step::Add(id) => self.adds(world, id),
            Step::Ring => {
                let due = self.claimable_job(world).is_some() && self.has_room(world);
                (due && !world.bell).then(|| world.bell = true)
            }
            Step::Cancel => {
                world.cancelled = true;
                for attempt in world.attempts.iter_mut().flatten().filter(|a| a.stored && a.job == 0) {
                    attempt.hangup |= attempt.state.is_open();
                }
                Some(())
            }
            Step::FinishCancel => {
                let job = world.jobs.first_mut().filter(|job| job.state == JobState::Queued)?;
                job.state = JobState::Cancelled;
                Some(())
            }
            Step::LoseBell => {
                world.bell = false;
                Some(())
            }
            _ => {
                world.faults = world.faults.checked_sub(1)?;
                self.fault(world, step)
            }
        }
    }

    fn evicts(&self, world: &mut World, id: Id) -> Option<()> {
        let open = world.row(id).is_some_and(|attempt| attempt.state.is_open());
        let spared = self.guards.patient_sweep && world.workers.iter().any(|worker| worker.id() == Some(id));
        let counted = !self.guards.release_by_id;
        (!open && !spared && !counted).then(|| world.gate.retain(|(holder, _)| *holder != id))
    }

    fn adds(&self, world: &mut World, id: Id) -> Option<()> {
        let slot = world.row(id)?.slot;
        let taken = world.gate.iter().any(|(holder, held)| *holder == id || *held == slot);
        (!taken && self.guards.release_by_id).then(|| world.gate.push((id, slot)))
    }

    fn fault(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Die(at) => {
                if let Some(id) = world.workers[at].id() {
                    world.forget_answer(id);
                }
                world.workers[at] = Worker::Idle;
            }
            Step::Wipe => world.gate.clear(),
            Step::Crash => self.crashes(world),
            Step::Lower => world.limit -= 1,
            Step::LoseCommit(at) => {
                let Worker::Held(id, slot) = world.workers[at] else { return None };
                let job = self.claimable_job(world)?;
                if self.guards.acknowledged {
                    world.gate.retain(|(holder, _)| *holder != id);
                    world.workers[at] = Worker::Idle;
                } else {
                    // It takes the commit for granted.
                    self.insert(world, id, slot, job, false);
                    world.workers[at] = Worker::Claimed(id);
                }
            }
            Step::LoseAnswerOfCommit(at) => {
                self.take_step(world, Step::Claim(at))?;
                world.workers[at] = Worker::Idle;
            }
            _ => return None,
        }
        Some(())
    }

    /// Postgres comes back with what was flushed.
    fn crashes(&self, world: &mut World) {
        for attempt in world.attempts.iter_mut().flatten().filter(|attempt| attempt.stored && attempt.soft) {
            let job = &mut world.jobs[usize::from(attempt.job)];
            if !self.guards.flushed_intents && attempt.state == State::Intent {
                (attempt.stored, job.state) = (false, JobState::Queued);
                continue;
            }
            if !attempt.state.is_open() {
                job.state = JobState::Dialing;
                // The carrier, which will not say it again, was told of it already.
                world.broken.final_changed |= !self.guards.flushed_ends;
            }
            (attempt.state, attempt.call, attempt.soft) = (State::Intent, None, false);
        }
    }
}
