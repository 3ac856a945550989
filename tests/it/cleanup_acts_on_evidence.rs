//! I1, I2, I13: a cleanup by people puts right what is stuck, by the carrier's word, and touches nothing that is alive.

use std::time::Duration;

use rollcall::{
    dialing::{
        by_person::{self, Word},
        gate,
    },
    ids::RunId,
    sim::{self, ApiFault, CallbackFault, CreateFault, Faults, Millis, Rule, Status, Until},
    slots::{Ask, Taken},
};
use serde_json::json;

use crate::{
    a_start_tidies_up_on_evidence::everything,
    api_harness::answer,
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
};

const PATIENCE: Duration = Duration::from_secs(60);
const ENDLESS: &str = "+12125550194";
const STAYS_QUEUED: &str = "+12125550198";

/// One call whose carrier tells us nothing any more, no worker, and nobody who has noticed.
async fn deaf() -> (House, RunId) {
    let mut house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    let run = house.started(business, &[ENDLESS.to_owned()]).await;
    house.until("a person listens", || async { house.attempts_in("answered").await == 1 }).await;
    house.stop_workers().await;
    let lost = Rule::share(CallbackFault::Lost, 1.0);
    house.sim.set_faults(Faults { callback: vec![lost], ..Faults::default() }).unwrap();
    (house, run)
}

/// Every fact of ledger and gate.
async fn facts(house: &House) -> (String, Vec<String>) {
    let mut holders: Vec<String> =
        house.ctx.gate.holders().await.unwrap().iter().map(|holder| holder.attempt.to_string()).collect();
    holders.sort();
    (house.ledger().await, holders)
}

