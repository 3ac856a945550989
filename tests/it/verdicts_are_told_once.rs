//! What is decided about a number, written down once and in the right words.

use rollcall::{ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    campaign_rules::{nine_to_eight, one_lead},
    runs_harness::{Desk, number},
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_verdict_that_stays_the_same_is_written_down_once(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.started(one_lead(&json!({}))).await;
    assert!(desk.claim(1).await.is_some());
    let second = desk.started(one_lead(&json!({}))).await;
    for _ in 0..3 {
        assert_eq!(desk.claim(2).await, None, "the number is in a call");
        assert_eq!(desk.jobs(second).await[0]["state"], "waiting");
        sqlx::query!("UPDATE job SET next_at = now() WHERE state = 'waiting'").execute(desk.pg()).await.unwrap();
        desk.sweep().await;
    }
    let id = desk.jobs(second).await[0]["id"].as_str().unwrap().to_owned();
    let decisions = desk.get(&format!("/v1/jobs/{id}")).await.body["decisions"].clone();
    assert_eq!(decisions.as_array().unwrap().len(), 1, "{decisions}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_zone_that_postgres_does_not_know_stops_no_other_call(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let caps = json!({"attempt_caps": {"per_day": 1}});
    assert_eq!(desk.patch("/v1/calling-rules", caps).await.status, 200);
    let run = desk.started(one_lead(&json!({}))).await;
    // A zone that a later tz database of the program has, and this server's has not.
    sqlx::query!("UPDATE job SET time_zones = '{Nowhere/Yet}' WHERE run_id = $1", run.0)
        .execute(desk.pg())
        .await
        .unwrap();
    assert!(desk.claim(1).await.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whom_nobody_reached_and_who_asks_for_no_more_calls_is_unreached_and_not_skipped(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let run = desk.started(one_lead(&json!({"retry": {"max_attempts": 3}}))).await;
    desk.dial("busy").await;
    let put = format!("/v1/suppressions/{}", number(0));
    assert!(desk.app.ask(reqwest::Method::PUT, &put, &desk.key, json!({})).await.status.is_success());
    let job = &desk.jobs(run).await[0];
    assert_eq!(
        [&job["state"], &job["reason"], &job["disposition"]],
        [&json!("unreached"), &json!("suppressed"), &json!("busy")]
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_lead_that_is_added_while_its_window_is_closed_is_told_what_holds_it(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let added = async |run: RunId, i: usize| {
        let lead = json!([{"to": number(i), "time_zone": "America/New_York"}]);
        assert_eq!(desk.post(&format!("/v1/runs/{run}/leads"), lead).await.status, 200);
        let job = desk.jobs(run).await.into_iter().find(|job| job["to"] == number(i)).unwrap();
        let job = desk.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await.body;
        job["decisions"].as_array().unwrap().iter().map(|one| (one["rule"].clone(), one["next_at"].clone())).collect()
    };
    // Ten in the evening, on a day to come.
    desk.at("2046-11-23T03:00:00Z").await;
    let run = desk.started(one_lead(&json!({ "window": nine_to_eight() }))).await;
    let told: Vec<(Value, Value)> = added(run, 1).await;
    assert_eq!(told, [(json!("window"), json!("2046-11-23T14:00:00.000Z"))]);
    // A lead that comes when it opened again was held by nothing.
    desk.at("2016-11-23T03:00:00Z").await;
    let run = desk.started(one_lead(&json!({ "window": nine_to_eight() }))).await;
    desk.at("2016-11-23T15:00:00Z").await;
    desk.sweep().await;
    let told: Vec<(Value, Value)> = added(run, 1).await;
    assert_eq!(told, []);
}
