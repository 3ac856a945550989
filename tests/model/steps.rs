//! What each step does to the world; `None` where it cannot be taken now.

use crate::{
    protocol::{Protocol, Step},
    state::{Age, Answer, Attempt, Call, Id, JobState, Phase, State, Worker, World},
};

impl Protocol {
    /// Takes the step.
    pub(crate) fn take_step(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Take(at) => self.gate_takes(world, at),
            Step::GiveBack(at) => self.gives_back(world, at),
            Step::Count(at) => self.counts(world, at),
            Step::Claim(at) => self.claims(world, at),
            Step::Check(at) => self.checks(world, at),
            Step::GiveUp(at) => self.gives_up(world, at),
            Step::Send(at) => self.sends(world, at),
            Step::Receive(at) => self.hears(world, at),
            Step::TimeOut(at) => self.waits_no_more(world, at),
            Step::Accept(id) => self.carrier_takes(world, id),
            Step::Refuse(id) => self.carrier_refuses(world, id),
            Step::Drop(id) => {
                self.request_arrives(world, id);
                Some(())
            }
            Step::List(call) => {
                world.calls[usize::from(call)].listed = true;
                Some(())
            }
            Step::PickUp(call) => self.picks_up(world, call),
            Step::End(call) => {
                hang_up(world, call);
                Some(())
            }
            Step::Initiated(call) => self.initiated(world, call),
            Step::Completed(call) => self.completed(world, call),
            Step::LoseInitiated(call) => {
                world.calls[usize::from(call)].says_initiated = false;
                Some(())
            }
            Step::LoseCompleted(call) => {
                world.calls[usize::from(call)].says_completed = false;
                Some(())
            }
            Step::Grow(id) => self.grows(world, id),
            Step::Look(id) => self.looks(world, id),
            Step::Forge(id) | Step::FreeByHangUp(id) => {
                self.end(world, id);
                Some(())
            }
            Step::Expire(id) => {
                self.close(world, id, State::NotPlaced);
                Some(())
            }
            Step::Reap(id) => {
                self.close(world, id, State::NotSent);
                Some(())
            }
            _ => self.around(world, step),
        }
    }

    fn gate_takes(&self, world: &mut World, at: usize) -> Option<()> {
        let queued = world.jobs.iter().any(|job| job.state == JobState::Queued);
        if !world.bell || !queued {
            return None;
        }
        let (id, slot) = (world.free_id()?, world.free_slot()?);
        world.bell = !self.faults.lost_bells;
        world.gate.push((id, slot));
        world.workers[at] = Worker::Held(id, slot);
        Some(())
    }

    fn gives_back(&self, world: &mut World, at: usize) -> Option<()> {
        let (Worker::Held(id, slot) | Worker::Counted(id, slot)) = world.workers[at] else { return None };
        let may = self.claimable_job(world).is_some() && self.has_room(world) && self.is_free(world, slot);
        if may {
            return None;
        }
        world.gate.retain(|(holder, _)| *holder != id);
        world.workers[at] = Worker::Idle;
        Some(())
    }

    fn counts(&self, world: &mut World, at: usize) -> Option<()> {
        let Worker::Held(id, slot) = world.workers[at] else { return None };
        self.has_room(world).then(|| world.workers[at] = Worker::Counted(id, slot))
    }

    fn claims(&self, world: &mut World, at: usize) -> Option<()> {
        let (id, slot) = match world.workers[at] {
            Worker::Held(id, slot) if self.has_room(world) => (id, slot),
            Worker::Counted(id, slot) => (id, slot),
            _ => return None,
        };
        let job = self.claimable_job(world).filter(|_| self.is_free(world, slot))?;
        self.insert(world, id, slot, job, self.guards.intent_first);
        if self.guards.flushed_intents {
            world.flush();
        }
        world.workers[at] = Worker::Claimed(id);
        Some(())
    }

    /// Inserts the intent and moves its job; where it is not `stored`, only the worker knows of it.
    pub(crate) fn insert(&self, world: &mut World, id: Id, slot: u8, job: u8, stored: bool) {
        world.attempts[usize::from(id)] = Some(Attempt {
            job,
            slot,
            limit: world.limit,
            state: State::Intent,
            age: Age::Fresh,
            stored,
            soft: !self.guards.flushed_intents,
            call: None,
            looked: false,
            hangup: false,
        });
        if stored {
            let job = &mut world.jobs[usize::from(job)];
            job.state = JobState::Dialing;
            job.dials += 1;
        }
    }

    fn checks(&self, world: &mut World, at: usize) -> Option<()> {
        let Worker::Claimed(id) = world.workers[at] else { return None };
        let attempt = world.attempt(id)?;
        let wanted = !attempt.stored || (attempt.state == State::Intent && !attempt.hangup);
        if !wanted || (self.guards.claim_age && attempt.age != Age::Fresh) {
            return None;
        }
        world.workers[at] = Worker::Checked(id);
        Some(())
    }

    /// The owner knows that no byte left: too old, no connection, or on its way out.
    fn gives_up(&self, world: &mut World, at: usize) -> Option<()> {
        let (Worker::Claimed(id) | Worker::Checked(id)) = world.workers[at] else { return None };
        if world.row(id).is_some_and(|attempt| attempt.state == State::Intent) {
            self.close(world, id, State::NotSent);
        }
        world.workers[at] = Worker::Idle;
        Some(())
    }

    fn sends(&self, world: &mut World, at: usize) -> Option<()> {
        let Worker::Checked(id) = world.workers[at] else { return None };
        let attempt = world.attempt(id)?;
        world.broken.sent_after_cancel |= world.cancelled && attempt.job == 0 && !attempt.hangup;
        world.requests.push(id);
        world.workers[at] = Worker::Waiting(id);
        Some(())
    }

    fn hears(&self, world: &mut World, at: usize) -> Option<()> {
        let Worker::Waiting(id) = world.workers[at] else { return None };
        let answer = world.take_answer(id)?;
        world.workers[at] = Worker::Idle;
        match answer {
            Answer::Refused => self.close(world, id, State::Refused),
            Answer::Taken(call) => self.placed(world, id, call),
        }
        Some(())
    }

    /// 2xx with the id of a call.
    fn placed(&self, world: &mut World, id: Id, call: u8) {
        let bound = is_bound(world, call, id);
        let Some(attempt) = &mut world.attempts[usize::from(id)] else { return };
        if !attempt.stored {
            (attempt.stored, attempt.state, attempt.call) = (true, State::Placed, Some(call));
            let job = &mut world.jobs[usize::from(attempt.job)];
            (job.state, job.dials) = (JobState::Dialing, job.dials + 1);
        } else if !attempt.state.is_open() {
            if !self.guards.answer_rank {
                attempt.state = State::Placed;
                world.broken.final_changed = true;
            } else if attempt.state != State::Ended {
                hang_up(world, call);
            }
        } else if attempt.call.is_some_and(|known| known != call) {
            hang_up(world, call);
        } else if attempt.state < State::Placed && !bound {
            (attempt.state, attempt.call, attempt.soft) = (State::Placed, Some(call), true);
        }
    }

    /// No answer, or one that says nothing.
    fn waits_no_more(&self, world: &mut World, at: usize) -> Option<()> {
        let Worker::Waiting(id) = world.workers[at] else { return None };
        world.forget_answer(id);
        world.workers[at] = Worker::Idle;
        let Some(attempt) = world.row_mut(id).filter(|attempt| attempt.state == State::Intent) else { return Some(()) };
        if self.guards.unknown_held {
            (attempt.state, attempt.soft) = (State::Unknown, true);
        } else {
            self.close(world, id, State::NotPlaced);
        }
        Some(())
    }

    /// Takes the request from the network, or not, where a library sends it again.
    fn request_arrives(&self, world: &mut World, id: Id) {
        if !self.guards.no_retry && world.faults > 0 {
            world.faults -= 1;
        } else {
            world.requests.retain(|request| *request != id);
        }
    }

    fn carrier_takes(&self, world: &mut World, id: Id) -> Option<()> {
        let attempt = world.attempt(id)?.clone();
        self.request_arrives(world, id);
        let call = u8::try_from(world.calls.len()).ok()?;
        world.calls.push(Call {
            attempt: id,
            job: attempt.job,
            phase: Phase::Ringing,
            listed: false,
            says_initiated: !self.faults.plain_carrier,
            says_completed: false,
        });
        Self::judge_new_call(world, &attempt);
        answer(world, id, Answer::Taken(call));
        Some(())
    }

    fn carrier_refuses(&self, world: &mut World, id: Id) -> Option<()> {
        world.requests.retain(|request| *request != id);
        answer(world, id, Answer::Refused);
        Some(())
    }

    /// Somebody answers, and the carrier asks what the call is to say.
    fn picks_up(&self, world: &mut World, call: u8) -> Option<()> {
        let id = world.calls[usize::from(call)].attempt;
        let wanted = world.row(id).is_some_and(|attempt| attempt.state.is_open() && !attempt.hangup);
        if wanted {
            return None;
        }
        if self.guards.fence {
            hang_up(world, call);
        } else {
            world.calls[usize::from(call)].phase = Phase::Answered;
            world.broken.spoke = true;
        }
        Some(())
    }

    fn initiated(&self, world: &mut World, call: u8) -> Option<()> {
        let id = world.calls[usize::from(call)].attempt;
        self.fits(world, id, call)?;
        let attempt = world.row_mut(id)?;
        if !attempt.state.is_open() {
            // Only without a rank does it come back to life.
            (attempt.state, attempt.call) = (State::Initiated, Some(call));
            world.broken.final_changed = true;
        } else if attempt.state < State::Initiated {
            (attempt.state, attempt.call, attempt.soft) = (State::Initiated, Some(call), true);
        }
        Some(())
    }

    fn completed(&self, world: &mut World, call: u8) -> Option<()> {
        let id = world.calls[usize::from(call)].attempt;
        if !self.guards.release_by_id && !world.gate.is_empty() {
            world.gate.remove(0);
        }
        if self.fits(world, id, call).is_some()
            && let Some(attempt) = world.row_mut(id).filter(|attempt| attempt.state.is_open())
        {
            attempt.call = Some(call);
            self.end(world, id);
        }
        Some(())
    }

    /// True where an event of this call may move the attempt; a call that it does not answer for is hung up.
    fn fits(&self, world: &mut World, id: Id, call: u8) -> Option<()> {
        let attempt = world.row(id)?;
        let (state, known) = (attempt.state, attempt.call);
        if known.is_some_and(|known| known != call)
            || matches!(state, State::Refused | State::NotSent | State::NotPlaced)
        {
            hang_up(world, call);
            return None;
        }
        let moves = state.is_open() || !self.guards.callback_rank;
        (moves && !is_bound(world, call, id)).then_some(())
    }

    fn grows(&self, world: &mut World, id: Id) -> Option<()> {
        let attempt = world.attempt(id)?;
        let referred = world.workers.iter().any(|worker| worker.id() == Some(id));
        let held = attempt.stored && attempt.state.is_open();
        if !referred && !held {
            return None;
        }
        let next = match attempt.age {
            Age::Fresh => Age::Late,
            // 5 s until the send and 10 s until its answer are less than 80 s, and so is the lag of the lists.
            Age::Late => {
                let bounded = self.guards.claim_age && !self.faults.long_stop;
                let sending = bounded && world.workers.contains(&Worker::Checked(id));
                let lagging = world.calls.iter().any(|call| call.attempt == id && !call.listed);
                if sending || lagging || world.requests.contains(&id) {
                    return None;
                }
                Age::Old
            }
            Age::Old => return None,
        };
        world.attempts[usize::from(id)].as_mut()?.age = next;
        Some(())
    }

    /// The reconciler asks the carrier about an attempt and applies what it says.
    fn looks(&self, world: &mut World, id: Id) -> Option<()> {
        let attempt = world.row(id).filter(|attempt| attempt.state.is_open())?.clone();
        if let Some(known) = attempt.call {
            let call = &world.calls[usize::from(known)];
            let gone = !self.guards.absence_holds && attempt.age > Age::Fresh && !call.listed;
            return (call.phase == Phase::Ended || gone).then(|| self.end(world, id));
        }
        let from = if attempt.state == State::Intent { Age::Old } else { Age::Late };
        if attempt.age < from {
            return None;
        }
        let shown = |(at, call): &(u8, &Call)| {
            call.listed && self.same_number(call.job, attempt.job) && !is_bound(world, *at, id)
        };
        let found = (0..).zip(&world.calls).find(shown).map(|(at, call)| (at, call.phase));
        match found {
            Some((call, phase)) => {
                let row = world.row_mut(id)?;
                (row.state, row.call, row.soft) = (State::Placed, Some(call), true);
                if phase == Phase::Ended {
                    self.end(world, id);
                }
            }
            None if self.guards.two_looks && !attempt.looked => world.row_mut(id)?.looked = true,
            None if self.guards.two_looks && attempt.age < Age::Old => return None,
            None => self.close(world, id, State::NotPlaced),
        }
        Some(())
    }
}

/// True where another attempt of the ledger answers for this call.
fn is_bound(world: &World, call: u8, but: Id) -> bool {
    world.rows().any(|(id, attempt)| id != but && attempt.call == Some(call))
}

/// The call is over; its last callback is on its way.
fn hang_up(world: &mut World, call: u8) {
    let call = &mut world.calls[usize::from(call)];
    if call.phase != Phase::Ended {
        (call.phase, call.says_completed) = (Phase::Ended, true);
    }
}

/// Answers, where somebody still waits for it.
fn answer(world: &mut World, id: Id, answer: Answer) {
    if world.workers.contains(&Worker::Waiting(id)) {
        world.forget_answer(id);
        world.answers.push((id, answer));
    }
}
