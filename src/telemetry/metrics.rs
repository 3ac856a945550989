//! Every figure of `/metrics`: its name, what it means, and the one function that moves it.
//!
//! What counts is of this process, and a sum over the processes is the installation's. What has a level is read from the
//! stores when `/metrics` is asked, so it is the same from every process: take the largest, not the sum.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ::metrics::{
    counter, describe_counter as describe_count, describe_gauge as describe_level,
    describe_histogram as describe_times, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::telemetry::voice;

/// Samples of a histogram are put into their buckets at least this often, also where nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of the buckets in seconds. The last bounds of what is promised are among them: 5, 50; 4, 20, 60 ms.
const QUICK: [f64; 15] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const TURNAROUND: [f64; 15] = [0.001, 0.002, 0.004, 0.01, 0.02, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const CARRIER: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

const BELL_TO_POST: &str = "rollcall_bell_to_post_seconds";
const SLOT_TURNAROUND: &str = "rollcall_slot_turnaround_seconds";
const WEBHOOK: &str = "rollcall_webhook_apply_seconds";
const CARRIER_REQUEST: &str = "rollcall_carrier_request_seconds";
const CALLS_ENDED: &str = "rollcall_calls_ended_total";
const CALLS_REJECTED: &str = "rollcall_calls_rejected_total";
const WEBHOOKS_REFUSED: &str = "rollcall_webhooks_refused_total";
const MEDIA_REFUSED: &str = "rollcall_media_refused_total";
const GATE_CORRECTED: &str = "rollcall_gate_corrected_total";
const LINE_WAIT: &str = "rollcall_line_wait_seconds";
const IDLE_SLOTS: &str = "rollcall_idle_slot_seconds_total";

/// Starts the figures of this process and returns what writes them out for `/metrics`.
///
/// # Errors
/// Where figures were started before in this process.
pub fn start() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(BELL_TO_POST.into()), &QUICK)?
        .set_buckets_for_metric(Matcher::Full(SLOT_TURNAROUND.into()), &TURNAROUND)?
        .set_buckets_for_metric(Matcher::Full(LINE_WAIT.into()), &TURNAROUND)?
        .set_buckets_for_metric(Matcher::Full(WEBHOOK.into()), &QUICK)?
        .set_buckets_for_metric(Matcher::Full(CARRIER_REQUEST.into()), &CARRIER)?
        .set_buckets_for_metric(Matcher::Full(voice::TURN.into()), &voice::BOUNDS)?
        .set_buckets_for_metric(Matcher::Full(voice::START.into()), &voice::BOUNDS)?;
    let handle = builder.install_recorder()?;
    describe();
    voice::describe();
    begin_at_zero();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Which of a carrier's two questions to us was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhook {
    /// What became of a call.
    Status,
    /// What an answered call shall hear.
    Answer,
    /// A recording is ready.
    Recording,
}

/// Why a webhook was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its token is not ours.
    Token,
    /// It is not signed, or by somebody else.
    Signature,
    /// The business has no such account.
    Account,
    /// Its body is not the carrier's.
    Body,
}

impl Refused {
    const ALL: [Self; 4] = [Self::Token, Self::Signature, Self::Account, Self::Body];

    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Signature => "signature",
            Self::Account => "account",
            Self::Body => "body",
        }
    }
}

/// What became of a call, or of one that was asked for, that nothing was free for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// It was told so.
    Spoken,
    /// It was put through to another number, told so or not.
    Redirected,
    /// It was refused.
    Rejected,
}

impl TurnedAway {
    const ALL: [Self; 3] = [Self::Spoken, Self::Redirected, Self::Rejected];

    fn as_str(self) -> &'static str {
        match self {
            Self::Spoken => "spoken",
            Self::Redirected => "redirected",
            Self::Rejected => "rejected",
        }
    }
}

/// Nothing was free for a call.
pub fn call_turned_away(how: TurnedAway) {
    counter!(CALLS_REJECTED, "done" => how.as_str()).increment(1);
}

/// From the ring of a bell to the start of a POST that it led to.
pub fn bell_to_post(took: Duration) {
    histogram!(BELL_TO_POST).record(took);
}

