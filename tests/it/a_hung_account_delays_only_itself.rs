//! I6, I7: a carrier account that never answers delays nobody else. Hang-ups, live lists, attempts in doubt, and calls that wait
//! for a word: each is asked about at the other accounts as ever.

use std::time::{Duration, Instant};

use rollcall::{
    attempts::detection,
    ids::{AttemptId, BusinessId, RunId},
    sim::{CallbackFault, CreateFault, Faults, Rule, Status},
};
use serde_json::json;

use crate::{
    house::{House, Options, numbers},
    scripted_carrier::Fake,
};

/// What was promised of a cancel, and less than the ten seconds that a request to a silent carrier takes.
const SOON: Duration = Duration::from_secs(5);

/// Rings until the test says otherwise.
fn held(nth: usize) -> String {
    format!("+1{}5550196", 201 + nth)
}

const BUSY: &str = "+12145550191";
/// Talks until it is hung up.
const NEVER_ENDS: [&str; 2] = ["+12125550194", "+12135550194"];

/// A house with a worker, a carrier that never answers, and two businesses: the first one's account is to hang.
async fn street() -> (House, Fake, [BusinessId; 2]) {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let both = [house.business(1).await, house.business(1).await];
    (house, Fake::start([]).await, both)
}

/// From now on the business's account is where nobody answers, or again where somebody does.
async fn moves(house: &House, business: BusinessId, to: Option<&Fake>) {
    let base = to.map(|fake| fake.base.as_str().trim_end_matches('/').to_owned());
    sqlx::query!("UPDATE carrier_account SET api_base_url = $2 WHERE business_id = $1", business.0, base)
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
    house.ctx.profiles.forget(business);
}

async fn until_in(house: &House, state: &str, count: i64) {
    house.until(&format!("{count} are {state}"), || async { house.attempts_in(state).await == count }).await;
}

/// Waits until the silent carrier was asked like this.
async fn until_asked(house: &House, silent: &Fake, how: impl Fn(&str) -> bool + Copy) {
    house.until("the silent carrier is asked", || async { silent.requests().iter().any(|one| how(one)) }).await;
}

async fn ends_soon(house: &House, run: RunId, state: &str) {
    let begun = Instant::now();
    house.until_run_is(run, state).await;
    let took = begun.elapsed();
    assert!(took < SOON, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_as_fast_as_ever_while_the_hang_up_of_another_business_is_not_answered() {
    let (house, silent, [hung, other]) = street().await;
    let (theirs, ours) = (house.started(hung, &[held(0)]).await, house.started(other, &[held(1)]).await);
    until_in(&house, "ringing", 2).await;
    moves(&house, hung, Some(&silent)).await;
    house.act(hung, theirs, "cancel").await;
    until_asked(&house, &silent, |request| request.starts_with("POST")).await;
    house.act(other, ours, "cancel").await;
    ends_soon(&house, ours, "cancelled").await;
    moves(&house, hung, None).await;
    house.until_run_is(theirs, "cancelled").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_list_is_read_as_often_as_ever_while_twenty_others_do_not_answer() {
    let (house, silent, [first, other]) = street().await;
    let mut hung = vec![first];
    while hung.len() < 20 {
        hung.push(house.business(1).await);
    }
    let ours = house.started(other, &[held(0)]).await;
    let mut theirs = Vec::new();
    for (nth, business) in hung.iter().enumerate() {
        theirs.push(house.started(*business, &[held(nth + 1)]).await);
    }
    until_in(&house, "ringing", 21).await;
    house
        .sim
        .set_faults(Faults { callback: vec![Rule::share(CallbackFault::Lost, 1.0)], ..Faults::default() })
        .unwrap();
    for business in &hung {
        moves(&house, *business, Some(&silent)).await;
    }
    until_asked(&house, &silent, |request| request.starts_with("GET")).await;
    let begun = Instant::now();
    for _ in 0..3 {
        let due = async || {
            let due = sqlx::query_scalar!("SELECT live_look_at FROM carrier_account WHERE business_id = $1", other.0);
            due.fetch_one(&house.ctx.stores.pg).await.unwrap()
        };
        let before = due().await;
        house.until("the other list is read", || async { due().await != before }).await;
    }
    let took = begun.elapsed();
    assert!(took < SOON, "three looks took {took:?}");
    house.sim.end(&house.only_call(&held(0)).sid, Status::NoAnswer).unwrap();
    ends_soon(&house, ours, "completed").await;
    for (nth, business) in hung.iter().enumerate() {
        house.sim.end(&house.only_call(&held(nth + 1)).sid, Status::NoAnswer).unwrap();
        moves(&house, *business, None).await;
    }
    for run in theirs {
        house.until_run_is(run, "completed").await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_doubt_is_found_as_fast_as_ever_while_another_carrier_cannot_be_asked() {
    let (house, silent, [hung, other]) = street().await;
    moves(&house, hung, Some(&silent)).await;
    let theirs = house.started(hung, &numbers(1)).await;
    until_asked(&house, &silent, |request| request.starts_with("GET")).await;
    let create = vec![Rule::next(CreateFault::Http500AfterAccept, 1)];
    let callback = vec![Rule::share(CallbackFault::Lost, 1.0)];
    house.sim.set_faults(Faults { create, callback, ..Faults::default() }).unwrap();
    // Nobody picks up and asks what to say: only a look finds it.
    let ours = house.started(other, &[BUSY.to_owned()]).await;
    ends_soon(&house, ours, "completed").await;
    moves(&house, hung, None).await;
    house.sim.set_faults(Faults::default()).unwrap();
    house.until_run_is(theirs, "completed").await;
    house.close().await;
}

/// Has the worker decide at once who picked up the only call of the business.
async fn decides(house: &House, business: BusinessId) -> AttemptId {
    let pg = &house.ctx.stores.pg;
    let attempt = sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt WHERE business_id = $1"#,
        business.0
    );
    let attempt = attempt.fetch_one(pg).await.unwrap();
    detection::begin(pg, (business, attempt), &json!({"detect": "async", "then": "continue"})).await.unwrap();
    detection::waits(pg, attempt, 0).await.unwrap();
    attempt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_a_word_is_decided_as_fast_as_ever_while_another_carrier_is_silent() {
    let (house, silent, [hung, other]) = street().await;
    let [theirs, ours] = NEVER_ENDS.map(str::to_owned);
    let runs = [house.started(hung, &[theirs]).await, house.started(other, &[ours]).await];
    until_in(&house, "answered", 2).await;
    moves(&house, hung, Some(&silent)).await;
    decides(&house, hung).await;
    // A list is asked for by what is live; this is asked for by its id.
    until_asked(&house, &silent, |request| request.starts_with("GET") && request.contains("/Calls/CA")).await;
    let begun = Instant::now();
    let attempt = decides(&house, other).await;
    let decided = async || {
        let waits = sqlx::query_scalar!("SELECT decide_by FROM detection WHERE attempt_id = $1", attempt.0);
        waits.fetch_one(&house.ctx.stores.pg).await.unwrap().is_none()
    };
    house.until("it is decided", decided).await;
    let took = begun.elapsed();
    assert!(took < SOON, "it took {took:?}");
    moves(&house, hung, None).await;
    for (business, run) in [hung, other].into_iter().zip(runs) {
        house.act(business, run, "cancel").await;
        house.until_run_is(run, "cancelled").await;
    }
    house.close().await;
}
