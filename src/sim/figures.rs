//! What the sandbox counts: per account, per `From` and in total.
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use super::{
    call::Status,
    media::MediaFigures,
    providers::{Provider, ProviderFigures},
    turnaround::{Place, Turnaround},
};

/// The answer of `GET /_figures`. Counts run from the start or the last `DELETE /_figures`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Everything.
    pub total: Scope,
    /// By account SID.
    pub accounts: BTreeMap<String, Scope>,
    /// By caller id, which is how the sandbox tells businesses apart.
    pub froms: BTreeMap<String, Scope>,
    /// Media streams.
    #[serde(default)]
    pub media: MediaFigures,
    /// Voice providers.
    #[serde(default)]
    pub providers: BTreeMap<Provider, ProviderFigures>,
    /// From the first accepted create to the last create or end, ms.
    pub busy_ms: f64,
    /// Accepted creates per second of that span.
    pub calls_per_second: f64,
    /// CPU of the process that holds the sandbox, user and system, ms.
    pub cpu_ms: f64,
    /// The same per accepted create.
    pub cpu_ms_per_call: f64,
}

/// Counts of one account, one caller id, or all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// Creates received, with right credentials.
    pub requests: u64,
    /// From the start, or the last `DELETE /_figures`, to the first of them, ms; none before it.
    pub first_request_ms: Option<f64>,
    /// Creates accepted.
    pub created: u64,
    /// Tokens with more than one accepted create. Must be 0.
    pub created_twice: u64,
    /// Tokens with more than one create received, accepted or not.
    pub requested_twice: u64,
    /// Numbers that one account (for `froms`: one caller id) called more than once.
    pub numbers_called_twice: u64,
    /// Calls ended.
    pub ended: u64,
    /// Calls accepted and not ended, now.
    pub live: u64,
    /// The most of them at once.
    pub most_live: u64,
    /// From the sending of an end callback to the receipt of the create that took its place, ms. Ends and creates
    /// are paired in order; a lost end callback counts from when it should have been sent.
    pub turnaround_ms: Quantiles,
    /// Ended calls by their final state.
    pub final_states: BTreeMap<String, u64>,
    /// Messages that machines recorded: said to their end, and not before the beep.
    #[serde(default)]
    pub voicemails: u64,
    /// Times that a call was put through to another number.
    #[serde(default)]
    pub redirected: u64,
    /// Status callbacks that were answered with 2xx.
    pub callbacks_sent: u64,
    /// Status callbacks that were not, after all tries.
    pub callbacks_failed: u64,
    /// Status callbacks swallowed by a fault.
    pub callbacks_lost: u64,
    /// Creates refused, by the carrier's code (or HTTP status where there is none).
    pub refused: BTreeMap<String, u64>,
}

/// Quantiles in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Samples.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// 95 of 100 are below.
    pub p95: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// The counting behind [`Figures`].
#[derive(Debug)]
pub(crate) struct Tally {
    total: Counts,
    accounts: HashMap<String, Counts>,
    froms: HashMap<String, Counts>,
    /// Requests and accepted creates by token.
    tokens: HashMap<String, (u32, u32)>,
    numbers: HashMap<(String, String), u32>,
    numbers_by_from: HashMap<(String, String), u32>,
    busy: Option<(Instant, Instant)>,
    cpu_at_start_ms: f64,
    begun: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    scope: Scope,
    turnaround: Turnaround,
}

/// Whose call it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) account: &'a str,
    pub(crate) from: &'a str,
}

