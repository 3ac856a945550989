//! A call that is to be recorded is, at either carrier: the recording is listed, and its sound fetched with the business's account.

use rollcall::{
    attempts::recordings,
    ids::BusinessId,
    sim::{CallbackFault, Faults, Rule},
};
use serde_json::{Value, json};

use crate::{
    api_harness::answer,
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
    telnyx_house::telnyx_event,
};

async fn get(house: &House, business: BusinessId, path: &str) -> reqwest::Response {
    let request = client().get(format!("http://{}{path}", house.addr)).bearer_auth(OPERATOR_KEY);
    request.header("Rollcall-Business", business.to_string()).send().await.unwrap()
}

async fn listed(house: &House, business: BusinessId, query: &str) -> Vec<Value> {
    let body: Value = get(house, business, &format!("/v1/recordings{query}")).await.json().await.unwrap();
    body["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_run_that_asks_for_it_is_recorded_at_both_carriers() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    for business in [house.business(2).await, house.telnyx_business(2).await] {
        let run = house.run(business, &numbers(3)).await;
        sqlx::query!("UPDATE run SET record = true WHERE run_id = $1", run.0)
            .execute(&house.ctx.stores.pg)
            .await
            .unwrap();
        let silent = house.run(business, &["+12125550190".to_owned()]).await;
        house.ctx.ring(business).await;
        house.until_run_is(run, "completed").await;
        house.until_run_is(silent, "completed").await;
        house.until("three are listed", || async { listed(&house, business, "").await.len() == 3 }).await;
        assert_eq!(listed(&house, business, &format!("?run_id={run}")).await.len(), 3);
        assert!(listed(&house, business, &format!("?run_id={silent}")).await.is_empty());
        for recording in listed(&house, business, "").await {
            assert_eq!(recording["channels"], json!(2));
            let path = recording["url"].as_str().unwrap().to_owned();
            let sound = get(&house, business, &path).await;
            assert_eq!(
                (sound.status().as_u16(), &sound.headers()["content-type"]),
                (200, &"audio/mpeg".parse().unwrap())
            );
            let text = sound.text().await.unwrap();
            assert_eq!(text, format!("ID3 the sound of {}", recording["carrier_recording_id"].as_str().unwrap()));
            let attempt: Value =
                get(&house, business, &format!("/v1/attempts/{}", recording["attempt_id"].as_str().unwrap()))
                    .await
                    .json()
                    .await
                    .unwrap();
            assert_eq!(attempt["recording_url"], json!(path));
            let other = house.business(1).await;
            assert_eq!(get(&house, other, &path).await.status(), 404, "another business's");
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_no_carrier_told_of_is_asked_for_and_kept_once() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let lost = Rule { status: Some("in-progress".to_owned()), ..Rule::share(CallbackFault::Lost, 1.0) };
    house.sim.set_faults(Faults { callback: vec![lost], ..Faults::default() }).unwrap();
    for business in [house.business(2).await, house.telnyx_business(2).await] {
        let run = house.run(business, &numbers(2)).await;
        sqlx::query!("UPDATE run SET record = true WHERE run_id = $1", run.0)
            .execute(&house.ctx.stores.pg)
            .await
            .unwrap();
        house.ctx.ring(business).await;
        house.until_run_is(run, "completed").await;
        house.until("both are listed", || async { listed(&house, business, "").await.len() == 2 }).await;
        for recording in listed(&house, business, "").await {
            assert_eq!(recording["channels"], json!(2), "{recording}");
            let sound = get(&house, business, recording["url"].as_str().unwrap()).await;
            assert_eq!(sound.status(), 200);
        }
    }
    let pg = &house.ctx.stores.pg;
    assert!(recordings::pick_untold(pg, 10, 0, &[]).await.unwrap().is_empty(), "what is known is not asked for");
    // A call that left no recording is asked about ever more seldom, and a day later no more.
    sqlx::query!("UPDATE attempt SET recording_url = NULL, next_look_at = NULL").execute(pg).await.unwrap();
    assert_eq!(recordings::pick_untold(pg, 10, 0, &[]).await.unwrap().len(), 4);
    assert!(recordings::pick_untold(pg, 10, 0, &[]).await.unwrap().is_empty(), "not again at once");
    sqlx::query!("UPDATE attempt SET recording_url = 'x'").execute(pg).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_its_carrier_tells_of_without_a_name_is_asked_for_at_once() {
    let mut house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.telnyx_business(1).await;
    let run = house.started(business, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    // Nobody else asks.
    house.stop_workers().await;
    let attempt = house.only_attempt(run).await;
    let pg = &house.ctx.stores.pg;
    sqlx::query!("UPDATE attempt SET record = true").execute(pg).await.unwrap();
    let hour = 3_600_000;
    assert!(recordings::pick_untold(pg, 10, hour, &[]).await.unwrap().is_empty(), "it ended just now");
    let mut saved = telnyx_event(
        business,
        "v3:x",
        "call.recording.saved",
        json!({"channels": "single",
        "recording_started_at": "2026-11-20T17:30:00Z", "recording_urls": {"mp3": "https://example.com/x.mp3"}}),
    );
    saved["data"]["payload"].as_object_mut().unwrap().remove("call_control_id");
    assert_eq!(house.telnyx_told(&house.telnyx_hook(business, attempt), &saved).await, 200);
    assert_eq!(recordings::pick_untold(pg, 10, hour, &[]).await.unwrap().len(), 1);
    sqlx::query!("UPDATE attempt SET recording_url = 'x'").execute(pg).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_is_recorded_and_a_doubled_or_forged_word_of_it_adds_nothing() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.telnyx_business(1).await;
    let request = client().post(format!("http://{}/v1/calls", house.addr)).bearer_auth(OPERATOR_KEY);
    let body = json!({"to": "+12125550190", "message": {"text": "Hi"}, "record": true});
    let call = answer(request.header("Rollcall-Business", business.to_string()).json(&body)).await;
    assert_eq!(call.status, 201, "{}", call.body);
    house.until("it is listed", || async { listed(&house, business, "").await.len() == 1 }).await;
    let [recording] = &listed(&house, business, "").await[..] else { panic!("one") };
    assert_eq!((&recording["attempt_id"], &recording["run_id"]), (&call.body["id"], &Value::Null));
    let attempt = call.body["id"].as_str().unwrap().parse().unwrap();
    let path = house.telnyx_hook(business, attempt);
    let saved = |id: &str| telnyx_event(business, "v3:x", "call.recording.saved", json!({"recording_id": id}));
    assert_eq!(house.telnyx_told(&path, &saved(recording["carrier_recording_id"].as_str().unwrap())).await, 200);
    assert_eq!(listed(&house, business, "").await.len(), 1, "a double");
    assert_eq!(house.telnyx_told(&path, &saved("../../calls")).await, 403);
    let stranger =
        house.telnyx_post(&path, &saved("d7e9c1d4-8b2a-4b8f-b3a7-9a671c9e9b0a").to_string(), &[1; 32], 0).await;
    assert_eq!(stranger, 403);
    assert_eq!(listed(&house, business, "").await.len(), 1);
    house.close().await;
}
