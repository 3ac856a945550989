//! The protocol as a state machine: which steps may come next, and what each of them does.

use stateright::{Model, Property};

use crate::{
    guards::{Faults, Guards},
    state::{Age, Answer, Attempt, Id, JobState, MOST_DIALS, Phase, Size, State, Worker, World},
};

/// The promises, by the names of ARCHITECTURE.md.
pub(crate) const I1: &str = "I1: nobody is called twice for one job";
pub(crate) const I2: &str = "I2: never more live calls than the limit";
pub(crate) const I3: &str = "I3: at rest every job is final and nothing is held";
pub(crate) const I4: &str = "I4: a final state never changes";
pub(crate) const I6: &str = "I6: a call that nobody answers for never speaks";
pub(crate) const I7: &str = "I7: after a cancel nothing is sent that it did not list";

/// A protocol, its surroundings, and what may happen in them.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) size: Size,
    pub(crate) guards: Guards,
    pub(crate) faults: Faults,
}

/// One step of somebody. A worker is named by its place, a call by its place at the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    // A worker.
    Take(usize),
    GiveBack(usize),
    Count(usize),
    Claim(usize),
    Check(usize),
    GiveUp(usize),
    Send(usize),
    Receive(usize),
    TimeOut(usize),
    // Any process.
    Look(Id),
    Evict(Id),
    Add(Id),
    Ring,
    FinishCancel,
    // The carrier.
    Accept(Id),
    Refuse(Id),
    List(u8),
    PickUp(u8),
    End(u8),
    Initiated(u8),
    Completed(u8),
    // Time.
    Grow(Id),
    // Faults.
    Drop(Id),
    LoseInitiated(u8),
    LoseCompleted(u8),
    Die(usize),
    Wipe,
    Crash,
    LoseCommit(usize),
    LoseAnswerOfCommit(usize),
    LoseBell,
    Lower,
    Cancel,
    Forge(Id),
    // What only a protocol with a guard left out does.
    Expire(Id),
    Reap(Id),
    FreeByHangUp(Id),
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.size)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.progress(world, steps);
        self.trouble(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take_step(&mut next, step)?;
        next.workers.sort_unstable();
        next.gate.sort_unstable();
        next.requests.sort_unstable();
        if self.guards.may_forget() {
            self.forget(&mut next);
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I1, |_, world: &World| !world.broken.called_twice),
            Property::always(I2, |_, world: &World| !world.broken.over_limit),
            Property::always(I3, |model: &Self, world: &World| world.is_settled() || model.goes_on(world)),
            Property::always(I4, |_, world: &World| !world.broken.final_changed),
            Property::always(I6, |_, world: &World| !world.broken.spoke),
            Property::always(I7, |_, world: &World| !world.broken.sent_after_cancel),
        ]
    }
}

impl Protocol {
    /// True where something happens by itself. A look at a business that has nothing to claim is nothing: it may repeat for ever.
    fn goes_on(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        self.progress(world, &mut steps);
        steps.into_iter().any(|step| {
            let idle = matches!(step, Step::Take(_)) && !self.is_claimable(world);
            !idle && self.next_state(world, step).is_some()
        })
    }

    /// What the programs, the carrier and time do.
    fn progress(&self, world: &World, steps: &mut Vec<Step>) {
        for (at, worker) in world.workers.iter().enumerate() {
            match worker {
                Worker::Idle => steps.push(Step::Take(at)),
                Worker::Held(..) if self.guards.count_in_lock => steps.extend([Step::Claim(at), Step::GiveBack(at)]),
                Worker::Held(..) => steps.extend([Step::Count(at), Step::GiveBack(at)]),
                Worker::Counted(..) => steps.extend([Step::Claim(at), Step::GiveBack(at)]),
                Worker::Claimed(_) => steps.extend([Step::Check(at), Step::GiveUp(at)]),
                Worker::Checked(_) => steps.extend([Step::Send(at), Step::GiveUp(at)]),
                Worker::Waiting(_) => steps.extend([Step::Receive(at), Step::TimeOut(at)]),
            }
        }
        for id in &world.requests {
            steps.push(Step::Accept(*id));
            if !self.faults.plain_carrier {
                steps.push(Step::Refuse(*id));
            }
        }
        for (at, call) in (0..).zip(&world.calls) {
            if call.phase != Phase::Ended {
                steps.extend([Step::End(at), Step::PickUp(at)]);
            }
            if !call.listed {
                steps.push(Step::List(at));
            }
            if call.says_initiated {
                steps.push(Step::Initiated(at));
            }
            if call.says_completed {
                steps.push(Step::Completed(at));
            }
        }
        for (id, _) in (0..).zip(&world.attempts).filter(|(_, attempt)| attempt.is_some()) {
            steps.push(Step::Grow(id));
            if self.guards.reconciler {
                steps.push(Step::Look(id));
            }
        }
        if self.guards.sweep {
            steps.extend(world.gate.iter().map(|(id, _)| Step::Evict(*id)));
            steps.extend(world.open().map(|(id, _)| Step::Add(id)));
        }
        if self.faults.lost_bells && self.guards.sweep_rings {
            steps.push(Step::Ring);
        }
        if world.cancelled {
            steps.push(Step::FinishCancel);
        }
    }