/// Waits until the call has been silent for so long that a worker would have asked.
async fn until_silent(house: &House, calls: i64) {
    house
        .until("the calls are silent", || async {
            sqlx::query_scalar!(
                r#"SELECT count(*) AS "n!" FROM attempt WHERE open AND heard_at < clock_timestamp() - interval '1 s'"#
            )
            .fetch_one(&house.ctx.stores.pg)
            .await
            .unwrap()
                == calls
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_call_the_carrier_ended_is_released_by_apply_and_by_nothing_else() {
    let (house, run) = deaf().await;
    house.sim.end(&house.only_call(ENDLESS).sid, Status::Completed).unwrap();
    house.sim.wait(Until::Idle, PATIENCE).await.unwrap();
    until_silent(&house, 1).await;
    let before = facts(&house).await;
    let dry = house.ops(&["cleanup", "--json"]).await;
    let found = dry.found("attempt");
    assert_eq!((found.len(), dry.code, &dry.json()["applied"]), (1, 3, &json!(false)), "{}", dry.out);
    assert_eq!((&found[0]["action"], &found[0]["outcome"]), (&json!("apply_end"), &json!(null)));
    assert!(found[0]["evidence"].as_str().unwrap().contains("completed"), "{}", dry.out);
    assert_eq!(facts(&house).await, before, "a dry run changed something");

    let done = house.ops(&["cleanup", "--json", "--apply"]).await;
    assert_eq!((done.code, &done.found("attempt")[0]["outcome"]["done"]), (0, &json!(true)), "{}", done.out);
    assert_eq!((house.run_state(run).await.as_str(), house.jobs_in(run, "completed").await), ("completed", 1));
    assert!(house.ctx.gate.holders().await.unwrap().is_empty());
    let again = house.ops(&["cleanup", "--json"]).await;
    assert_eq!((again.code, again.json()["findings"].as_array().unwrap().len()), (0, 0), "{}", again.out);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_call_is_live_or_cannot_be_asked_about_is_never_freed() {
    let (house, _) = deaf().await;
    until_silent(&house, 1).await;
    let well = house.ops(&["cleanup", "--json", "--apply"]).await;
    assert_eq!((well.code, well.json()["findings"].as_array().unwrap().len()), (0, 0), "{}", well.out);
    let away = || vec![Rule::share(ApiFault::Unavailable, 1.0)];
    house.sim.set_faults(Faults { list: away(), fetch: away(), ..house.sim.faults() }).unwrap();
    for _ in 0..2 {
        let done = house.ops(&["cleanup", "--json", "--apply"]).await;
        let found = done.found("attempt");
        assert_eq!((done.code, &found[0]["action"]), (3, &json!("wait")), "{}", done.out);
        assert_eq!(found[0]["outcome"]["done"], json!(false));
    }
    assert_eq!((house.open_attempts().await, house.ctx.gate.holders().await.unwrap().len()), (1, 1));

    house.sim.set_faults(Faults::default()).unwrap();
    house.sim.end(&house.only_call(ENDLESS).sid, Status::Completed).unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cleanups_at_once_do_what_one_does() {
    let (house, run) = deaf().await;
    house.sim.end(&house.only_call(ENDLESS).sid, Status::Completed).unwrap();
    house.sim.wait(Until::Idle, PATIENCE).await.unwrap();
    until_silent(&house, 1).await;
    // Two ghosts at the gate besides.
    let other = house.business(3).await;
    let ask =
        Ask { business: other, slot_limit: 3, lines: 50, talks: None, account: "AC", calls_per_second: 100.0, most: 2 };
    let Taken::Some { held, .. } = house.ctx.gate.take(&ask).await.unwrap() else { panic!("the gate is open") };
    assert_eq!(held.len(), 2);
    house
        .until("the ghosts are old enough", || async {
            house.ctx.gate.holders().await.unwrap().iter().all(|holder| holder.age >= gate::SETTLED)
        })
        .await;
    let order = ["cleanup", "--json", "--apply"];
    let both = futures::join!(house.ops(&order), house.ops(&order));
    for done in [both.0, both.1] {
        assert_eq!(done.code, 0, "{}", done.out);
    }
    assert!(house.ctx.gate.holders().await.unwrap().is_empty());
    let events = sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM attempt, jsonb_array_elements(transitions(events)) e WHERE e ->> 'to' = 'ended'"#
    );
    assert_eq!(events.fetch_one(&house.ctx.stores.pg).await.unwrap(), 1, "the call ended once");
    assert_eq!(house.jobs(run).await, [("completed".into(), Some("answered".into()), None)]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_run_is_not_touched_however_often_people_clean_up() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let worker = house.worker().await;
    let endless: Vec<String> = (212..215).map(|area| format!("+1{area}5550194")).collect();
    let run = house.started(business, &endless).await;
    house.until("three people listen", || async { house.attempts_in("answered").await == 3 }).await;
    let waiting = house.started(business, &numbers(6)).await;
    until_silent(&house, 3).await;
    let before = everything(&house).await;
    for _ in 0..3 {
        let order = ["cleanup", "--json", "--apply"];
        let (a, b, c) = futures::join!(house.ops(&order), house.ops(&order), house.ops(&order));
        for done in [a, b, c] {
            assert_eq!((done.code, done.json()["findings"].clone()), (0, json!([])));
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
    house.close_with([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_carrier_does_not_show_is_called_again_only_after_two_looks_that_prove_it() {
    let mut house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    let fault = Rule::next(CreateFault::Http500BeforeAccept, 1);
    house.sim.set_faults(Faults { create: vec![fault], ..Faults::default() }).unwrap();
    let run = house.started(business, &numbers(1)).await;
    house.until("the attempt is in doubt", || async { house.attempts_in("unknown").await == 1 }).await;
    house.stop_workers().await;
    let mut waited = 0;
    loop {
        let asked = house.ops(&["reconcile", "--json"]).await;
        let one = &asked.json()["data"][0];
        let age = one["age_ms"].as_i64().unwrap();
        if asked.code == 0 {
            assert!(age >= 2_000, "closed after {age} ms");
            assert!(waited > 0, "closed at the first look: {}", asked.out);
            break;
        }
        assert_eq!((asked.code, &one["slot_held"]), (3, &json!(true)), "{}", asked.out);
        assert_eq!((house.open_attempts().await, house.jobs_in(run, "dialing").await), (1, 1));
        waited += 1;
    }
    assert_eq!((house.jobs_in(run, "queued").await, house.attempts_in("not_placed").await), (1, 1));
    let dry = house.ops(&["cleanup", "--json"]).await;
    assert!(dry.found("attempt").is_empty(), "{}", dry.out);
    house.start_worker();
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.figures().total.created, 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_doubt_that_the_carrier_has_is_found_and_keeps_its_slot() {
    // It rings for longer than the test, so that no answer tells us its id.
    let sim = sim::Config { ring_ms: Millis::between(120_000, 120_000), ..sim::Config::quick() };
    let mut house = House::open(Options { sim: Some(sim), workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    let faults = Faults {
        create: vec![Rule::next(CreateFault::ResetAfterAccept, 1)],
        callback: vec![Rule::share(CallbackFault::Lost, 1.0)],
        list: vec![Rule::share(ApiFault::Unavailable, 1.0)],
        ..Faults::default()
    };
    house.sim.set_faults(faults).unwrap();
    let run = house.started(business, &[ENDLESS.to_owned()]).await;
    house.sim.wait(Until::Created(1), PATIENCE).await.unwrap();
    house.until("the attempt is in doubt", || async { house.attempts_in("unknown").await == 1 }).await;
    house.stop_workers().await;
    let attempt = house.ctx.gate.holders().await.unwrap()[0].attempt;
    let not_placed = async || by_person::settle(&house.ctx, attempt, &Word::NotPlaced).await.unwrap_err().to_string();
    house.until("its owner is done with it", async || !not_placed().await.contains("younger")).await;
    assert!(not_placed().await.contains("was asked first"), "nobody can say so while the carrier cannot be asked");
    house.sim.set_faults(Faults { list: Vec::new(), ..house.sim.faults() }).unwrap();
    let refused = not_placed().await;
    assert!(refused.contains(&house.only_call(ENDLESS).sid), "the carrier has the call: {refused}");
    let asked = house.ops(&["reconcile", "--json"]).await;
    let one = &asked.json()["data"][0];
    assert_eq!((asked.code, &one["slot_held"], &one["before"]), (3, &json!(true), &json!("unknown")), "{}", asked.out);
    assert!(one["heard"].as_str().unwrap().contains(&house.only_call(ENDLESS).sid), "{}", asked.out);
    assert_eq!(one["to"], "+*********94", "a whole number is printed");
    assert_eq!((house.open_attempts().await, house.attempts_in("unknown").await), (1, 0));
    house.sim.end(&house.only_call(ENDLESS).sid, Status::NoAnswer).unwrap();
    until_silent(&house, 1).await;
    let done = house.ops(&["cleanup", "--json", "--apply"]).await;
    assert_eq!(done.code, 0, "{}", done.out);
    assert_eq!((house.run_state(run).await.as_str(), house.sim.figures().total.created), ("completed", 1));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_took_what_waits_in_a_queue_and_what_was_cancelled_ends_without_a_worker() {
    let args = vec!["--carrier-queue-limit-secs", "1"];
    let mut house = House::open(Options { args, workers: 1, ..Options::default() }).await;
    let business = house.business(3).await;
    let queued = house.started(business, &[STAYS_QUEUED.to_owned()]).await;
    let cancelled = house.started(business, &[ENDLESS.to_owned()]).await;
    house.until("one waits", || async { house.attempts_in("placed").await == 1 }).await;
    house.until("one listens", || async { house.attempts_in("answered").await == 1 }).await;
    house.stop_workers().await;
    house.act(business, cancelled, "cancel").await;
    let call = json!({"to": numbers(1)[0], "message": {"text": "Hi"}, "max_wait_secs": 1});
    let request = client().post(format!("http://{}/v1/calls", house.addr)).bearer_auth(OPERATOR_KEY).json(&call);
    assert_eq!(answer(request.header("Rollcall-Business", business.to_string())).await.status, 201);
    assert_eq!(house.open_attempts().await, 3);

    house
        .until("all three are stuck", || async {
            let dry = house.ops(&["cleanup", "--json"]).await;
            let mut actions: Vec<String> =
                dry.found("attempt").iter().map(|found| found["action"].to_string()).collect();
            actions.sort();
            actions == [r#""cancel_in_queue""#, r#""close_untaken""#, r#""hang_up""#]
        })
        .await;
    assert_eq!((house.open_attempts().await, house.only_call(ENDLESS).status), (3, Status::InProgress));
    house.ops(&["cleanup", "--json", "--apply"]).await;
    house.until("nothing is open", || async { house.open_attempts().await == 0 }).await;
    assert_eq!((house.run_state(cancelled).await.as_str(), house.jobs_in(queued, "queued").await), ("cancelled", 1));
    assert_eq!((house.attempts_in("not_sent").await, house.sim.figures().total.created), (1, 2));
    house.stop_dialing(queued).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_should_have_ended_end_and_those_with_work_are_rung_for() {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    let (idle, busy) = (house.business(3).await, house.business(3).await);
    let over = house.run(idle, &numbers(4)).await;
    house.stop_dialing(over).await;
    let due = house.run(busy, &numbers(8)[4..]).await;
    let dry = house.ops(&["cleanup", "--json"]).await;
    let actions: Vec<_> = dry.found("run").iter().map(|f| (f["id"].clone(), f["action"].clone())).collect();
    let expected = [(json!(over), json!("end_run")), (json!(due), json!("ring"))];
    assert!(expected.iter().all(|one| actions.contains(one)) && actions.len() == 2, "{}", dry.out);
    assert_eq!((house.run_state(over).await.as_str(), house.ctx.bells.outstanding().await.unwrap()), ("running", 0));
    // With too many bells outstanding none is rung, and that is no success.
    let (scheduled, mut redis) = (house.ctx.stores.keys.key("dial:scheduled"), house.ctx.stores.redis.clone());
    let mut others = redis::pipe();
    for n in 0..200 {
        others.zadd(&scheduled, format!("bell:{n}"), 0).ignore();
    }
    others.query_async::<()>(&mut redis).await.unwrap();
    let full = house.ops(&["cleanup", "--json", "--apply"]).await;
    let ring = full.found("run").iter().find(|f| f["action"] == "ring").map(|f| f["outcome"]["done"].clone());
    assert_eq!((full.code, ring), (3, Some(json!(false))), "{}", full.out);
    redis::cmd("DEL").arg(&scheduled).query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(house.ops(&["cleanup", "--json", "--apply"]).await.code, 0);
    assert_eq!((house.run_state(over).await.as_str(), house.ctx.bells.outstanding().await.unwrap()), ("completed", 1));
    house.stop_dialing(due).await;
    house.close().await;
}
