//! The figures of conversations: their names, what they mean, and the functions that move them.

use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Parts of a turn, by part.
pub(super) const TURN: &str = "rollcall_turn_seconds";
/// From the socket to the first frame that leaves.
pub(super) const START: &str = "rollcall_session_start_seconds";
const ENDED: &str = "rollcall_sessions_ended_total";
const FAILURES: &str = "rollcall_session_failures_total";
const DROPPED: &str = "rollcall_audio_dropped_total";
const BROKEN_IN: &str = "rollcall_interruptions_total";
const RECONNECTS: &str = "rollcall_provider_reconnects_total";

/// Every reason of a failure that the programs tell. An alert sees a reason rise only where it began at zero.
const FAILED_BY: [&str; 6] = ["provider", "panic", "dead_stream", "orphan", "start", "forgotten"];

/// Bounds of the parts of a turn, seconds.
pub(super) const BOUNDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0, 8.0];

/// A session began to speak, so long after its socket was taken.
pub fn session_started(took: Duration) {
    histogram!(START).record(took);
}

/// One conversation more in this process. Steps, no levels: of two that end at once, the level that is set last may be the older.
pub fn seat_taken() {
    gauge!("rollcall_sessions").increment(1.0);
}

/// One conversation fewer.
pub fn seat_free() {
    gauge!("rollcall_sessions").decrement(1.0);
}

/// A session ended, and why.
pub fn session_ended(why: &'static str) {
    counter!(ENDED, "why" => why).increment(1);
}

/// A session failed by no fault of the caller, and why.
pub fn session_failed(why: &'static str) {
    counter!(FAILURES, "why" => why).increment(1);
}

/// A part of a turn took so long: `transcription`, `model`, `speech` or `whole`.
pub fn turn(part: &'static str, took: Duration) {
    histogram!(TURN, "part" => part).record(took);
}

/// Sound of a caller was left out because a provider did not take it in time.
pub fn audio_dropped(blocks: u64) {
    counter!(DROPPED).increment(blocks);
}

/// A caller broke in.
pub fn interrupted() {
    counter!(BROKEN_IN).increment(1);
}

/// A connection to a provider was made anew in the middle of a conversation.
pub fn reconnected(provider: &'static str) {
    counter!(RECONNECTS, "provider" => provider).increment(1);
}

pub(super) fn describe() {
    describe_histogram!(
        TURN,
        "Parts of an agent's turn, from the end of the caller's words to the agent's first sound"
    );
    describe_histogram!(START, "From a media stream's socket to the first frame that leaves");
    describe_gauge!("rollcall_sessions", "Conversations of this process");
    describe_counter!(ENDED, "Conversations that ended, by reason");
    describe_counter!(FAILURES, "Conversations that failed, by reason");
    describe_counter!(DROPPED, "Blocks of a caller's sound that a provider did not take in time");
    describe_counter!(BROKEN_IN, "Times that a caller broke in");
    describe_counter!(RECONNECTS, "Connections to providers that were made anew in a conversation");
    gauge!("rollcall_sessions").set(0.0);
    counter!(DROPPED).increment(0);
    counter!(BROKEN_IN).increment(0);
    for why in FAILED_BY {
        counter!(FAILURES, "why" => why).increment(0);
    }
    for why in ["hung_up", "ended_by_agent", "trouble"] {
        counter!(ENDED, "why" => why).increment(0);
    }
    let _ = histogram!(START);
    for part in ["transcription", "model", "speech", "whole"] {
        let _ = histogram!(TURN, "part" => part);
    }
}
