//! I1–I3, I9: a process that dies or freezes at any line loses no number, calls none twice and leaves no slot held.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    ids::RunId,
    sim::{self, CreateFault, Faults, Millis, Rule, Until},
};

use crate::{
    house::{House, Options, numbers},
    processes::Door,
};

const PATIENCE: Duration = Duration::from_secs(60);
const LEADS: usize = 12;

/// A carrier that takes its time, so that there is a middle of everything to die in.
fn unhurried() -> sim::Config {
    sim::Config {
        shares: sim::Shares::all(sim::Outcome::Answered),
        accept_delay_ms: Millis::exactly(80),
        talk_ms: Millis::between(20, 60),
        ..sim::Config::quick()
    }
}

async fn open() -> House {
    House::open(Options { sim: Some(unhurried()), ..Options::default() }).await
}

async fn every_number_was_called_once(house: &House, run: RunId, count: usize) {
    assert_eq!(house.jobs_in(run, "completed").await, i64::try_from(count).unwrap());
    let total = house.sim.figures().total;
    assert_eq!((total.created, total.numbers_called_twice), (u64::try_from(count).unwrap(), 0));
    assert!(total.most_live <= 3, "{} calls at once", total.most_live);
}

/// A worker dies at the killpoint; the one that takes its place finishes the run.
async fn dies_at(killpoint: &str) {
    dies_in(killpoint, open().await).await;
}

async fn dies_in(killpoint: &str, house: House) {
    let business = house.business(3).await;
    let mut doomed = house.worker_until(killpoint).await;
    let run = house.started(business, &numbers(LEADS)).await;
    assert_eq!(doomed.ended().await.signal(), Some(Signal::SIGABRT as i32));
    let _healthy = house.worker().await;
    house.until_run_is(run, "completed").await;
    every_number_was_called_once(&house, run, LEADS).await;
    house.close().await;
}

/// A worker freezes at the killpoint and thaws when another one has finished the run without it. Returns how many calls left
/// it too late: a frozen process may have been anywhere between its last check and the first byte, with any of its sends.
///
/// That window no protocol closes. What leaves in it meets a number that was called since, because others have proven that
/// there was no call: it is answered with a hang-up and ended.
async fn freezes_at(killpoint: &str) -> usize {
    let house = open().await;
    let business = house.business(3).await;
    let frozen = house.worker_until(killpoint).await;
    let run = house.started(business, &numbers(LEADS)).await;
    frozen.said("a killpoint is reached").await;
    let healthy = house.worker().await;
    house.until_run_is(run, "completed").await;
    frozen.signal(Signal::SIGCONT);
    frozen.said("a killpoint is left").await;
    // A drain awaits whatever it was about to send.
    frozen.drain().await;
    house.sim.wait(Until::Idle, PATIENCE).await.unwrap();
    house.until("no stray call lives", || async { living_strays(&house).await == 0 }).await;
    healthy.drain().await;

    assert_eq!(house.jobs_in(run, "completed").await, i64::try_from(LEADS).unwrap());
    let too_late = sqlx::query_scalar!("SELECT to_number FROM attempt WHERE state = 'not_placed' AND late_events > 0")
        .fetch_all(&house.ctx.stores.pg)
        .await
        .unwrap();
    for number in numbers(LEADS) {
        let calls = house.sim.calls_to(&number);
        let heard = calls.iter().filter(|call| !call.heard.is_empty()).count();
        assert_eq!(heard, 1, "{number} hears the message once");
        assert!(calls.iter().all(|call| call.status.is_final()), "{number} is still called");
        let late = too_late.iter().filter(|late| **late == number).count();
        assert_eq!(calls.len(), 1 + late, "{number} is called again only after the first was closed as never placed");
    }
    house.close().await;
    too_late.len()
}

async fn living_strays(house: &House) -> i64 {
    sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM stray_call WHERE ended_at IS NULL"#)
        .fetch_one(&house.ctx.stores.pg)
        .await
        .unwrap()
}

/// One test per killpoint, so that a failure names it.
macro_rules! killpoints {
    ($($name:ident: $scenario:ident($point:literal);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $scenario($point).await;
        }
    )*};
}

killpoints! {
    a_worker_may_die_with_slots_held_and_nothing_claimed: dies_at("K1:abort:2");
    a_worker_may_die_between_claim_and_post: dies_at("K2:abort:4");
    a_worker_may_die_before_the_first_byte: dies_at("K3:abort:2");
    a_worker_may_die_with_the_answer_outstanding: dies_at("K4:abort:4");
    a_worker_may_die_with_the_answer_read: dies_at("K5:abort:5");
    a_worker_may_die_with_the_answer_stored: dies_at("K6:abort");
    a_worker_may_die_with_the_gate_half_rebuilt: dies_at("K12:abort");
    a_worker_may_freeze_with_slots_held_and_nothing_claimed: freezes_at("K1:freeze:2");
    a_worker_may_freeze_between_claim_and_post: freezes_at("K2:freeze:4");
    a_worker_may_freeze_with_the_answer_outstanding: freezes_at("K4:freeze:4");
    a_worker_may_freeze_with_the_answer_read: freezes_at("K5:freeze:5");
    a_worker_may_freeze_with_the_answer_stored: freezes_at("K6:freeze");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_leaves_a_frozen_worker_too_late_hears_nothing_and_is_ended() {
    assert!(freezes_at("K3:freeze:4").await > 0, "no call was late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_may_die_while_it_asks_the_carrier() {
    let house = open().await;
    let never_placed = vec![Rule::next(CreateFault::Http500BeforeAccept, 2)];
    house.sim.set_faults(Faults { create: never_placed, ..Faults::default() }).unwrap();
    dies_in("K11:abort", house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_random_moments_lose_nothing() {
    let house = open().await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(30)).await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 1..=5 {
        let worker = house.worker().await;
        let so_far = house.sim.figures().total;
        let more = random.random_range(1..=4);
        let moment = match random.random_range(0..3) {
            0 => Until::Requests(so_far.requests + more),
            1 => Until::Created(so_far.created + more),
            _ => Until::Ended(so_far.ended + more),
        };
        house
            .sim
            .wait(moment.clone(), PATIENCE)
            .await
            .unwrap_or_else(|_| panic!("round {round}: {moment:?} never came"));
        worker.kill().await;
    }
    let _healthy = house.worker().await;
    house.until_run_is(run, "completed").await;
    every_number_was_called_once(&house, run, 30).await;
    house.close().await;
}

/// The carrier gets no answer from an api that dies, and calls the other one.
async fn an_api_dies_at(killpoint: &str) {
    let mut house = open().await;
    let door = Door::open().await;
    house.call_back_at(door.addr);
    let (mut doomed, healthy) = (house.api(Some(killpoint)).await, house.api(None).await);
    door.leads_to(&[&doomed, &healthy]).await;
    let business = house.business(3).await;
    let _worker = house.worker().await;
    let run = house.started(business, &numbers(LEADS)).await;
    assert_eq!(doomed.ended().await.signal(), Some(Signal::SIGABRT as i32));
    house.until_run_is(run, "completed").await;
    every_number_was_called_once(&house, run, LEADS).await;
    house.close().await;
}

killpoints! {
    an_api_may_die_with_a_callback_applied_and_not_answered: an_api_dies_at("K7:abort:3");
    an_api_may_die_with_an_attempt_closed_and_its_slot_not_released: an_api_dies_at("K9:abort:4");
}
