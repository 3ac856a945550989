//! I7: once a pause or a cancel is answered, the carrier hears only of what the answer lists as in flight.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    ids::{AttemptId, BusinessId, RunId},
    sim,
};

use crate::{
    by_hand::client,
    house::{House, Options, numbers},
};

const ROUNDS: usize = 12;
const LEADS: usize = 40;

/// A run of its own business that was stopped at some moment.
struct Stopped {
    business: BusinessId,
    run: RunId,
    /// What the answer lists.
    listed: HashSet<AttemptId>,
    /// When the answer was there: Unix time, ms. The sandbox is on the same machine and reads the same clock.
    answered_ms: i64,
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn account(business: BusinessId) -> String {
    format!("AC{}", business.0.simple())
}

/// Numbers of one round, every eighth of which never hangs up by itself where `stubborn`.
fn leads(round: usize, stubborn: Stubborn) -> Vec<String> {
    let mut leads = numbers(2 * ROUNDS * LEADS)[round * LEADS..(round + 1) * LEADS].to_vec();
    if stubborn == Stubborn::Some {
        for (i, lead) in leads.iter_mut().skip(3).step_by(8).enumerate() {
            *lead = format!("+1{}5550194", 500 + round * 4 + i);
        }
    }
    leads
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stubborn {
    Some,
    None,
}

async fn house() -> House {
    let sim = sim::Config {
        shares: sim::Shares::all(sim::Outcome::Answered),
        accept_delay_ms: sim::Millis::between(0, 10),
        talk_ms: sim::Millis::between(10, 60),
        ..sim::Config::quick()
    };
    House::open(Options {
        sim: Some(sim),
        workers: 2,
        args: vec!["--max-concurrent-calls", "200"],
        ..Options::default()
    })
    .await
}

/// One moment per round, drawn from a seed that a failure shows.
fn moments() -> Vec<usize> {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    (0..ROUNDS).map(|_| random.random_range(0..LEADS / 2)).collect()
}

/// Starts a run, stops it after so many creates, and reads the answer.
async fn stopped(house: &House, leads: &[String], moment: usize, action: &str) -> Stopped {
    let http = client();
    let business = house.business(5).await;
    let run = house.started(business, leads).await;
    let account = account(business);
    let asked = || house.sim.log().iter().filter(|entry| entry.account == account).count();
    house.until("so many creates", || async { asked() >= moment }).await;
    let answer = house.act_by(&http, business, run, action).await;
    let answered_ms = now_ms();
    let open =
        sqlx::query_scalar!(r#"SELECT attempt_id AS "id: AttemptId" FROM attempt WHERE run_id = $1 AND open"#, run.0);
    let open = open.fetch_all(&house.ctx.stores.pg).await.unwrap();
    let in_flight = answer["in_flight"].as_array().unwrap();
    assert_eq!(answer["in_flight_total"], in_flight.len());
    let listed: HashSet<_> = in_flight.iter().map(|one| one["attempt_id"].as_str().unwrap().parse().unwrap()).collect();
    for attempt in open {
        assert!(listed.contains(&attempt), "{attempt} is open and not listed; moment {moment}");
    }
    Stopped { business, run, listed, answered_ms }
}

/// No POST of the run came to the carrier after the answer, but for those listed. Until `before_ms` where the run went on.
fn only_the_listed_were_sent(house: &House, stopped: &Stopped, before_ms: i64) {
    let account = account(stopped.business);
    let after = stopped.answered_ms..before_ms;
    for entry in house.sim.log().into_iter().filter(|e| e.account == account && after.contains(&e.at_ms)) {
        let (business, attempt) = house.ctx.tokens.read(&entry.token.unwrap()).unwrap();
        assert_eq!(business, stopped.business);
        let late_ms = entry.at_ms - stopped.answered_ms;
        assert!(
            stopped.listed.contains(&attempt),
            "{attempt} was sent {late_ms} ms after the answer and is not listed"
        );
    }
}

async fn nothing_is_open(house: &House, run: RunId) {
    house
        .until("what was in flight is over", || async {
            let open = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE run_id = $1 AND open"#, run.0);
            open.fetch_one(&house.ctx.stores.pg).await.unwrap() == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cancel_only_what_it_lists_is_sent_and_all_of_it_ends() {
    let house = house().await;
    let rounds = moments().into_iter().enumerate().map(|(round, moment)| {
        let house = &house;
        async move {
            let stopped = stopped(house, &leads(round, Stubborn::Some), moment, "cancel").await;
            house.until_run_is(stopped.run, "cancelled").await;
            nothing_is_open(house, stopped.run).await;
            stopped
        }
    });
    let stopped = join_all(rounds).await;
    house.sim.wait(sim::Until::Idle, std::time::Duration::from_secs(20)).await.unwrap();
    let mut cut = 0;
    for one in &stopped {
        only_the_listed_were_sent(&house, one, i64::MAX);
        let (queued, dialing) = (house.jobs_in(one.run, "queued").await, house.jobs_in(one.run, "dialing").await);
        assert_eq!((queued, dialing), (0, 0));
        cut += house.jobs_in(one.run, "cancelled").await;
        assert!(house.claim(one.business, 5).await.is_empty(), "something of a cancelled run can be claimed");
    }
    assert!(
        cut > 0 && stopped.iter().any(|one| !one.listed.is_empty()),
        "every run was over before its cancel: the test proves nothing"
    );
    assert!(house.sim.calls().iter().all(|call| call.status.is_final()), "a call outlived its cancel");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_pause_only_what_it_lists_goes_on_and_a_resume_completes_the_run() {
    let house = house().await;
    let rounds = moments().into_iter().enumerate().map(|(round, moment)| {
        let house = &house;
        async move {
            let stopped = stopped(house, &leads(ROUNDS + round, Stubborn::None), moment, "pause").await;
            nothing_is_open(house, stopped.run).await;
            assert_eq!(house.run_state(stopped.run).await, "paused");
            assert!(house.claim(stopped.business, 5).await.is_empty(), "something of a paused run can be claimed");
            let left = house.jobs_in(stopped.run, "queued").await;
            let completed = house.jobs_in(stopped.run, "completed").await;
            assert_eq!(left + completed, LEADS as i64, "a call was cut");
            let paused_until_ms = now_ms();
            house.act(stopped.business, stopped.run, "resume").await;
            house.until_run_is(stopped.run, "completed").await;
            (stopped, paused_until_ms, left)
        }
    });
    let mut cut = 0;
    for (stopped, paused_until_ms, left) in join_all(rounds).await {
        only_the_listed_were_sent(&house, &stopped, paused_until_ms);
        assert_eq!(house.jobs_in(stopped.run, "completed").await, LEADS as i64);
        cut += left;
    }
    assert!(cut > 0, "every run was over before its pause: the test proves nothing");
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.total.numbers_called_twice), ((ROUNDS * LEADS) as u64, 0));
    assert!(house.sim.calls().iter().all(|call| call.heard == ["Hello Ada"]), "a pause cut a call short");
    house.close().await;
}
