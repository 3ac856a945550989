//! The pass figures: how long things took, beside whether they were right.

use rollcall::sim::Status;

use crate::{
    client::{LONG_LIST, number},
    evidence::{Evidence, attempt_of, ended_ms},
};

/// A figure that some trial must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Longest time without a POST while some business had a due job, a free line and a slot free by the ledger, s.
    Gap,
    /// From the return of Redis or Postgres to the next POST, s; the longest of all.
    Resume,
    /// From the end of the last fault until everything was over, s.
    Settle,
    /// From the end of a call whose end callback was lost until its slot was free, s; the longest.
    SlotFreed,
    /// Creates per second while all callbacks were lost, of those before; at least.
    LossThroughput,
    /// From a POST that was accepted and not clearly answered until the ledger knew its call, s; the longest.
    DoubtResolved,
    /// Replicas that ended by themselves.
    EndedAlone,
    /// 5xx but 503 to the client.
    Broken,
    /// 503 without `Retry-After`.
    WithoutRetryAfter,
    /// 99 of 100 callbacks of the storm were answered within, ms.
    StormP99,
    /// Callbacks of the storm that were answered with 5xx, or not.
    StormBroken,
    /// Callbacks per second that the storm reached; at least.
    StormRate,
    /// What the storm added to the memory of the apis, MiB.
    Memory,
    /// What the programs that were never killed grew by in a minute of a soak, after its first turn, MiB.
    MemorySlope,
    /// Keys of Redis that nothing ends, beyond those before the first call of a soak, when all is over.
    KeysLeft,
    /// From the start of the long list to its first POST, s.
    FirstDial,
    /// Attempts in doubt at the end of their lives: `unknown` at some time.
    Unknown,
    /// Calls that left a frozen process too late. Never judged; the protocol's exception.
    Late,
    /// Longest time between two looks of the trial itself, s. Never judged: what stood still here judges no other figure.
    StoodStill,
}

impl Figure {
    /// What it says in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap, s",
            Self::Resume => "resume after a store returned, s",
            Self::Settle => "all over after the last fault, s",
            Self::SlotFreed => "slot freed after a lost end, s",
            Self::LossThroughput => "throughput at 100 % loss, of normal",
            Self::DoubtResolved => "doubt resolved, s",
            Self::EndedAlone => "replicas that ended by themselves",
            Self::Broken => "5xx but 503 to the client",
            Self::WithoutRetryAfter => "503 without Retry-After",
            Self::StormP99 => "storm ack p99, ms",
            Self::StormBroken => "storm callbacks not answered well",
            Self::StormRate => "storm callbacks per second",
            Self::Memory => "memory added by the storm, MiB",
            Self::MemorySlope => "memory added in a minute, MiB",
            Self::KeysLeft => "keys of Redis added for good",
            Self::FirstDial => "first dial of the long list, s",
            Self::Unknown => "attempts that were in doubt",
            Self::Late => "late calls (hung up unheard)",
            Self::StoodStill => "longest pause of the trial itself, s",
        }
    }

    /// True where more is better.
    fn at_least(self) -> bool {
        matches!(self, Self::LossThroughput | Self::StormRate)
    }

    /// True where this value is within this bound.
    pub(crate) fn holds(self, value: f64, bound: f64) -> bool {
        if self.at_least() { value >= bound } else { value <= bound }
    }

    /// The bound as a person reads it.
    pub(crate) fn bound_text(self, bound: f64) -> String {
        format!("{} {bound}", if self.at_least() { "≥" } else { "≤" })
    }
}

/// What happened when, besides what the logs say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// A store came back, Unix ms.
    pub(crate) back: Vec<i64>,
    /// A phase began, Unix ms.
    pub(crate) phases: Vec<(i64, &'static str)>,
    pub(crate) settle_secs: Option<f64>,
    pub(crate) ended_alone: Vec<String>,
    pub(crate) long_list_at: Option<i64>,
    pub(crate) storm: Option<crate::storm::Storm>,
    pub(crate) memory_mib: Option<f64>,
    /// What a soak noted, the last after all was over.
    pub(crate) weights: Vec<crate::soak::Weight>,
}

/// Every figure that this trial has a value for.
pub(crate) fn figures(e: &Evidence, marks: &Marks) -> Vec<(Figure, f64)> {
    let mut found = vec![
        (Figure::Gap, Some(gap(e))),
        (Figure::Resume, resume(e, marks)),
        (Figure::Settle, marks.settle_secs),
        (Figure::SlotFreed, slot_freed(e)),
        (Figure::LossThroughput, loss_throughput(e, marks)),
        (Figure::DoubtResolved, doubt_resolved(e)),
        (Figure::EndedAlone, Some(marks.ended_alone.len() as f64)),
        (Figure::Broken, Some(e.answers.broken as f64)),
        (Figure::WithoutRetryAfter, Some(e.answers.without_retry_after as f64)),
        (Figure::FirstDial, first_dial(e, marks)),
        (Figure::Memory, marks.memory_mib),
        (Figure::MemorySlope, memory_slope(marks)),
        (Figure::KeysLeft, keys_left(marks)),
        (Figure::Unknown, Some(in_doubt(e) as f64)),
        (Figure::Late, Some(e.calls.iter().filter(|call| e.is_late(call)).count() as f64)),
        (Figure::StoodStill, stood_still(e)),
    ];
    if let Some(storm) = &marks.storm {
        found.push((Figure::StormP99, Some(storm.p99_ms)));
        found.push((Figure::StormBroken, Some(storm.broken as f64)));
        found.push((Figure::StormRate, Some(storm.per_second)));
    }
    found.into_iter().filter_map(|(figure, value)| Some((figure, value?))).collect()
}