/// From the release of a slot to the start of the next POST of its business.
pub fn slot_turnaround(took: Duration) {
    histogram!(SLOT_TURNAROUND).record(took);
}

/// A business with work found no line for so long before the call that it now places.
pub fn line_waited_for(waited: Duration) {
    histogram!(LINE_WAIT).record(waited);
}

/// A webhook was applied and committed.
pub fn webhook_applied(webhook: Webhook, took: Duration) {
    let kind = match webhook {
        Webhook::Status => "status",
        Webhook::Answer => "answer",
        Webhook::Recording => "recording",
    };
    histogram!(WEBHOOK, "kind" => kind).record(took);
}

/// A webhook was refused: nothing of it was believed.
pub fn webhook_refused(why: Refused) {
    counter!(WEBHOOKS_REFUSED, "reason" => why.as_str()).increment(1);
}

/// A carrier was asked for something: how that came out, in a word, and how long it took.
pub fn carrier_asked(carrier: &'static str, request: &'static str, outcome: &'static str, took: Duration) {
    histogram!(CARRIER_REQUEST, "carrier" => carrier, "request" => request, "outcome" => outcome).record(took);
}

/// An attempt was closed with this disposition, or as `requeued`, `not_sent` or `expired`; each closing counts once, in the
/// process that made it.
pub fn call_ended(disposition: &'static str) {
    counter!(CALLS_ENDED, "disposition" => disposition).increment(1);
}

/// Slots stood free for `time` while jobs were due. Whole seconds are counted; what is left over waits for the next time.
pub fn idle_slots(slots: u64, time: Duration) {
    static LEFT_MS: AtomicU64 = AtomicU64::new(0);
    let idle_ms = slots.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let before = LEFT_MS.fetch_add(idle_ms, Ordering::Relaxed);
    let whole = (before.saturating_add(idle_ms)) / 1_000;
    LEFT_MS.fetch_sub(whole * 1_000, Ordering::Relaxed);
    counter!(IDLE_SLOTS).increment(whole);
}

/// A round made the gate agree with the ledger.
pub fn gate_corrected(added: usize, evicted: usize, rebuilt: bool) {
    counter!(GATE_CORRECTED, "change" => "added").increment(added as u64);
    counter!(GATE_CORRECTED, "change" => "evicted").increment(evicted as u64);
    counter!("rollcall_gate_rebuilt_total").increment(u64::from(rebuilt));
}

/// A carrier took a call.
pub fn call_placed() {
    counter!("rollcall_calls_placed_total").increment(1);
}

/// Of a claimed call no byte left.
pub fn call_not_sent() {
    counter!("rollcall_not_sent_total").increment(1);
}

/// A carrier may or may not have a call.
pub fn call_in_doubt() {
    counter!("rollcall_unknown_total").increment(1);
}

/// A carrier refused a call for good.
pub fn call_refused() {
    counter!("rollcall_refused_total").increment(1);
}

/// A call came to light that no open attempt answers for.
pub fn stray_call() {
    counter!("rollcall_stray_calls_total").increment(1);
}

/// A carrier could not be asked about a call.
pub fn look_failed() {
    counter!("rollcall_carrier_looks_failed_total").increment(1);
}

/// The queue's worker ended by itself and was replaced.
pub fn queue_worker_ended() {
    counter!("rollcall_queue_worker_ended_total").increment(1);
}

/// A call was answered too late, and heard nothing.
pub fn answer_fenced() {
    counter!("rollcall_fenced_answers_total").increment(1);
}

/// A media stream was refused, by reason.
pub fn media_refused(why: &'static str) {
    counter!(MEDIA_REFUSED, "why" => why).increment(1);
}

