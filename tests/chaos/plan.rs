//! What a trial is made of: an installation, a client's load, and steps of faults in the order of their times.

use std::time::Duration;

use rollcall::{
    ops::children::Stop,
    sim::{ApiFault, CallbackFault, CreateFault, Rule},
};

use crate::{
    figures::Figure,
    proxy::Weather,
    site::{Terms, Who},
};

/// A trial.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// As `ROW=` takes it.
    pub(crate) name: String,
    /// The fault in words.
    pub(crate) what: String,
    pub(crate) terms: Terms,
    pub(crate) load: Load,
    /// From the first job to the end of the last fault.
    pub(crate) lasts: Duration,
    pub(crate) steps: Vec<Step>,
    /// So long after the last fault everything must be over.
    pub(crate) patience: Duration,
    /// A replica may be frozen for longer than every grace: what it sends too late is the protocol's only exception.
    pub(crate) may_be_late: bool,
    /// What figures must be at most, or at least where the figure is one of those.
    pub(crate) bounds: Vec<(Figure, f64)>,
    /// Statements that break the schema on purpose before anything dials.
    pub(crate) broken: Vec<String>,
    /// Postgres keeps its data on a disk that can be filled.
    pub(crate) small_disk: bool,
}

/// What the client does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) tenants: usize,
    /// Slots of each.
    pub(crate) slots: usize,
    /// Lines of all.
    pub(crate) lines: usize,
    /// Numbers of the first run of each.
    pub(crate) jobs: usize,
    /// Pauses, cancels, suppressions, small runs and single calls besides.
    pub(crate) moves: bool,
    /// Numbers of one more run, uploaded before the clock starts and started with it.
    pub(crate) long_list: usize,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Since the first job.
    pub(crate) at: Duration,
    pub(crate) act: Act,
}

/// What happens.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// kill -9, and another one at once.
    Kill(Who),
    Freeze(Who),
    Thaw(Who),
    /// When it stands still at its killpoint, and longer than every grace after that.
    ThawLate(Who),
    /// SIGTERM, and another one when it has drained.
    Roll(Who),
    /// SIGTERM for good.
    Leave(Who),
    Join(Who),
    RedisKill,
    /// Forgets what Redis has on disk, while it is down.
    RedisForget,
    /// Keeps what Redis has on disk, to be put back by the next `RedisRecall`.
    RedisKeep,
    /// Puts back, while it is down, what was kept.
    RedisRecall,
    RedisStart,
    RedisFreeze,
    RedisThaw,
    RedisFlush,
    PostgresStop(Stop),
    PostgresStart,
    DiskFill,
    DiskFree,
    /// One worker sees another time: libfaketime's words for it.
    Clock(Who, &'static str),
    /// The clock of that worker jumps.
    ClockJump(&'static str),
    Weather(Road, Weather),
    Creates(Vec<Rule<CreateFault>>),
    Callbacks(Vec<Rule<CallbackFault>>),
    /// Lists and fetches.
    Looks(Vec<Rule<ApiFault>>),
    HangUps(Vec<Rule<ApiFault>>),
    Storm {
        per_second: u32,
        secs: u32,
    },
    /// Tasks in the queue that are none of ours.
    Poison(usize),
    /// So many requests at once.
    Crowd(usize),
    /// A person runs this.
    Ops(&'static [&'static str]),
    /// A figure counts from here.
    Phase(&'static str),
    /// What the programs and Redis hold is noted.
    Weigh,
}

/// A road with a fault proxy on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Road {
    Door,
    Postgres,
    Redis,
    Carrier,
}

/// How fast the protocol's times are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// As in production.
    Real,
    /// A twentieth, in the same proportions.
    Scaled,
}

impl Times {
    /// The settings of these times.
    pub(crate) fn settings(self) -> Vec<(&'static str, String)> {
        if self == Self::Real {
            return Vec::new();
        }
        [
            ("CLAIM_MAX_AGE_MS", 1_000),
            ("POST_TIMEOUT_MS", 1_500),
            ("INTENT_GRACE_MS", 3_000),
            ("FIRST_EMPTY_LOOK_MS", 800),
            ("SECOND_EMPTY_LOOK_MS", 2_000),
            ("EMPTY_LOOKS_APART_MS", 1_000),
            ("LOOK_GIVE_UP_MS", 4_000),
            ("LIVE_LOOK_MS", 500),
            ("LIVE_LOOK_FAST_MS", 200),
            ("SILENT_AFTER_MS", 300),
            ("REFUSED_RETRY_MS", 2_000),
        ]
        .map(|(name, ms)| (name, ms.to_string()))
        .to_vec()
    }
}

/// Longer than every grace of the scaled times together.
pub(crate) const BEYOND_GRACE: f64 = 6.0;

impl Plan {
    /// An installation of two apis and three workers with a load that lasts, and no fault yet.
    pub(crate) fn quiet(name: &str, what: &str, seed: u64, secs: u32, times: Times) -> Self {
        let load = Load { tenants: 5, slots: 3, lines: 13, jobs: 0, moves: false, long_list: 0 };
        let carrier = [
            ("--dial-ms", "20"),
            ("--ring-ms", "50..250"),
            ("--talk-ms", "300..1500"),
            ("--accept-delay-ms", "20..60"),
            ("--list-lag-ms", "300"),
            ("--answered", "0.7"),
            ("--busy", "0.1"),
            ("--no-answer", "0.1"),
            ("--failed", "0.1"),
        ];
        let mut settings = times.settings();
        settings.push(("MAX_CONCURRENT_CALLS", load.lines.to_string()));
        let terms = Terms {
            seed,
            carrier: carrier.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect(),
            settings,
            of_one: Vec::new(),
            workers: 3,
            both_carriers: false,
        };
        // 13 lines and calls of about a second.
        let jobs = (secs as usize * load.lines).div_ceil(load.tenants);
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            terms,
            load: Load { jobs, ..load },
            lasts: Duration::from_secs(u64::from(secs)),
            steps: Vec::new(),
            patience: Duration::from_secs(if times == Times::Real { 240 } else { 60 }),
            may_be_late: false,
            bounds: vec![(Figure::EndedAlone, 0.0)],
            broken: Vec::new(),
            small_disk: false,
        }
    }

    /// Adds a step.
    pub(crate) fn at(&mut self, secs: f64, act: Act) -> &mut Self {
        self.steps.push(Step { at: Duration::from_secs_f64(secs.max(0.0)), act });
        self
    }

    /// Adds what a figure must be.
    pub(crate) fn bound(&mut self, figure: Figure, value: f64) -> &mut Self {
        self.bounds.push((figure, value));
        self
    }

    /// Replaces a flag of the carrier.
    pub(crate) fn carrier(&mut self, flag: &str, value: &str) -> &mut Self {
        match self.terms.carrier.iter().position(|one| one == flag) {
            Some(at) => value.clone_into(&mut self.terms.carrier[at + 1]),
            None => self.terms.carrier.extend([flag.to_owned(), value.to_owned()]),
        }
        self
    }

    /// The steps in the order of their times.
    pub(crate) fn ordered(&self) -> Vec<Step> {
        let mut steps = self.steps.clone();
        steps.sort_by_key(|step| step.at);
        steps
    }
}
