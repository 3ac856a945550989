//! What the model remembers: the ledger, the gate, the workers, the network and the carrier, each as small as its promises allow.

/// A number of an attempt: also its place in [`World::attempts`].
pub(crate) type Id = u8;

/// Everything at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The list, in Postgres.
    pub(crate) jobs: Vec<Job>,
    /// The ledger, in Postgres, and what is on its way there.
    pub(crate) attempts: Vec<Option<Attempt>>,
    /// Slots of the business.
    pub(crate) limit: u8,
    /// The run of the first job was cancelled, and that was acknowledged.
    pub(crate) cancelled: bool,
    /// Who holds which slot at the gate, in Redis.
    pub(crate) gate: Vec<(Id, u8)>,
    /// A bell is on its way to some worker.
    pub(crate) bell: bool,
    /// Sorted: which worker is which makes no difference.
    pub(crate) workers: Vec<Worker>,
    /// Requests on their way to the carrier, and its answers on their way back.
    pub(crate) requests: Vec<Id>,
    pub(crate) answers: Vec<(Id, Answer)>,
    /// Every call that the carrier ever took.
    pub(crate) calls: Vec<Call>,
    /// Faults that may still come.
    pub(crate) faults: u8,
    /// What must never have happened.
    pub(crate) broken: Broken,
}

/// One number of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) state: JobState,
    pub(crate) dials: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobState {
    Queued,
    Dialing,
    Done,
    Failed,
    Cancelled,
}

/// One dial of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) job: u8,
    pub(crate) slot: u8,
    /// The limit that was in force when it was claimed.
    pub(crate) limit: u8,
    pub(crate) state: State,
    pub(crate) age: Age,
    /// The row is in Postgres.
    pub(crate) stored: bool,
    /// Its state is not flushed: a crash of Postgres takes it back.
    pub(crate) soft: bool,
    /// The call that it answers for, by its place in [`World::calls`].
    pub(crate) call: Option<u8>,
    /// The carrier was asked once and showed nothing.
    pub(crate) looked: bool,
    /// A cancel listed it.
    pub(crate) hangup: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    Intent,
    Unknown,
    Placed,
    Initiated,
    Ended,
    Refused,
    NotSent,
    NotPlaced,
}

impl State {
    pub(crate) fn is_open(self) -> bool {
        self < Self::Ended
    }
}

/// How old an attempt is, in the steps that the protocol's times make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Age {
    /// At most 5 s: its worker may still send it.
    Fresh,
    /// At least 20 s: a look that finds nothing counts as the first.
    Late,
    /// At least 80 s: nothing of it is on its way any more, and the carrier lists what it has.
    Old,
}

/// What a worker is doing; nothing of it survives its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Worker {
    Idle,
    /// Holds a slot at the gate.
    Held(Id, u8),
    /// Has counted room for one, and not yet inserted (only where the count is older than the lock).
    Counted(Id, u8),
    /// Its claim was committed.
    Claimed(Id),
    /// It has made its last check and is about to send.
    Checked(Id),
    /// The request has left.
    Waiting(Id),
}

impl Worker {
    pub(crate) fn id(self) -> Option<Id> {
        match self {
            Self::Idle => None,
            Self::Held(id, _) | Self::Counted(id, _) | Self::Claimed(id) | Self::Checked(id) | Self::Waiting(id) => {
                Some(id)
            }
        }
    }
}

/// What the carrier answers to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// 2xx with the id of this call.
    Taken(u8),
    /// A definite refusal.
    Refused,
}

/// A call at the carrier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    /// Whose token its callbacks carry.
    pub(crate) attempt: Id,
    pub(crate) job: u8,
    pub(crate) phase: Phase,
    /// The carrier's lists show it.
    pub(crate) listed: bool,
    /// Callbacks that are on their way or may come again.
    pub(crate) says_initiated: bool,
    pub(crate) says_completed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Ringing,
    Answered,
    Ended,
}

/// What must never have happened; it is written down when it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "one per promise")]
pub(crate) struct Broken {
    /// I1: a person was called twice for one job.
    pub(crate) called_twice: bool,
    /// I2: more live calls than the limit in force when the newest was claimed.
    pub(crate) over_limit: bool,
    /// I4: a final state changed.
    pub(crate) final_changed: bool,
    /// I6: a call of an attempt that is closed or cancelled spoke.
    pub(crate) spoke: bool,
    /// I7: a call was sent after the cancel for an attempt that it had not listed.
    pub(crate) sent_after_cancel: bool,
}

/// The size of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) jobs: usize,
    pub(crate) workers: usize,
    pub(crate) limit: u8,
    pub(crate) faults: u8,
}

/// A job is dialed so often at most; the real limits only make the world bigger.
pub(crate) const MOST_DIALS: u8 = 2;

impl World {
    pub(crate) fn new(size: Size) -> Self {
        Self {
            jobs: vec![Job { state: JobState::Queued, dials: 0 }; size.jobs],
            attempts: vec![None; size.jobs * usize::from(MOST_DIALS)],
            limit: size.limit,
            cancelled: false,
            gate: Vec::new(),
            bell: true,
            workers: vec![Worker::Idle; size.workers],
            requests: Vec::new(),
            answers: Vec::new(),
            calls: Vec::new(),
            faults: size.faults,
            broken: Broken::default(),
        }
    }

    /// The ledger's attempts that are open, with their ids.
    pub(crate) fn open(&self) -> impl Iterator<Item = (Id, &Attempt)> {
        self.rows().filter(|(_, attempt)| attempt.state.is_open())
    }

    /// Every attempt of the ledger, with its id.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Id, &Attempt)> {
        (0..).zip(&self.attempts).filter_map(|(id, attempt)| Some((id, attempt.as_ref().filter(|a| a.stored)?)))
    }

    pub(crate) fn attempt(&self, id: Id) -> Option<&Attempt> {
        self.attempts[usize::from(id)].as_ref()
    }

    pub(crate) fn row(&self, id: Id) -> Option<&Attempt> {
        self.attempt(id).filter(|attempt| attempt.stored)
    }

    pub(crate) fn row_mut(&mut self, id: Id) -> Option<&mut Attempt> {
        self.attempts[usize::from(id)].as_mut().filter(|attempt| attempt.stored)
    }

    /// A commit that waits for the disk takes every commit before it along.
    pub(crate) fn flush(&mut self) {
        self.attempts.iter_mut().flatten().for_each(|attempt| attempt.soft = false);
    }

    pub(crate) fn live_calls(&self) -> usize {
        self.calls.iter().filter(|call| call.phase != Phase::Ended).count()
    }

    /// An id that nobody uses: no row, no holder, no worker.
    pub(crate) fn free_id(&self) -> Option<Id> {
        (0..).zip(&self.attempts).find_map(|(id, attempt)| {
            let used = attempt.is_some()
                || self.gate.iter().any(|(holder, _)| *holder == id)
                || self.workers.iter().any(|worker| worker.id() == Some(id));
            (!used).then_some(id)
        })
    }

    /// The lowest number that the gate has free.
    pub(crate) fn free_slot(&self) -> Option<u8> {
        (1..=self.limit).find(|slot| self.gate.iter().all(|(_, held)| held != slot))
    }
}