/// The machine that this process runs on, and the process itself.
pub fn machine(memory_percent: f32, cpu_percent: Option<f32>, process_bytes: Option<u64>, process_cpu: Option<f32>) {
    // A tenth of a percent as a person writes it: more digits are those of the narrower type.
    let tenths = |percent: f32| (f64::from(percent) * 10.0).round() / 10.0;
    gauge!("rollcall_machine_memory_percent").set(tenths(memory_percent));
    gauge!("rollcall_machine_cpu_percent").set(cpu_percent.map_or(f64::NAN, tenths));
    gauge!("rollcall_process_memory_bytes").set(process_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    gauge!("rollcall_process_cpu_percent").set(process_cpu.map_or(f64::NAN, tenths));
}

/// The levels of the installation under their names; one that could not be read is not a number.
pub fn levels(levels: &[Level]) {
    for level in levels {
        let value = level.value.unwrap_or(f64::NAN);
        match level.label {
            Some((name, word)) => gauge!(level.name, name => word).set(value),
            None => gauge!(level.name).set(value),
        }
    }
}

/// One level of the installation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Its name.
    pub name: &'static str,
    /// What tells it from others of its name.
    pub label: Option<(&'static str, &'static str)>,
    /// How high it is now.
    pub value: Option<f64>,
}

/// Figures that have not moved yet are there from the start: what appears only at its first event cannot be seen to rise.
fn begin_at_zero() {
    for name in COUNTS.map(|(name, _)| name).iter().filter(|name| !LABELLED.contains(name)) {
        counter!(*name).increment(0);
    }
    for why in Refused::ALL {
        counter!(WEBHOOKS_REFUSED, "reason" => why.as_str()).increment(0);
    }
    for disposition in
        ["answered", "machine", "fax", "busy", "no_answer", "failed", "cancelled", "refused", "not_placed"]
    {
        counter!(CALLS_ENDED, "disposition" => disposition).increment(0);
    }
    for how in TurnedAway::ALL {
        counter!(CALLS_REJECTED, "done" => how.as_str()).increment(0);
    }
    gate_corrected(0, 0, false);
    let _ = (histogram!(BELL_TO_POST), histogram!(SLOT_TURNAROUND), histogram!(LINE_WAIT));
    for kind in ["status", "answer"] {
        let _ = histogram!(WEBHOOK, "kind" => kind);
    }
    for outcome in ["placed", "refused", "unknown", "not_sent"] {
        let _ = histogram!(CARRIER_REQUEST, "carrier" => "twilio", "request" => "dial", "outcome" => outcome);
    }
}

fn describe() {
    TIMES.iter().for_each(|(name, means)| describe_times!(*name, *means));
    COUNTS.iter().for_each(|(name, means)| describe_count!(*name, *means));
    LEVELS.iter().for_each(|(name, means)| describe_level!(*name, *means));
}

const TIMES: [(&str, &str); 5] = [
    (BELL_TO_POST, "From the ring of a bell to the start of a POST that it led to"),
    (LINE_WAIT, "How long a business that has work found no line, before its next call"),
    (SLOT_TURNAROUND, "From the release of a slot to the start of the next POST of its business"),
    (WEBHOOK, "From a carrier's request to its committed application, by kind"),
    (CARRIER_REQUEST, "A request to a carrier, by carrier, request and outcome"),
];

const LABELLED: [&str; 5] = [CALLS_REJECTED, CALLS_ENDED, WEBHOOKS_REFUSED, MEDIA_REFUSED, GATE_CORRECTED];

const COUNTS: [(&str, &str); 15] = [
    (CALLS_REJECTED, "Calls turned away because nothing was free, by what was done: spoken, redirected or rejected"),
    (CALLS_ENDED, "Attempts closed, by disposition"),
    (WEBHOOKS_REFUSED, "Webhooks refused, by reason"),
    (MEDIA_REFUSED, "Media streams refused, by reason"),
    (GATE_CORRECTED, "Holders that a sweep added to or evicted from the gate"),
    (IDLE_SLOTS, "Seconds that slots stood free while jobs were due, as this worker's sweeps saw them"),
    ("rollcall_gate_rebuilt_total", "Times that the gate was empty and rebuilt from the ledger"),
    ("rollcall_calls_placed_total", "Calls that a carrier took"),
    ("rollcall_not_sent_total", "Claimed calls of which no byte left"),
    ("rollcall_unknown_total", "POSTs after which nobody knows whether there is a call"),
    ("rollcall_refused_total", "Calls that a carrier refused"),
    ("rollcall_stray_calls_total", "Calls that no open attempt answers for"),
    ("rollcall_carrier_looks_failed_total", "Looks at a carrier that failed"),
    ("rollcall_queue_worker_ended_total", "Times that the queue's worker ended by itself and was replaced"),
    ("rollcall_fenced_answers_total", "Calls that were answered behind the fence and heard nothing"),
];

