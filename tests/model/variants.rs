//! Variants that lack something, and the promise that each of them breaks.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    guards::{CHOSEN, Faults, Guards},
    protocol::{I1, I2, I3, I4, I6, I7, Protocol},
    state::Size,
};

/// Two workers, two numbers, one slot.
const NARROW: Size = Size { jobs: 2, workers: 2, limit: 1, faults: 1 };
/// The same with one number: for promises about one person.
const ONE: Size = Size { jobs: 1, ..NARROW };
const NONE: Faults = Faults::NONE;
const DEATHS: Faults = Faults { deaths: true, ..NONE };
/// More worlds than any of the searches below needs to find what is broken.
const ENOUGH: usize = 3_000_000;

/// The variant breaks this promise; the shortest way to it is printed.
fn breaks(promise: &'static str, size: Size, faults: Faults, guards: Guards) {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let model = Protocol { size, guards, faults };
    let checked = model.checker().threads(2).finish_when(found).target_state_count(ENOUGH).spawn_bfs().join();
    let path = checked.discovery(promise).unwrap_or_else(|| panic!("not found broken: {promise}"));
    println!("{promise}, broken by {:?}", path.into_actions());
}

/// The variant keeps this promise in the whole of its world.
fn keeps(promise: &'static str, size: Size, faults: Faults, guards: Guards) {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checked = Protocol { size, guards, faults }.checker().threads(2).finish_when(found).spawn_bfs().join();
    println!("{} states", checked.unique_state_count());
    checked.assert_no_discovery(promise);
}

// The designs that were weighed (V5 is the chosen one).

/// V0: the request first, then the row; a slot that expires; nobody asks the carrier.
const V0: Guards = Guards { intent_first: false, proven_end: false, reconciler: false, ..CHOSEN };
/// V1: the same, and the carrier is asked.
const V1: Guards = Guards { reconciler: true, ..V0 };
/// V2: the intent first, but a slot that expires.
const V2: Guards = Guards { proven_end: false, ..CHOSEN };
/// V3: no slot expires, but a request may leave however old its claim is.
const V3: Guards = Guards { claim_age: false, ..CHOSEN };
/// V4: the same, and what was not placed is never dialed again.
const V4: Guards = Guards { requeue: false, ..V3 };
/// V6: the chosen one without a reconciler.
const V6: Guards = Guards { reconciler: false, ..CHOSEN };

#[test]
fn posting_before_the_row_calls_people_twice_and_leaks() {
    breaks(I1, ONE, DEATHS, V0);
    breaks(I2, NARROW, DEATHS, V0);
    breaks(I3, ONE, DEATHS, V0);
}

#[test]
fn asking_the_carrier_does_not_mend_posting_before_the_row() {
    breaks(I1, ONE, DEATHS, V1);
    breaks(I2, NARROW, DEATHS, V1);
}

#[test]
fn a_slot_that_expires_calls_people_twice_and_exceeds_the_limit() {
    breaks(I1, ONE, DEATHS, V2);
    breaks(I2, NARROW, DEATHS, V2);
}

#[test]
fn a_claim_of_any_age_is_sent_after_it_was_looked_for() {
    breaks(I1, ONE, DEATHS, V3);
    breaks(I2, NARROW, DEATHS, V3);
}

#[test]
fn never_dialing_again_saves_the_person_but_not_the_limit() {
    keeps(I1, ONE, DEATHS, V4);
    breaks(I2, NARROW, DEATHS, V4);
}

#[test]
fn without_a_reconciler_a_lost_callback_leaks_a_slot() {
    keeps(I1, ONE, DEATHS, V6);
    breaks(I3, ONE, DEATHS, V6);
}

// One variant per guard.

#[test]
fn a_claim_whose_commit_was_not_acknowledged_must_not_be_sent() {
    let faults = Faults { lost_commits: true, ..NONE };
    breaks(I1, ONE, faults, Guards { acknowledged: false, ..CHOSEN });
}

#[test]
fn intents_must_be_flushed() {
    breaks(I1, ONE, Faults { crashes: true, ..NONE }, Guards { flushed_intents: false, ..CHOSEN });
}

#[test]
fn the_carrier_must_be_told_of_an_end_after_its_flush() {
    breaks(I4, ONE, Faults { crashes: true, ..NONE }, Guards { flushed_ends: false, ..CHOSEN });
}

#[test]
fn the_ledger_must_bound_what_an_emptied_gate_lets_through() {
    let faults = Faults { wipes: true, ..NONE };
    breaks(I2, NARROW, faults, Guards { count: false, slot_index: false, ..CHOSEN });
    // Each of its two bounds is enough while the limit stays.
    breaks_nothing_by_wipes(Guards { count: false, ..CHOSEN });
    breaks_nothing_by_wipes(Guards { slot_index: false, ..CHOSEN });
}

