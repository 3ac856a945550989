//! The guards of the protocol, each of which a variant can leave out, and the faults that a world may meet.

/// One flag per guard; the chosen protocol has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per guard")]
pub(crate) struct Guards {
    /// The intent is committed before the request leaves.
    pub(crate) intent_first: bool,
    /// A claim whose commit was not acknowledged is not sent.
    pub(crate) acknowledged: bool,
    /// Intents are flushed before their claim is acknowledged.
    pub(crate) flushed_intents: bool,
    /// The carrier is told of an end after it is flushed; everybody else sees it before.
    pub(crate) flushed_ends: bool,
    /// Claims count the open attempts against the limit.
    pub(crate) count: bool,
    /// They count after they have the lock.
    pub(crate) count_in_lock: bool,
    /// One open attempt per slot, and no slot above the limit.
    pub(crate) slot_index: bool,
    /// One open attempt per job.
    pub(crate) job_index: bool,
    /// One open attempt per number.
    pub(crate) number_index: bool,
    /// Claims look at the state of the run.
    pub(crate) run_in_claim: bool,
    /// A claim older than 5 s is not sent.
    pub(crate) claim_age: bool,
    /// A request is sent once, whatever became of its connection.
    pub(crate) no_retry: bool,
    /// An answer that is neither 2xx nor a refusal leaves the attempt unknown, and its number alone.
    pub(crate) unknown_held: bool,
    /// Only its owner closes an intent that is younger than 60 s.
    pub(crate) owner_closes: bool,
    /// Only a proven end frees a slot, never time.
    pub(crate) proven_end: bool,
    /// A call that the live list does not show is fetched, not freed.
    pub(crate) absence_holds: bool,
    /// Two empty looks, far enough apart, prove that there is no call.
    pub(crate) two_looks: bool,
    /// An attempt that was not placed gives its number back to the list.
    pub(crate) requeue: bool,
    /// The carrier is asked about what is in doubt or silent.
    pub(crate) reconciler: bool,
    /// A callback never moves an attempt back.
    pub(crate) callback_rank: bool,
    /// Nor does the answer to its request.
    pub(crate) answer_rank: bool,
    /// A callback without signature and token changes nothing.
    pub(crate) verified: bool,
    /// A call of a closed or cancelled attempt is hung up when it is answered.
    pub(crate) fence: bool,
    /// The carrier's answer to a hang-up frees nothing.
    pub(crate) hangup_holds: bool,
    /// The gate is corrected by the ledger, and released by whoever finds a holder without an open attempt.
    pub(crate) sweep: bool,
    /// The sweep rings where work is due.
    pub(crate) sweep_rings: bool,
    /// The gate releases by id.
    pub(crate) release_by_id: bool,
    /// The sweep leaves a holder alone while its worker lives (not in the protocol: it need not know).
    pub(crate) patient_sweep: bool,
}

/// The protocol of PROTOCOL.md.
pub(crate) const CHOSEN: Guards = Guards {
    intent_first: true,
    acknowledged: true,
    flushed_intents: true,
    flushed_ends: true,
    count: true,
    count_in_lock: true,
    slot_index: true,
    job_index: true,
    number_index: true,
    run_in_claim: true,
    claim_age: true,
    no_retry: true,
    unknown_held: true,
    owner_closes: true,
    proven_end: true,
    absence_holds: true,
    two_looks: true,
    requeue: true,
    reconciler: true,
    callback_rank: true,
    answer_rank: true,
    verified: true,
    fence: true,
    hangup_holds: true,
    sweep: true,
    sweep_rings: true,
    release_by_id: true,
    patient_sweep: false,
};

/// Which faults a world may meet, besides those that cost nothing to allow always: callbacks that are lost, doubled and
/// reordered, requests that are lost before or after the carrier took them, answers that nobody waits for any more.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one per fault")]
pub(crate) struct Faults {
    /// Workers die.
    pub(crate) deaths: bool,
    /// Redis is emptied.
    pub(crate) wipes: bool,
    /// Postgres crashes and comes back without what was not flushed.
    pub(crate) crashes: bool,
    /// The answer to a commit is lost, with or without the commit.
    pub(crate) lost_commits: bool,
    /// The limit is lowered by one.
    pub(crate) lowered: bool,
    /// The run of the first job is cancelled.
    pub(crate) cancel: bool,
    /// Bells are lost.
    pub(crate) lost_bells: bool,
    /// A worker is stopped for longer than 45 s between its last check and the send: the one exception to I2.
    pub(crate) long_stop: bool,
    /// Both jobs call one number.
    pub(crate) same_number: bool,
    /// Somebody sends callbacks of their own.
    pub(crate) forged: bool,
    /// The carrier takes every request and says nothing but ends: for worlds that are about something else and would be too big.
    pub(crate) plain_carrier: bool,
}

impl Faults {
    /// Those that are always allowed, and no other.
    pub(crate) const NONE: Self = Self {
        deaths: false,
        wipes: false,
        crashes: false,
        lost_commits: false,
        lowered: false,
        cancel: false,
        lost_bells: false,
        long_stop: false,
        same_number: false,
        forged: false,
        plain_carrier: false,
    };
}

impl Guards {
    /// True where nothing is read again that the chosen protocol does not read again.
    pub(crate) fn may_forget(self) -> bool {
        let keeps = Self {
            count: true,
            slot_index: true,
            number_index: true,
            claim_age: true,
            requeue: true,
            reconciler: true,
            fence: true,
            patient_sweep: false,
            ..self
        };
        keeps == CHOSEN
    }
}
