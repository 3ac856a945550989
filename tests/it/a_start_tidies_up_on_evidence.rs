//! I13: an api that starts puts right what an end left behind, and touches nothing that is alive.

use std::time::Duration;

use nix::sys::signal::Signal;
use rollcall::{
    sim::{Status, Until},
    slots::{Ask, Taken},
};
use serde_json::{Value, json};

use crate::{
    by_hand::client,
    house::{House, Options, numbers},
    processes::{Process, Program},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// What an api says after its pass, whatever it found.
const TIDIED: &str = "[STARTUP] cleanup: ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_starts_in_a_healthy_run_change_nothing() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let worker = house.worker().await;
    // Three calls that do not end by themselves hold all slots; the others wait behind them.
    let endless: Vec<String> = (212..215).map(|area| format!("+1{area}5550194")).collect();
    let run = house.started(business, &endless).await;
    house.until("three people listen", || async { house.attempts_in("answered").await == 3 }).await;
    let waiting = house.started(business, &numbers(6)).await;

    let before = everything(&house).await;
    for _ in 0..2 {
        let apis: Vec<Process> = futures::future::join_all((0..5).map(|_| house.api(None))).await;
        for api in apis {
            let told = api.said(TIDIED).await;
            assert!(
                told.contains("0 runs ended, 0 holders evicted, 0 added, 3 open attempts left alone"),
                "a healthy run was touched: {told}"
            );
            api.drain().await;
        }
    }
    assert_eq!(everything(&house).await, before);

    for call in house.sim.calls() {
        house.sim.end(&call.sid, Status::Completed).unwrap();
    }
    for run in [run, waiting] {
        house.until_run_is(run, "completed").await;
    }
    house.sim.wait(Until::Idle, PATIENCE).await.unwrap();
    let total = house.sim.figures().total;
    assert_eq!((total.created, total.numbers_called_twice), (9, 0));
    assert!(!worker.log().contains("cleanup"), "a worker tidied up");
    house.close_with([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_the_end_of_everything_ends_finished_runs_and_evicts_ghosts() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.ctx.gate.open().await.unwrap();
    // Whoever ended the last jobs, and whoever took these slots, died before the next line.
    let run = house.run(business, &numbers(4)).await;
    house.stop_dialing(run).await;
    let ask = Ask { business, slot_limit: 3, lines: 50, talks: None, account: "AC", calls_per_second: 100.0, most: 2 };
    let Taken::Some { held, .. } = house.ctx.gate.take(&ask).await.unwrap() else { panic!("the gate is open") };
    assert_eq!((held.len(), house.run_state(run).await.as_str()), (2, "running"));
    // Younger ones could still be claimed by a worker that lives.
    house
        .until("the ghosts are old enough to be sure", || async {
            house.ctx.gate.holders().await.unwrap().iter().all(|holder| holder.age >= Duration::from_millis(1_500))
        })
        .await;

    let api = house.api(None).await;
    let told = api.said(TIDIED).await;
    assert!(told.contains("1 runs ended, 2 holders evicted, 0 added, 0 open attempts left alone"), "{told}");
    assert_eq!(house.run_state(run).await, "completed");
    assert!(house.ctx.gate.holders().await.unwrap().is_empty());
    api.drain().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_waits_for_a_store_lives_is_not_ready_and_says_which() {
    let house = House::open(Options::default()).await;
    let mut args = house.args[1..].to_vec();
    let at = args.iter().position(|arg| arg == "--redis-url").unwrap();
    // Nobody listens there (RFC 6335 keeps port 1 for something that is gone).
    args[at + 1] = "redis://127.0.0.1:1/0".to_owned();
    for program in [Program::Api, Program::Worker, Program::Calls] {
        let mut process = Process::spawn(program, &args, None);
        let line: Value = serde_json::from_str(&process.said("the stores are being opened").await).unwrap();
        let ask = async |path: &str| {
            let seen = client().get(format!("http://{}{path}", line["admin"].as_str().unwrap())).send().await.unwrap();
            (seen.status().as_u16(), seen.json::<Value>().await.unwrap())
        };
        assert_eq!(ask("/healthz").await, (200, json!({"status": "ok"})), "{program:?}");
        assert_eq!(ask("/readyz").await, (503, json!({"status": "starting", "away": ["redis"]})), "{program:?}");
        assert_eq!(ask("/metrics").await.0, 503, "{program:?}");
        process.signal(Signal::SIGTERM);
        assert_eq!(process.ended().await.code(), Some(0), "{program:?}");
    }
    house.close().await;
}

/// Every fact about runs, jobs and attempts, but for the times at which carriers were heard and will be asked.
pub(crate) async fn everything(house: &House) -> Value {
    let facts = sqlx::query_scalar!(
        r#"SELECT jsonb_build_object(
               'runs', (SELECT jsonb_agg(to_jsonb(r) ORDER BY run_id) FROM run r),
               'jobs', (SELECT jsonb_agg(to_jsonb(j) ORDER BY job_id) FROM job j),
               'attempts', (SELECT jsonb_agg(to_jsonb(a) - 'heard_at' - 'next_look_at' ORDER BY attempt_id) FROM attempt a)
           ) AS "facts!""#
    );
    facts.fetch_one(&house.ctx.stores.pg).await.unwrap()
}