fn breaks_nothing_by_wipes(guards: Guards) {
    keeps(I2, Size { faults: 1, workers: 1, ..NARROW }, Faults { wipes: true, ..NONE }, guards);
}

#[test]
fn a_claim_must_count_because_slots_above_a_lowered_limit_live_on() {
    let faults = Faults { lowered: true, ..NONE };
    breaks(I2, Size { jobs: 3, limit: 2, ..NARROW }, faults, Guards { count: false, ..CHOSEN });
}

#[test]
fn a_claim_must_count_after_it_has_the_lock() {
    breaks(I2, NARROW, Faults { wipes: true, ..NONE }, Guards { count_in_lock: false, slot_index: false, ..CHOSEN });
}

#[test]
fn a_gate_that_releases_by_count_lets_too_many_through() {
    let alone = Guards { count: false, slot_index: false, patient_sweep: true, ..CHOSEN };
    keeps(I2, Size { jobs: 2, workers: 2, limit: 1, faults: 0 }, NONE, alone);
    breaks(I2, Size { jobs: 3, ..NARROW }, NONE, Guards { release_by_id: false, ..alone });
}

#[test]
fn a_job_must_have_one_open_attempt() {
    // The index over numbers is a second proof of the same.
    breaks(I1, Size { limit: 2, ..ONE }, NONE, Guards { job_index: false, number_index: false, ..CHOSEN });
}

#[test]
fn a_number_must_have_one_open_attempt() {
    let faults = Faults { same_number: true, ..NONE };
    breaks(I1, Size { limit: 2, workers: 1, ..NARROW }, faults, Guards { number_index: false, ..CHOSEN });
}

#[test]
fn a_claim_must_look_at_the_state_of_the_run() {
    breaks(I7, ONE, Faults { cancel: true, ..NONE }, Guards { run_in_claim: false, ..CHOSEN });
}

#[test]
fn a_request_must_be_sent_once() {
    breaks(I1, ONE, NONE, Guards { no_retry: false, ..CHOSEN });
}

#[test]
fn a_number_in_doubt_must_be_left_alone() {
    breaks(I1, ONE, NONE, Guards { unknown_held: false, ..CHOSEN });
}

#[test]
fn only_its_owner_may_close_a_young_intent() {
    breaks(I1, ONE, NONE, Guards { owner_closes: false, ..CHOSEN });
    breaks(I2, NARROW, NONE, Guards { owner_closes: false, ..CHOSEN });
}

#[test]
fn absence_from_a_list_must_not_free_a_slot() {
    breaks(I2, NARROW, NONE, Guards { absence_holds: false, ..CHOSEN });
}

#[test]
fn one_empty_look_must_not_prove_that_there_is_no_call() {
    breaks(I1, ONE, NONE, Guards { two_looks: false, ..CHOSEN });
}

#[test]
fn a_late_callback_must_not_move_an_attempt_back() {
    breaks(I4, ONE, NONE, Guards { callback_rank: false, ..CHOSEN });
}

#[test]
fn a_late_2xx_must_not_overwrite_an_end() {
    breaks(I4, ONE, NONE, Guards { answer_rank: false, ..CHOSEN });
}

#[test]
fn a_forged_end_must_not_free_a_slot() {
    breaks(I2, NARROW, Faults { forged: true, ..NONE }, Guards { verified: false, ..CHOSEN });
}

#[test]
fn a_call_of_a_cancelled_attempt_must_not_speak() {
    breaks(I6, ONE, Faults { cancel: true, ..NONE }, Guards { fence: false, ..CHOSEN });
}

#[test]
fn the_fence_also_silences_a_call_that_was_sent_too_late() {
    let faults = Faults { long_stop: true, ..NONE };
    // The one exception to I1 and I2 that is known.
    breaks(I2, NARROW, faults, CHOSEN);
    keeps(I6, ONE, faults, CHOSEN);
    breaks(I6, ONE, faults, Guards { fence: false, ..CHOSEN });
}

#[test]
fn a_taken_hang_up_must_not_free_a_slot() {
    breaks(I2, NARROW, Faults { cancel: true, ..NONE }, Guards { hangup_holds: false, ..CHOSEN });
}

#[test]
fn without_a_sweep_a_dead_worker_holds_its_slot_for_ever() {
    breaks(I3, ONE, DEATHS, Guards { sweep: false, ..CHOSEN });
}

#[test]
fn without_a_sweep_that_rings_a_lost_bell_loses_its_jobs() {
    breaks(I3, ONE, Faults { lost_bells: true, ..NONE }, Guards { sweep_rings: false, ..CHOSEN });
}
