//! A single call keeps to the business's window and to its limits for a number, and so does a run's trial, which calls from the
//! run's numbers as its jobs do.

use reqwest::Method;
use rollcall::{ids::BusinessId, sim::Until};
use serde_json::{Value, json};

use crate::{
    campaign_rules::{nine_to_eight, set_wall_clock},
    house::{House, Options},
    single_calls_go_first::ask,
};

const NEW_YORK: &str = "+12125550101";

async fn rules(house: &House, business: BusinessId, rules: Value) {
    let (status, answer) = ask(house, business, Method::PATCH, "/v1/calling-rules", Some(rules)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn call(house: &House, business: BusinessId, more: Value) -> (u16, Value) {
    let mut body = json!({"to": NEW_YORK, "message": {"text": "Hello", "language": "en-US"}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(house, business, Method::POST, "/v1/calls", Some(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_rings_only_within_the_hours_of_the_business_wherever_the_number_may_be() {
    let house = House::open(Options::default()).await;
    let business = house.business(2).await;
    house.ctx.gate.open().await.unwrap();
    rules(&house, business, json!({"window": nine_to_eight()})).await;
    let at = async |moment: &str| set_wall_clock(&house.ctx.stores.pg, moment).await;
    // A minute before eight: it would ring beyond it, after a minute in the carrier's queue.
    at("2026-11-24T00:59:00Z").await;
    let (status, problem) = call(&house, business, json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("window")), "{problem}");
    assert_eq!(problem["next_at"], "2026-11-24T14:00:00.000Z", "nine in New York");
    let (status, problem) = call(&house, business, json!({"time_zone": "New York"})).await;
    let error = &problem["errors"][0];
    assert_eq!((status, &error["pointer"], &error["code"]), (422, &json!("/time_zone"), &json!("unknown_time_zone")));
    // The list of the customer knows better than the number.
    let (status, made) = call(&house, business, json!({"time_zone": "America/Los_Angeles"})).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(ask(&house, business, Method::POST, &format!("/v1/calls/{id}/hangup"), None).await.0, 200);
    at("2026-11-24T14:00:00Z").await;
    let (status, made) = call(&house, business, json!({})).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(ask(&house, business, Method::POST, &format!("/v1/calls/{id}/hangup"), None).await.0, 200);
    house.close().await;
}

/// A call that waits for a worker, and the worker that comes when `changed` is done: what became of the call.
async fn while_it_waits(changed: impl AsyncFnOnce(&House, BusinessId)) -> (Value, u64) {
    let mut house = House::open(Options::default()).await;
    let business = house.business(2).await;
    house.ctx.gate.open().await.unwrap();
    set_wall_clock(&house.ctx.stores.pg, "2026-11-24T15:00:00Z").await;
    rules(&house, business, json!({"window": nine_to_eight()})).await;
    let (status, made) = call(&house, business, json!({"max_wait_secs": 300})).await;
    assert_eq!(status, 201, "{made}");
    changed(&house, business).await;
    house.start_worker();
    let path = format!("/v1/calls/{}", made["id"].as_str().unwrap());
    let shown = async || ask(&house, business, Method::GET, &path, None).await.1;
    house.until("the call is over", || async { shown().await["state"] == "ended" }).await;
    let (over, requests) = (shown().await, house.sim.figures().total.requests);
    house.until("its slot is free", || async { house.open_attempts().await == 0 }).await;
    house.close().await;
    (over, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_that_waits_is_not_dialed_once_its_number_is_suppressed() {
    let (over, requests) = while_it_waits(async |house, business| {
        let path = format!("/v1/suppressions/{NEW_YORK}");
        assert_eq!(ask(house, business, Method::PUT, &path, Some(json!({}))).await.0, 201);
    })
    .await;
    assert_eq!((over["reason"].as_str(), requests), (Some("suppressed"), 0), "{over}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_that_waits_is_not_dialed_once_the_window_is_closed_for_it_and_is_where_it_still_is_open() {
    let window = |from: &str| {
        let mut window = nine_to_eight();
        window["hours"][0]["from"] = from.into();
        window
    };
    let (over, requests) = while_it_waits(async |house, business| {
        rules(house, business, json!({"window": window("12:00")})).await;
    })
    .await;
    assert_eq!((over["reason"].as_str(), requests), (Some("window_ended"), 0), "{over}");
    let (over, _) = while_it_waits(async |house, business| {
        rules(house, business, json!({"window": window("08:00")})).await;
    })
    .await;
    assert_eq!(over["disposition"], "answered", "{over}");
}

async fn trial(house: &House, business: BusinessId, run: &str) -> (u16, Value) {
    let body = json!({"to": NEW_YORK, "variables": {"name": "Bo"}});
    ask(house, business, Method::POST, &format!("/v1/runs/{run}/test"), Some(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_and_a_trial_count_and_keep_to_what_a_number_may_be_dialed() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(2).await;
    rules(&house, business, json!({"attempt_caps": {"per_24h": 1}})).await;
    house.until("the gate is open", || async { house.ctx.gate.is_ready().await.unwrap() }).await;
    // The worker was rung for: while it looks for something to dial, it holds the business's slots.
    house.until("the call is taken", || async { call(&house, business, json!({})).await.0 == 201 }).await;
    house.sim.wait(Until::Ended(1), std::time::Duration::from_secs(60)).await.unwrap();
    house.until("the call is over", || async { house.open_attempts().await == 0 }).await;
    let (status, problem) = call(&house, business, json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("attempt_cap")), "{problem}");
    let run = house.run(business, &[NEW_YORK.to_owned()]).await;
    house.stop_dialing(run).await;
    let (status, problem) = trial(&house, business, &run.to_string()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("attempt_cap")), "{problem}");
    house.close().await;
}

/// A business with these numbers to call from, and a draft that may use them.
async fn draft(house: &House, callers: &[&str], more: Value) -> (BusinessId, String) {
    let business = house.business(2).await;
    house.ctx.gate.open().await.unwrap();
    let path = format!("/v1/businesses/{business}/carriers/twilio");
    let (status, answer) = ask(house, business, Method::PATCH, &path, Some(json!({ "caller_ids": callers }))).await;
    assert_eq!(status, 200, "{answer}");
    let mut body = json!({"name": "Test", "message": {"text": "Hello"}, "caller_ids": callers});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, made) = ask(house, business, Method::POST, "/v1/runs", Some(body)).await;
    assert_eq!(status, 201, "{made}");
    (business, made["id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_rings_only_within_the_hours_of_the_business() {
    let house = House::open(Options::default()).await;
    let (business, run) = draft(&house, &["+12025550100"], json!({})).await;
    rules(&house, business, json!({"window": nine_to_eight()})).await;
    // An hour before midnight in New York.
    set_wall_clock(&house.ctx.stores.pg, "2026-11-24T04:00:00Z").await;
    let (status, problem) = trial(&house, business, &run).await;
    assert_eq!((status, &problem["code"]), (409, &json!("window")), "{problem}");
    assert_eq!(problem["next_at"], "2026-11-24T14:00:00.000Z");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_calls_from_the_numbers_of_its_run_as_its_jobs_do() {
    let house = House::open(Options::default()).await;
    let pool = ["+12025550100", "+12125550100"];
    for (off, more, from) in [
        (Some(pool[0]), json!({}), pool[1]),
        (Some(pool[1]), json!({}), pool[0]),
        (None, json!({"local_presence": "area_code"}), pool[1]),
    ] {
        let (business, run) = draft(&house, &pool, more).await;
        if let Some(off) = off {
            let off = json!({"number": off, "enabled": false});
            assert_eq!(ask(&house, business, Method::PATCH, "/v1/caller-ids", Some(off)).await.0, 200);
        }
        let (status, made) = trial(&house, business, &run).await;
        assert_eq!((status, &made["from"]), (201, &json!(from)), "{made}");
        let id = made["id"].as_str().unwrap();
        assert_eq!(ask(&house, business, Method::POST, &format!("/v1/calls/{id}/hangup"), None).await.0, 200);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_from_a_number_that_is_switched_off_is_refused_for_good() {
    let house = House::open(Options::default()).await;
    let (business, _) = draft(&house, &["+12025550100", "+12125550100"], json!({})).await;
    let off = json!({"number": "+12025550100", "enabled": false});
    assert_eq!(ask(&house, business, Method::PATCH, "/v1/caller-ids", Some(off)).await.0, 200);
    let (status, problem) = call(&house, business, json!({"from": "+12025550100"})).await;
    let error = &problem["errors"][0];
    assert_eq!(
        (status, &error["pointer"], &error["code"]),
        (422, &json!("/from"), &json!("disabled_caller_id")),
        "{problem}"
    );
    house.close().await;
}