/// What became of one callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Sent,
    Failed,
    Lost,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            total: Counts::default(),
            accounts: HashMap::new(),
            froms: HashMap::new(),
            tokens: HashMap::new(),
            numbers: HashMap::new(),
            numbers_by_from: HashMap::new(),
            busy: None,
            cpu_at_start_ms: cpu_ms(),
            begun: Instant::now(),
        }
    }

    /// Starts again from zero, but calls that are live stay live.
    pub(crate) fn reset(&mut self) {
        let keep = |counts: &mut Counts| {
            let live = counts.scope.live;
            *counts = Counts { scope: Scope { live, most_live: live, ..Scope::default() }, ..Counts::default() };
        };
        keep(&mut self.total);
        self.accounts.values_mut().for_each(keep);
        self.froms.values_mut().for_each(keep);
        self.tokens.clear();
        self.numbers.clear();
        self.numbers_by_from.clear();
        self.busy = None;
        self.cpu_at_start_ms = cpu_ms();
        self.begun = Instant::now();
    }

    pub(crate) fn requests(&self) -> u64 {
        self.total.scope.requests
    }

    pub(crate) fn created(&self) -> u64 {
        self.total.scope.created
    }

    pub(crate) fn ended(&self) -> u64 {
        self.total.scope.ended
    }

    pub(crate) fn live(&self) -> u64 {
        self.total.scope.live
    }

    pub(crate) fn live_of(&self, account: &str) -> u64 {
        self.accounts.get(account).map_or(0, |counts| counts.scope.live)
    }

    fn each(&mut self, whose: Whose<'_>, mut count: impl FnMut(&mut Scope)) {
        count(&mut self.total.scope);
        count(&mut entry(&mut self.accounts, whose.account).scope);
        count(&mut entry(&mut self.froms, whose.from).scope);
    }

    pub(crate) fn requested(&mut self, whose: Whose<'_>, token: Option<&str>) {
        let twice = token.is_some_and(|token| {
            let seen = self.tokens.entry(token.to_owned()).or_default();
            seen.0 += 1;
            seen.0 == 2
        });
        let since_begin_ms = self.begun.elapsed().as_secs_f64() * 1000.0;
        self.each(whose, |scope| {
            scope.requests += 1;
            scope.first_request_ms.get_or_insert(since_begin_ms);
            scope.requested_twice += u64::from(twice);
        });
    }

    /// A create that was received just now takes the oldest free place, of its caller id and of its account. So the places go in the
    /// order in which creates come, however long each is thought about.
    pub(crate) fn place(&mut self, whose: Whose<'_>) -> Place {
        Place {
            received: Instant::now(),
            of_from: entry(&mut self.froms, whose.from).turnaround.take(),
            of_account: entry(&mut self.accounts, whose.account).turnaround.take(),
        }
    }

    /// It was not accepted: the next one takes its place.
    pub(crate) fn give_back(&mut self, whose: Whose<'_>, place: Place) {
        entry(&mut self.froms, whose.from).turnaround.free_again(place.of_from);
        entry(&mut self.accounts, whose.account).turnaround.free_again(place.of_account);
    }

    pub(crate) fn refused(&mut self, whose: Whose<'_>, code: u32) {
        self.each(whose, |scope| *scope.refused.entry(code.to_string()).or_default() += 1);
    }

    pub(crate) fn accepted(&mut self, whose: Whose<'_>, to: &str, token: Option<&str>, (place, now): (Place, Instant)) {
        let token_twice = token.is_some_and(|token| {
            let seen = self.tokens.entry(token.to_owned()).or_default();
            seen.1 += 1;
            seen.1 == 2
        });
        let number_twice = is_second(&mut self.numbers, whose.account, to);
        let number_twice_by_from = is_second(&mut self.numbers_by_from, whose.from, to);
        self.each(whose, |scope| {
            scope.created += 1;
            scope.created_twice += u64::from(token_twice);
            scope.numbers_called_twice += u64::from(number_twice);
            scope.live += 1;
            scope.most_live = scope.most_live.max(scope.live);
        });
        let of_from = entry(&mut self.froms, whose.from);
        // One caller id may serve several accounts: there the count is its own.
        of_from.scope.numbers_called_twice -= u64::from(number_twice);
        of_from.scope.numbers_called_twice += u64::from(number_twice_by_from);
        if let Some(us) = place.waited_us(place.of_from) {
            of_from.turnaround.sample(us);
            self.total.turnaround.sample(us);
        }
        if let Some(us) = place.waited_us(place.of_account) {
            entry(&mut self.accounts, whose.account).turnaround.sample(us);
        }
        self.busy = Some((self.busy.map_or(now, |(first, _)| first), now));
    }

    pub(crate) fn ended_as(&mut self, whose: Whose<'_>, status: Status, now: Instant) {
        self.each(whose, |scope| {
            scope.ended += 1;
            scope.live = scope.live.saturating_sub(1);
            *scope.final_states.entry(status.word().to_owned()).or_default() += 1;
        });
        self.busy = self.busy.map(|(first, _)| (first, now));
    }

    pub(crate) fn voicemail(&mut self, whose: Whose<'_>) {
        self.each(whose, |scope| scope.voicemails += 1);
    }

    pub(crate) fn redirected(&mut self, whose: Whose<'_>) {
        self.each(whose, |scope| scope.redirected += 1);
    }

    /// An end callback is being sent (or was to be): its slot may be taken from now on.
    pub(crate) fn end_told(&mut self, whose: Whose<'_>, now: Instant) {
        entry(&mut self.accounts, whose.account).turnaround.freed(now);
        entry(&mut self.froms, whose.from).turnaround.freed(now);
    }

    pub(crate) fn callback(&mut self, whose: Whose<'_>, delivery: Delivery) {
        self.each(whose, |scope| match delivery {
            Delivery::Sent => scope.callbacks_sent += 1,
            Delivery::Failed => scope.callbacks_failed += 1,
            Delivery::Lost => scope.callbacks_lost += 1,
        });
    }

    pub(crate) fn figures(&self) -> Figures {
        let busy_ms = self.busy.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64() * 1000.0);
        #[expect(clippy::cast_precision_loss, reason = "a count of calls stays far below 2^52")]
        let created = self.created() as f64;
        let cpu_ms = cpu_ms() - self.cpu_at_start_ms;
        Figures {
            total: self.total.read(),
            accounts: self.accounts.iter().map(|(sid, counts)| (sid.clone(), counts.read())).collect(),
            froms: self.froms.iter().map(|(from, counts)| (from.clone(), counts.read())).collect(),
            media: MediaFigures::default(),
            providers: BTreeMap::new(),
            busy_ms,
            calls_per_second: if busy_ms > 0.0 { created * 1000.0 / busy_ms } else { 0.0 },
            cpu_ms,
            cpu_ms_per_call: if created > 0.0 { cpu_ms / created } else { 0.0 },
        }
    }
}

impl Counts {
    fn read(&self) -> Scope {
        let turnaround_ms = self.turnaround.read();
        Scope { turnaround_ms, ..self.scope.clone() }
    }
}

/// The quantiles of a histogram of µs.
pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    #[expect(clippy::cast_precision_loss, reason = "µs of what is measured here stay far below 2^52")]
    let ms = |us: u64| us as f64 / 1000.0;
    Quantiles {
        count: histogram.len(),
        p50: ms(histogram.value_at_quantile(0.5)),
        p95: ms(histogram.value_at_quantile(0.95)),
        p99: ms(histogram.value_at_quantile(0.99)),
        max: ms(histogram.max()),
    }
}

fn entry<'a>(map: &'a mut HashMap<String, Counts>, name: &str) -> &'a mut Counts {
    map.entry(name.to_owned()).or_default()
}

fn is_second(numbers: &mut HashMap<(String, String), u32>, who: &str, to: &str) -> bool {
    let calls = numbers.entry((who.to_owned(), to.to_owned())).or_default();
    *calls += 1;
    *calls == 2
}

/// CPU time of this process so far; 0 where the system does not say.
fn cpu_ms() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "µs of CPU stay below 2^52 for a century")]
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1000.0)
        .unwrap_or_default()
}
