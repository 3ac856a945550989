//! The chosen protocol keeps every promise in every world.

use stateright::{Checker, Model};

use crate::{
    guards::{CHOSEN, Faults},
    protocol::Protocol,
    state::Size,
};

/// Looks at every state of this world: none breaks a promise.
fn holds(size: Size, faults: Faults) {
    let checked = Protocol { size, guards: CHOSEN, faults }.checker().threads(2).spawn_bfs().join();
    println!("{} states, {} deep", checked.unique_state_count(), checked.max_depth());
    checked.assert_properties();
}

/// Two workers, two numbers, one slot.
const NARROW: Size = Size { jobs: 2, workers: 2, limit: 1, faults: 1 };

#[test]
fn it_holds_while_workers_die() {
    holds(NARROW, Faults { deaths: true, ..Faults::NONE });
}

#[test]
fn it_holds_while_redis_is_emptied() {
    holds(NARROW, Faults { wipes: true, ..Faults::NONE });
}

#[test]
fn it_holds_while_postgres_crashes_and_answers_to_commits_are_lost() {
    holds(NARROW, Faults { crashes: true, lost_commits: true, ..Faults::NONE });
}

#[test]
fn it_holds_while_a_run_is_cancelled_and_bells_are_lost() {
    holds(Size { workers: 1, ..NARROW }, Faults { cancel: true, lost_bells: true, forged: true, ..Faults::NONE });
}

#[test]
fn it_holds_while_the_limit_is_lowered() {
    let size = Size { workers: 1, limit: 2, ..NARROW };
    holds(size, Faults { lowered: true, plain_carrier: true, ..Faults::NONE });
}

#[test]
fn it_holds_while_two_lists_call_one_number() {
    holds(Size { workers: 1, limit: 2, ..NARROW }, Faults { same_number: true, ..Faults::NONE });
}

#[test]
fn it_holds_for_one_number_whatever_happens() {
    let all = Faults {
        deaths: true,
        wipes: true,
        crashes: true,
        lost_commits: true,
        cancel: true,
        lost_bells: true,
        forged: true,
        ..Faults::NONE
    };
    holds(Size { jobs: 1, workers: 2, limit: 1, faults: 2 }, all);
}