fn secs(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn memory_slope(marks: &Marks) -> Option<f64> {
    let [_, first, last, _] = marks.weights[..] else { return None };
    Some((last.memory_mib - first.memory_mib) / secs(last.at_ms - first.at_ms) * 60.0)
}

fn keys_left(marks: &Marks) -> Option<f64> {
    let [before, .., over] = marks.weights[..] else { return None };
    Some(over.keys.saturating_sub(before.keys) as f64)
}

fn stood_still(e: &Evidence) -> Option<f64> {
    e.seen.samples.windows(2).map(|two| secs(two[1].at_ms - two[0].at_ms)).reduce(f64::max)
}

fn gap(e: &Evidence) -> f64 {
    let mut posts: Vec<i64> = e.log.iter().map(|entry| entry.at_ms).collect();
    posts.sort_unstable();
    let (mut longest, mut since) = (0, None);
    for sample in &e.seen.samples {
        if sample.dialable != Some(true) {
            since = None;
            continue;
        }
        let began = *since.get_or_insert(sample.at_ms);
        let last = posts.partition_point(|at| *at <= sample.at_ms).checked_sub(1).map_or(began, |place| posts[place]);
        longest = longest.max(sample.at_ms - last.max(began));
    }
    secs(longest)
}

/// Where every slot was still held when the store came back, from the moment on when one was free by the ledger. A return after
/// which nothing was sent before the next one says nothing: the store was away again.
fn resume(e: &Evidence, marks: &Marks) -> Option<f64> {
    let one = |at: &i64| {
        let mut looks = e.seen.samples.iter().filter(|look| look.at_ms >= *at && look.dialable.is_some()).peekable();
        let from = if looks.peek()?.dialable == Some(true) {
            *at
        } else {
            looks.find(|look| look.dialable == Some(true))?.at_ms
        };
        let first = e.log.iter().map(|entry| entry.at_ms).filter(|post| *post >= from).min().unwrap_or(i64::MAX / 2);
        let over = marks.back.iter().all(|next| *next <= *at || *next > first);
        over.then(|| secs(first - from))
    };
    marks.back.iter().filter_map(one).reduce(f64::max)
}

fn slot_freed(e: &Evidence) -> Option<f64> {
    let lost = e.calls.iter().filter(|call| {
        let mut ends = call.callbacks.iter().filter(|one| one.status == call.status.word()).peekable();
        ends.peek().is_some() && ends.all(|one| one.error.as_deref() == Some("lost"))
    });
    let freed = lost.filter_map(|call| {
        let closing = e.attempt(call.token.as_deref())?.moves.iter().find(|one| one.closes())?.at_ms;
        Some(secs(closing - ended_ms(call)?))
    });
    freed.reduce(f64::max)
}

fn loss_throughput(e: &Evidence, marks: &Marks) -> Option<f64> {
    let phase = |name: &str| marks.phases.iter().find(|(_, phase)| *phase == name).map(|(at, _)| *at);
    let (normal, loss, end) = (phase("normal")?, phase("loss")?, phase("end")?);
    let rate = |from: i64, to: i64| {
        let ended = e.calls.iter().filter_map(ended_ms).filter(|at| (from..to).contains(at)).count();
        ended as f64 / secs(to - from)
    };
    Some(rate(loss, end) / rate(normal, loss))
}

/// The faults of a create that leave a call and no clear answer.
const UNANSWERED: [&str; 4] =
    ["http_500_after_accept", "timeout_after_accept", "reset_after_accept", "garbage_after_accept"];

fn doubt_resolved(e: &Evidence) -> Option<f64> {
    let doubted = e.log.iter().filter(|entry| UNANSWERED.contains(&entry.verdict.as_str()));
    let resolved = doubted.filter_map(|entry| {
        let attempt = e.attempts.get(&attempt_of(entry.token.as_deref())?)?;
        let known = attempt.moves.iter().find(|one| one.to != "unknown")?;
        Some(secs(known.at_ms - entry.at_ms))
    });
    resolved.reduce(f64::max)
}

fn first_dial(e: &Evidence, marks: &Marks) -> Option<f64> {
    let at = marks.long_list_at?;
    // All numbers are equally long.
    let first = number(LONG_LIST);
    e.log.iter().filter(|entry| entry.to >= first).map(|entry| entry.at_ms).min().map(|post| secs(post - at))
}

fn in_doubt(e: &Evidence) -> usize {
    e.attempts.values().filter(|attempt| attempt.moves.iter().any(|one| one.to == "unknown")).count()
}

/// How many calls were completed, for the table.
pub(crate) fn completed(e: &Evidence) -> usize {
    e.calls.iter().filter(|call| call.status == Status::Completed).count()
}
