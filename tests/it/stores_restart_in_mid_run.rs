//! I1, I2, I9: a store that restarts, hangs or forgets in mid-run costs seconds, never a number and never the limit.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::{
    ids::RunId,
    ops::{
        children::Stop,
        private::{Durability, POSTGRES, PrivateStores, REDIS},
    },
    sim::{self, CallReport, Millis, Until},
    stores::MIGRATOR,
};

use sqlx::{Connection, PgConnection};

use crate::{
    house::{House, Options, Urls, numbers},
    processes::{Process, Program},
};

const PATIENCE: Duration = Duration::from_secs(60);
const LEADS: usize = 45;

async fn stores() -> PrivateStores {
    let stores = PrivateStores::start(Durability::Scratch).await.unwrap();
    stores.migrate(&MIGRATOR).await.unwrap();
    stores
}

async fn house_on(stores: &PrivateStores) -> House {
    let sim = sim::Config {
        shares: sim::Shares::all(sim::Outcome::Answered),
        accept_delay_ms: Millis::between(10, 40),
        talk_ms: Millis::between(20, 80),
        ..sim::Config::quick()
    };
    let urls = Urls { database: stores.database_url(), redis: stores.redis_url() };
    House::open(Options { sim: Some(sim), stores: Some(urls), ..Options::default() }).await
}

async fn ended(house: &House, count: u64) {
    house.sim.wait(Until::Ended(count), PATIENCE).await.unwrap();
}

/// The run completes, every number was called once within the limit, and every worker is alive and ready.
async fn all_is_well(house: House, run: RunId, workers: impl IntoIterator<Item = Process>) {
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, i64::try_from(LEADS).unwrap());
    let total = house.sim.figures().total;
    assert_eq!((total.created, total.numbers_called_twice), (u64::try_from(LEADS).unwrap(), 0));
    assert!(total.most_live <= 3, "{} calls at once", total.most_live);
    let workers: Vec<Process> = workers.into_iter().collect();
    for worker in &workers {
        assert_eq!(worker.readiness().await, 200);
    }
    house.close_with(workers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_restart_fast_crash_and_stay_away() {
    let mut stores = stores().await;
    let house = house_on(&stores).await;
    let workers = [house.worker().await, house.worker().await];
    let business = house.business(3).await;
    let run = house.started(business, &numbers(LEADS)).await;

    ended(&house, 8).await;
    stores.restart_postgres().await.unwrap();

    ended(&house, 18).await;
    stores.children().stop(POSTGRES, Stop::Quit).await.unwrap();
    stores.start_postgres().await.unwrap();

    ended(&house, 28).await;
    stores.children().stop(POSTGRES, Stop::Interrupt).await.unwrap();
    // An event is applied or it is not acknowledged: the carrier keeps it and tells it again.
    let call = house.sim.calls().pop().unwrap();
    assert_eq!(say_completed(&house, &call).await, 503);
    assert_eq!(workers[0].readiness().await, 503);
    stores.start_postgres().await.unwrap();

    all_is_well(house, run, workers).await;
    stores.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_die_start_empty_be_flushed_and_hang() {
    let mut stores = stores().await;
    let house = house_on(&stores).await;
    let workers = [house.worker().await, house.worker().await];
    let business = house.business(3).await;
    let run = house.started(business, &numbers(LEADS)).await;

    ended(&house, 8).await;
    stores.children().kill(REDIS).unwrap();
    stores.start_redis().await.unwrap();

    ended(&house, 18).await;
    let mut redis = house.ctx.stores.redis.clone();
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await.unwrap();

    ended(&house, 28).await;
    let redis = Pid::from_raw(i32::try_from(stores.children().pid(REDIS).unwrap()).unwrap());
    kill(redis, Signal::SIGSTOP).unwrap();
    // Webhooks commit without it: what is in flight ends, nothing new begins.
    house.until("what was in flight has ended", || async { house.open_attempts().await == 0 }).await;
    workers[0].said("the gate could not be compared with the ledger").await;
    kill(redis, Signal::SIGCONT).unwrap();

    all_is_well(house, run, workers).await;
    stores.end().await.unwrap();
}

/// Stops the processes of Postgres that write claims and events, each between two statements: what is sent to them is not
/// refused and not answered, as where a machine is gone from the network.
async fn silence_the_writers(stores: &PrivateStores) -> Vec<Pid> {
    let mut control = PgConnection::connect(&stores.database_url()).await.unwrap();
    let mut silent = Vec::new();
    for (pid, state) in writers(&mut control).await {
        let process = Pid::from_raw(pid);
        kill(process, Signal::SIGSTOP).unwrap();
        let now = writers(&mut control).await.into_iter().find(|(one, _)| *one == pid);
        if state == "idle" && now.is_some_and(|(_, state)| state == "idle") {
            silent.push(process);
        } else {
            kill(process, Signal::SIGCONT).unwrap();
        }
    }
    silent
}

async fn writers(control: &mut PgConnection) -> Vec<(i32, String)> {
    let writers = sqlx::query!(
        r#"SELECT pid AS "pid!", state AS "state!" FROM pg_stat_activity
           WHERE (query LIKE '%apply_events(%' OR query LIKE '%place_attempts(%' OR query LIKE '%claim_jobs(%' OR query LIKE '%pg_logical_emit_message%')
               AND state IS NOT NULL AND pid <> pg_backend_pid()"#
    );
    writers.fetch_all(control).await.unwrap().into_iter().map(|row| (row.pid, row.state)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_is_left_for_another() {
    let stores = stores().await;
    let house = house_on(&stores).await;
    let workers = [house.worker().await];
    let business = house.business(3).await;
    let run = house.started(business, &numbers(LEADS)).await;

    ended(&house, 8).await;
    let mut silent = Vec::new();
    while silent.is_empty() {
        silent = silence_the_writers(&stores).await;
    }
    house.until_run_is(run, "completed").await;

    for process in silent {
        kill(process, Signal::SIGCONT).unwrap();
    }
    all_is_well(house, run, workers).await;
    stores.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_stores_that_are_down_and_starts_when_they_come_up() {
    let mut stores = stores().await;
    let house = house_on(&stores).await;
    let business = house.business(3).await;
    let run = house.run(business, &numbers(LEADS)).await;

    stores.children().stop(POSTGRES, Stop::Interrupt).await.unwrap();
    stores.children().kill(REDIS).unwrap();
    let worker = Process::spawn(Program::Worker, &house.args[1..], None);
    worker.said("[STARTUP] Postgres is not there yet").await;
    stores.start_postgres().await.unwrap();
    worker.said("[STARTUP] Redis is not there yet").await;
    stores.start_redis().await.unwrap();
    worker.said("[STARTUP] the worker takes bells").await;

    all_is_well(house, run, [worker]).await;
    stores.end().await.unwrap();
}

/// Tells the api what a carrier tells at the end of a call, once, and returns the HTTP status of its answer.
async fn say_completed(house: &House, call: &CallReport) -> u16 {
    let url = format!("http://{}/webhooks/twilio/status/{}", house.addr, call.token.as_deref().unwrap());
    let form = [
        ("AccountSid", call.account.as_str()),
        ("ApiVersion", "2010-04-01"),
        ("CallDuration", "1"),
        ("CallSid", &call.sid),
        ("CallStatus", "completed"),
        ("Direction", "outbound-api"),
        ("From", &call.from),
        ("To", &call.to),
    ];
    let signature = sim::sign("secret token of the account", &sim::signed_url(&url), &form);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(&url).header("X-Twilio-Signature", signature).form(&form).send().await.unwrap();
    answer.status().as_u16()
}
