//! A signal ends no call and loses none; a process that must not start says why in one sentence.

use std::{
    net::TcpListener,
    process::{Command, Output},
    time::Duration,
};

use nix::sys::signal::Signal;
use rollcall::{
    dialing::{
        next::{Owner, next},
        send::{ClaimedAt, send},
    },
    ids::{AttemptId, Held},
    jobs::claim::claim,
    sim::{self, Millis, Until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    house::{House, Options, SEALING_KEY, numbers},
    processes::{Door, Program},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A carrier whose answers come long after the calls have begun, and after most of them have ended.
fn slow_to_answer() -> sim::Config {
    sim::Config {
        shares: sim::Shares::all(sim::Outcome::Answered),
        accept_delay_ms: Millis::between(300, 600),
        ..sim::Config::quick()
    }
}

async fn a_signal_drains_the_worker(signal: Signal) {
    let house = House::open(Options { sim: Some(slow_to_answer()), ..Options::default() }).await;
    let business = house.business(6).await;
    let mut worker = house.worker().await;
    let run = house.started(business, &numbers(24)).await;
    house.sim.wait(Until::Requests(6), PATIENCE).await.unwrap();
    worker.signal(signal);
    worker.said("stopping: no new work").await;
    let told = clock(&house).await;
    // 1 would be the hard end after DRAIN_TIMEOUT_SECS.
    assert_eq!(worker.ended().await.code(), Some(0));
    assert!(worker.log().contains("drained: nothing of this worker is in flight"));
    assert_eq!((house.attempts_in("intent").await, house.attempts_in("unknown").await), (0, 0));
    assert_eq!(sent_after(&house, told).await, 0, "calls sent after the worker was told to stop");
    assert_eq!(heartbeats(&house).await, Vec::<String>::new());
    let sent = house.sim.figures().total.requests;
    house.until("what was in flight has ended", || async { house.open_attempts().await == 0 }).await;
    assert_eq!(house.sim.figures().total.requests, sent, "calls after the end of the only worker");

    let next = house.worker().await;
    house.until_run_is(run, "completed").await;
    let total = house.sim.figures().total;
    assert_eq!((total.created, total.numbers_called_twice), (24, 0));
    assert_eq!(ever_unknown(&house).await, 0);
    house.close_with([next]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_and_sigint_let_the_posts_in_flight_end_and_claim_nothing_more() {
    tokio::join!(a_signal_drains_the_worker(Signal::SIGTERM), a_signal_drains_the_worker(Signal::SIGINT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_says_so_until_it_has_drained() {
    let sim = sim::Config { accept_delay_ms: Millis::between(1_200, 1_200), ..slow_to_answer() };
    let house = House::open(Options { sim: Some(sim), ..Options::default() }).await;
    let business = house.business(1).await;
    let mut worker = house.worker().await;
    let run = house.started(business, &numbers(1)).await;
    house.sim.wait(Until::Requests(1), PATIENCE).await.unwrap();
    worker.signal(Signal::SIGTERM);
    worker.said("stopping: no new work").await;
    assert_eq!(worker.readiness().await, 503);
    assert_eq!(worker.ended().await.code(), Some(0));
    house.until_run_is(run, "completed").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_worker_sends_nothing_that_it_has_claimed_and_claims_nothing_more() {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    let business = house.business(3).await;
    let run = house.run(business, &numbers(6)).await;
    let owner = Owner::new("draining", CancellationToken::new());
    let held: Vec<Held> = (1..=3).map(|n| Held { attempt: AttemptId::new(), slot: n, line: n }).collect();
    let claimed = claim(
        &house.ctx.stores.pg,
        (business, rollcall::ids::Carrier::Twilio),
        &owner.name,
        &held,
        &house.ctx.settings.times,
    )
    .await
    .unwrap();
    assert_eq!(claimed.len(), 3);
    owner.draining.cancel();
    for one in claimed {
        send(house.ctx.clone(), owner.clone(), business, one, ClaimedAt::now()).await;
    }
    next(&house.ctx, &owner, business).await.unwrap();
    owner.sends.close();
    owner.sends.wait().await;
    assert_eq!((house.sim.figures().total.requests, house.open_attempts().await), (0, 0));
    assert_eq!((house.attempts_in("not_sent").await, house.jobs_in(run, "queued").await), (3, 6));
    house.stop_dialing(run).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_everything_loses_nothing_and_puts_nothing_in_doubt() {
    let sim = sim::Config { accept_delay_ms: Millis::between(20, 80), ..slow_to_answer() };
    let mut house = House::open(Options { sim: Some(sim), ..Options::default() }).await;
    let door = Door::open().await;
    house.call_back_at(door.addr);
    let (mut apis, mut workers) =
        ([house.api(None).await, house.api(None).await], [house.worker().await, house.worker().await]);
    door.leads_to(&[&apis[0], &apis[1]]).await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(80)).await;
    let mut ended = 0;
    for nth in [0, 1] {
        ended += 12;
        house.sim.wait(Until::Ended(ended), PATIENCE).await.unwrap();
        let next = house.worker().await;
        std::mem::replace(&mut workers[nth], next).drain().await;
        // As a load balancer does it: the new one first, then the old one goes.
        let next = house.api(None).await;
        door.leads_to(&[&next, &apis[1 - nth]]).await;
        std::mem::replace(&mut apis[nth], next).drain().await;
    }
    assert_ne!(house.run_state(run).await, "completed", "the restarts were over before the run was");
    house.until_run_is(run, "completed").await;
    let total = house.sim.figures().total;
    assert_eq!((total.created, total.numbers_called_twice), (80, 0));
    assert!(total.most_live <= 3, "{} calls at once", total.most_live);
    assert_eq!(ever_unknown(&house).await, 0, "attempts that were in doubt");
    house.close_with(workers.into_iter().chain(apis)).await;
}

/// Runs a program that ends by itself, with these variables and nothing else.
fn refused(program: Program, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        Command::new(program.path()).env_clear().envs(variables.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_program_in_another_role_says_so_in_one_sentence_and_ends_with_78() {
    for (program, role, sentence) in [
        (Program::Worker, None, "SERVICE_ROLE is unset; this program starts only with SERVICE_ROLE=worker."),
        (Program::Worker, Some("api"), "SERVICE_ROLE is api, but this program's role is worker; it does not start."),
        (Program::Api, Some("worker"), "SERVICE_ROLE is worker, but this program's role is api; it does not start."),
        (
            Program::Worker,
            Some("scheduler"),
            "SERVICE_ROLE is scheduler, but this program's role is worker; it does not start.",
        ),
        (Program::Calls, None, "SERVICE_ROLE is unset; this program starts only with SERVICE_ROLE=calls."),
        (
            Program::Calls,
            Some("worker"),
            "SERVICE_ROLE is worker, but this program's role is calls; it does not start.",
        ),
    ] {
        let mut variables = vec![("ROLLCALL_SEALING_KEY", SEALING_KEY)];
        variables.extend(role.map(|role| ("SERVICE_ROLE", role)));
        let (code, said) = refused(program, &variables);
        assert_eq!((code, said.trim_end()), (Some(78), format!("[STARTUP] {sentence}").as_str()));
    }
}

#[test]
fn settings_that_fight_are_refused_with_64_before_a_port_is_opened() {
    // A program that opened its doors first would stumble over the port that is taken, with another exit code.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (program, role) in [(Program::Api, "api"), (Program::Worker, "worker"), (Program::Calls, "calls")] {
        for (name, value, told) in [
            ("MAX_CONCURRENT_CALLS", "10001", "MAX_CONCURRENT_CALLS is 10001; it must be at most 10000."),
            ("INTENT_GRACE_MS", "15000", "a call could still be placed after its attempt was looked for"),
            ("ROLLCALL_SEALING_KEY", "", "ROLLCALL_SEALING_KEY"),
            ("WORKER_CONCURRENCY", "many", "many"),
            (
                "CLAIM_MAX_AGE_MS",
                "18446744073709551615",
                "a call could still be placed after its attempt was looked for",
            ),
            ("REDIS_URL", "foo", "REDIS_URL cannot be read"),
            ("DATABASE_URL", "postgres://h:99999/x", "DATABASE_URL cannot be read"),
            ("DATABASE_URL", "mysql://127.0.0.1/x", "DATABASE_URL cannot be read"),
        ] {
            let mut variables = vec![
                ("SERVICE_ROLE", role),
                ("API_ADDR", &taken),
                ("ADMIN_ADDR", &taken),
                ("ROLLCALL_SEALING_KEY", SEALING_KEY),
            ];
            variables.retain(|(known, _)| *known != name);
            if !value.is_empty() {
                variables.push((name, value));
            }
            let (code, said) = refused(program, &variables);
            assert!(code == Some(64) && said.contains(told), "{program:?} {name}={value}: {code:?} {said}");
        }
    }
}

/// Every attempt that was in doubt at any time.
pub(crate) async fn ever_unknown(house: &House) -> i64 {
    sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE transitions(events) @> '[{"to": "unknown"}]'"#)
        .fetch_one(&house.ctx.stores.pg)
        .await
        .unwrap()
}

async fn clock(house: &House) -> chrono::DateTime<chrono::Utc> {
    sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(&house.ctx.stores.pg).await.unwrap()
}

/// Attempts claimed after this moment that were sent. One that was being claimed at the moment is closed as not sent.
async fn sent_after(house: &House, moment: chrono::DateTime<chrono::Utc>) -> i64 {
    sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE intent_at > $1 AND state <> 'not_sent'"#, moment)
        .fetch_one(&house.ctx.stores.pg)
        .await
        .unwrap()
}

async fn heartbeats(house: &House) -> Vec<String> {
    redis::cmd("KEYS")
        .arg(house.ctx.stores.keys.key("workers:*"))
        .query_async(&mut house.ctx.stores.redis.clone())
        .await
        .unwrap()
}
