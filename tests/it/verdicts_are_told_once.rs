//! What is decided about a number, written down once and in the right words.

use rollcall::stores::MIGRATOR;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    campaign_rules::one_lead,
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