    /// What goes wrong, and what people do.
    fn trouble(&self, world: &World, steps: &mut Vec<Step>) {
        let (faults, guards) = (self.faults, self.guards);
        if !faults.plain_carrier {
            steps.extend(world.requests.iter().map(|id| Step::Drop(*id)));
        }
        for (at, call) in (0..).zip(&world.calls) {
            if call.says_initiated {
                steps.push(Step::LoseInitiated(at));
            }
            if call.says_completed {
                steps.push(Step::LoseCompleted(at));
            }
        }
        if faults.cancel && !world.cancelled {
            steps.push(Step::Cancel);
        }
        for (id, attempt) in world.open() {
            if !guards.verified && faults.forged {
                steps.push(Step::Forge(id));
            }
            if !guards.proven_end && attempt.age > Age::Fresh {
                steps.push(Step::Expire(id));
            }
            if !guards.owner_closes && attempt.state == State::Intent {
                steps.push(Step::Reap(id));
            }
            if !guards.hangup_holds && attempt.hangup && attempt.call.is_some() {
                steps.push(Step::FreeByHangUp(id));
            }
        }
        if faults.lost_bells && world.bell {
            steps.push(Step::LoseBell);
        }
        if world.faults == 0 {
            return;
        }
        for (at, worker) in world.workers.iter().enumerate() {
            if faults.deaths && *worker != Worker::Idle {
                steps.push(Step::Die(at));
            }
            if faults.lost_commits && matches!(worker, Worker::Held(..)) {
                steps.extend([Step::LoseCommit(at), Step::LoseAnswerOfCommit(at)]);
            }
        }
        if faults.wipes && !world.gate.is_empty() {
            steps.push(Step::Wipe);
        }
        if faults.crashes {
            steps.push(Step::Crash);
        }
        if faults.lowered && world.limit > 1 {
            steps.push(Step::Lower);
        }
    }

    /// True where what is not flushed may still be lost.
    pub(crate) fn may_crash(&self, world: &World) -> bool {
        self.faults.crashes && world.faults > 0
    }

    /// The job that a claim would take now.
    pub(crate) fn claimable_job(&self, world: &World) -> Option<u8> {
        let number = |job: u8| if self.faults.same_number { 0 } else { job };
        (0..).zip(&world.jobs).find_map(|(at, job)| {
            let due = job.state == JobState::Queued
                || (!self.guards.job_index && job.state == JobState::Dialing && job.dials < MOST_DIALS);
            let stopped = self.guards.run_in_claim && world.cancelled && at == 0;
            let busy = self.guards.number_index && world.open().any(|(_, open)| number(open.job) == number(at));
            (due && !stopped && !busy).then_some(at)
        })
    }

    /// True where the ledger has room for one more.
    pub(crate) fn has_room(&self, world: &World) -> bool {
        !self.guards.count || world.open().count() < usize::from(world.limit)
    }

    fn is_claimable(&self, world: &World) -> bool {
        self.claimable_job(world).is_some() && self.has_room(world)
    }

    /// True where this slot may be taken by a claim.
    pub(crate) fn is_free(&self, world: &World, slot: u8) -> bool {
        !self.guards.slot_index || (slot <= world.limit && world.open().all(|(_, open)| open.slot != slot))
    }

    /// True where the two attempts dial one number.
    pub(crate) fn same_number(&self, one: u8, other: u8) -> bool {
        self.faults.same_number || one == other
    }

    /// Writes down a call that the carrier takes now.
    pub(crate) fn judge_new_call(world: &mut World, attempt: &Attempt) {
        world.broken.called_twice |= world.calls.iter().filter(|call| call.job == attempt.job).count() > 1;
        world.broken.over_limit |= world.live_calls() > usize::from(attempt.limit);
    }

    /// Closes an attempt that never became a call.
    pub(crate) fn close(&self, world: &mut World, id: Id, state: State) {
        let Some(attempt) = world.row_mut(id).filter(|attempt| attempt.state.is_open()) else { return };
        attempt.state = state;
        let (job, hangup) = (usize::from(attempt.job), attempt.hangup);
        let again = (self.guards.requeue || state != State::NotPlaced) && world.jobs[job].dials < MOST_DIALS;
        let then = if hangup {
            JobState::Cancelled
        } else if again {
            JobState::Queued
        } else {
            JobState::Failed
        };
        world.flush();
        self.settle(world, id, then);
    }

    /// Closes an attempt whose call is over, or is said to be. Everybody sees that before it is flushed.
    pub(crate) fn end(&self, world: &mut World, id: Id) {
        let Some(attempt) = world.row_mut(id).filter(|attempt| attempt.state.is_open()) else { return };
        attempt.state = State::Ended;
        attempt.soft = true;
        self.settle(world, id, JobState::Done);
    }

    fn settle(&self, world: &mut World, id: Id, then: JobState) {
        let Some(job) = world.attempt(id).map(|attempt| usize::from(attempt.job)) else { return };
        if world.jobs[job].state == JobState::Dialing {
            world.jobs[job].state = then;
        }
        // With a sweep the release is a step of its own: whoever closes may die before it.
        if !self.guards.sweep && self.guards.release_by_id {
            world.gate.retain(|(holder, _)| *holder != id);
        }
        world.bell = true;
    }
}

impl World {
    /// Every job is final and nothing is held.
    fn is_settled(&self) -> bool {
        self.jobs.iter().all(|job| !matches!(job.state, JobState::Queued | JobState::Dialing))
            && self.open().next().is_none()
            && self.gate.is_empty()
            && self.live_calls() == 0
            && self.requests.is_empty()
            && self.workers.iter().all(|worker| *worker == Worker::Idle)
    }

    /// Forgets the answer that nobody waits for.
    pub(crate) fn forget_answer(&mut self, id: Id) {
        self.answers.retain(|(to, _)| *to != id);
    }

    /// The answer to this attempt's request, taken out.
    pub(crate) fn take_answer(&mut self, id: Id) -> Option<Answer> {
        let at = self.answers.iter().position(|(to, _)| *to == id)?;
        Some(self.answers.remove(at).1)
    }
}