/// What `levels` and `machine` set.
const LEVELS: [(&str, &str); 43] = [
    ("rollcall_store_up", "1 where the store answers"),
    ("rollcall_workers", "Workers by state: ready, draining, or stale after two missed heartbeats"),
    ("rollcall_processes_stale", "Processes by role that have missed two heartbeats, for ten minutes"),
    ("rollcall_workers_alive", "Workers that beat"),
    ("rollcall_workers_in_flight", "Sends under way, over all workers"),
    ("rollcall_attempts_open", "Attempts that hold a slot and a line"),
    ("rollcall_attempts_in_doubt", "Attempts of which nobody knows whether they became a call"),
    ("rollcall_attempts_needing_person", "Attempts that only a person can tell about"),
    ("rollcall_unknown_oldest_seconds", "Age of the oldest attempt in doubt; 0 without one"),
    ("rollcall_calls_untaken", "Single calls that no worker has taken yet"),
    ("rollcall_lines_limit", "Calls at once over all businesses"),
    ("rollcall_lines_waited_for", "Businesses that have work, slots and pace, and find no line"),
    ("rollcall_line_wait_longest_seconds", "How long the first of them has waited; 0 without one"),
    ("rollcall_runs_running", "Runs that are running"),
    ("rollcall_jobs_queued", "Queued jobs of running runs"),
    ("rollcall_gate_held", "Holders at the gate"),
    (
        "rollcall_gate_drift",
        "Holders without an open attempt and open attempts without a holder, settled for two seconds",
    ),
    ("rollcall_bells_outstanding", "Bells that wait to be taken"),
    ("rollcall_sweep_age_seconds", "Time since a sweep last ended on any worker"),
    ("rollcall_reconcile_age_seconds", "Time since attempts in doubt and live calls were last looked at on any worker"),
    ("rollcall_accounts_not_ok", "Carrier accounts by health: refused or down"),
    ("rollcall_accounts_unreadable", "Carrier accounts whose live calls cannot be asked about"),
    ("rollcall_redis_may_evict", "1 where Redis has a memory limit and a policy that evicts"),
    ("rollcall_redis_evicted_keys", "Keys that Redis has evicted since it started"),
    ("rollcall_redis_persistent", "1 where Redis keeps an append-only file and its last write was well"),
    ("rollcall_redis_memory_bytes", "Memory that Redis uses"),
    ("rollcall_redis_memory_limit_bytes", "Memory that Redis may use at most; 0 without a limit"),
    ("rollcall_postgres_transactions", "Transactions of this database since its statistics began; a statement is one"),
    ("rollcall_postgres_connections", "Connections to this database"),
    ("rollcall_sessions_live", "Conversations, over all calls programs"),
    ("rollcall_sessions_waiting", "Answered calls that wait for a conversation"),
    ("rollcall_calls_programs_wanted", "Calls programs that there should be: what an autoscaler follows"),
    ("rollcall_pool_connections", "Connections of this process to Postgres by state: used or idle"),
    ("rollcall_machine_memory_percent", "Memory of this process' machine that cannot be given to somebody else"),
    ("rollcall_machine_cpu_percent", "How much of all processors of this process' machine is busy"),
    ("rollcall_process_memory_bytes", "Resident memory of this process"),
    ("rollcall_process_cpu_percent", "Time of this process on the processor, in percent of one core"),
    ("total_workers", "Workers that beat; as in /status"),
    ("ready_workers", "Workers that take work on; as in /status"),
    ("total_sessions", "Attempts that hold a slot and a line; as in /status"),
    ("session_queue_length", "Bells and single calls that wait for a worker; as in /status"),
    ("memory_percent", "Memory of the machine that has the least left; as in /status"),
    ("cpu_percent", "How busy the busiest machine is; as in /status"),
];
