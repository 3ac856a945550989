//! What a preview says is what the claim would do: how many, until when, what is held back and why.

use chrono::{DateTime, Utc};
use rollcall::{config::Role, error::ApiError, heartbeats::Beat, ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::OPERATOR,
    campaign_rules::nine_to_eight,
    heartbeats_say_who_is_there::beat,
    runs_harness::{Desk, number},
};

/// Numbers to call from.
const POOL: [&str; 3] = ["+12025550100", "+12025550101", "+12025550102"];

fn leads(n: usize, extra: &Value) -> Value {
    let lead = |i: usize| {
        let mut lead = extra.clone();
        lead["to"] = json!(number(i));
        lead
    };
    json!({"message": {"text": "Hello"}, "leads": (0..n).map(lead).collect::<Vec<_>>()})
}

async fn preview(desk: &Desk, run: RunId) -> Value {
    let answer = desk.act(run, "preview").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn figures(preview: &Value) -> [i64; 3] {
    ["jobs", "to_dial", "open_now"].map(|name| preview[name].as_i64().unwrap())
}

/// What is held back: rule, verdict, count.
fn held_back(preview: &Value) -> Vec<(&str, &str, i64)> {
    let all = preview["held_back"].as_array().unwrap();
    all.iter()
        .map(|one| (one["rule"].as_str().unwrap(), one["verdict"].as_str().unwrap(), one["count"].as_i64().unwrap()))
        .collect()
}

async fn pool(desk: &Desk, settings: &Value) {
    let path = format!("/v1/businesses/{}/carriers/twilio", desk.business);
    let set = desk.app.ask(reqwest::Method::PATCH, &path, OPERATOR, json!({ "caller_ids": POOL })).await;
    assert_eq!(set.status, 200, "{}", set.body);
    for number in POOL {
        let mut body = settings.clone();
        body["number"] = json!(number);
        assert_eq!(desk.patch("/v1/caller-ids", body).await.status, 200);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whom_nobody_calls_before_tomorrow_is_not_open_now_nor_called_today(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let tomorrow = "2026-11-24T12:00:00.000Z";
    let run = desk.run(leads(5, &json!({"not_before": tomorrow}))).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([5, 5, 0], vec![("not_before", "held", 5)]), "{seen}");
    assert_eq!(seen["held_back"][0]["next_at"], tomorrow);
    assert!(seen["until"].as_str().unwrap() > tomorrow, "{seen}");
    // And not before the callee's morning.
    let mut body = leads(2, &json!({"not_before": tomorrow, "time_zone": "America/New_York"}));
    body["window"] = nine_to_eight();
    let run = desk.run(body).await;
    let seen = preview(&desk, run).await;
    assert!(seen["until"].as_str().unwrap() > "2026-11-24T14:00:00.000Z", "{seen}");
    // One that comes too late for the run is no call of it.
    let mut body = leads(2, &json!({"not_before": tomorrow}));
    body["end_at"] = json!("2026-11-24T11:00:00Z");
    let run = desk.run(body).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([2, 0, 0], vec![("run_ended", "skipped", 2)]), "{seen}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whom_a_limit_holds_until_tomorrow_is_called_tomorrow(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let caps = json!({"attempt_caps": {"per_24h": 1}});
    assert_eq!(desk.patch("/v1/calling-rules", caps).await.status, 200);
    desk.started(leads(1, &json!({}))).await;
    desk.dial("no_answer").await;
    let run = desk.run(leads(2, &json!({}))).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([2, 2, 1], vec![("attempt_cap", "held", 1)]), "{seen}");
    assert!(seen["until"].as_str() > seen["held_back"][0]["next_at"].as_str(), "{seen}");
    assert!(seen["held_back"][0]["next_at"].as_str() > seen["at"].as_str());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_beyond_the_budget_is_not_called(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let mut body = leads(8, &json!({}));
    body["budget"] = json!({"max_attempts": 3});
    let run = desk.run(body).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([8, 3, 3], vec![("budget", "held", 5)]), "{seen}");
    assert_eq!(desk.act(run, "start").await.status, 200);
    desk.dial("answered").await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([7, 2, 2], vec![("budget", "held", 5)]), "{seen}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_is_called_where_every_number_to_call_from_is_off(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    pool(&desk, &json!({"enabled": false})).await;
    let run = desk.run(leads(1, &json!({}))).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([1, 0, 0], vec![("no_caller_id", "held", 1)]), "{seen}");
    assert_eq!((&seen["until"], &seen["held_back"][0]["next_at"]), (&Value::Null, &Value::Null));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn numbers_that_are_taken_once_a_day_take_as_many_days_as_they_need(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    pool(&desk, &json!({"max_per_day": 1})).await;
    let run = desk.run(leads(5, &json!({}))).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([5, 5, 3], vec![("no_caller_id", "held", 2)]), "{seen}");
    assert_eq!(seen["held_back"][0]["next_at"], "2026-11-24T00:00:00.000Z");
    let until = seen["until"].as_str().unwrap();
    assert!(until > "2026-11-24T00:00:00.000Z" && until < "2026-11-25T00:00:00.000Z", "{seen}");
    let run = desk.run(leads(7, &json!({}))).await;
    let seen = preview(&desk, run).await;
    assert!(seen["until"].as_str().unwrap() > "2026-11-25T00:00:00.000Z", "{seen}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_waits_is_called_later_and_what_a_list_names_not_at_all(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let mut body = leads(5, &json!({}));
    body["retry"] = json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 600, "jitter_pct": 0}}});
    let run = desk.started(body).await;
    desk.dial("busy").await;
    // By a prefix of its own list, and by the list of the installation.
    let (own, all) = (desk.business, uuid::Uuid::nil());
    desk.by_hand(&format!(
        "INSERT INTO suppression (business_id, number, source) VALUES ('{own}', '{}*', 'test'), ('{all}', '{}', 'test')",
        number(2),
        number(3)
    ))
    .await;
    let seen = preview(&desk, run).await;
    assert_eq!(
        (figures(&seen), held_back(&seen)),
        ([5, 3, 2], vec![("retry_wait", "held", 1), ("suppressed", "skipped", 2)]),
        "{seen}"
    );
    assert!(seen["until"].as_str() > seen["held_back"][0]["next_at"].as_str(), "{seen}");
    // Its time has come, and no sweep has seen it yet.
    desk.by_hand("UPDATE job SET next_at = clock_timestamp() WHERE state = 'waiting'").await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([5, 3, 3], vec![("suppressed", "skipped", 2)]), "{seen}");
}

/// How long a preview says that it takes, seconds.
fn takes(preview: &Value) -> i64 {
    let [at, until] = ["at", "until"].map(|name| preview[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap());
    (until - at).num_seconds()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_list_takes_as_long_as_the_pace_the_lines_and_the_room_for_conversations_make_it(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let path = format!("/v1/businesses/{}", desk.business);
    let change = async |path: String, body: Value| {
        let answer = desk.app.ask(reqwest::Method::PATCH, &path, OPERATOR, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    change(path.clone(), json!({"max_concurrent_calls": 30})).await;
    change(format!("{path}/carriers/twilio"), json!({"calls_per_second": 100.0})).await;
    desk.by_hand("UPDATE installation SET max_lines = 500").await;
    // A call is taken to last as long as it may ring.
    let ring = i64::from(desk.app.ctx.settings.ring_timeout_secs);
    let run = desk.run(leads(60, &json!({}))).await;
    assert_eq!(takes(&preview(&desk, run).await), 2 * ring);
    desk.by_hand("UPDATE installation SET max_lines = 10").await;
    assert_eq!(takes(&preview(&desk, run).await), 6 * ring);
    change(format!("{path}/carriers/twilio"), json!({"calls_per_second": 0.1})).await;
    assert_eq!(takes(&preview(&desk, run).await), 600);

    let agent = desk.post("/v1/agents", json!({"name": "A", "prompt": "Talk.", "greeting": "Hello."})).await.body;
    let mut body = leads(60, &json!({}));
    body.as_object_mut().unwrap().remove("message");
    body["agent_id"] = agent["id"].clone();
    let run = desk.run(body).await;
    let seen = preview(&desk, run).await;
    assert_eq!((&seen["to_dial"], &seen["until"]), (&json!(60), &Value::Null), "nobody talks, and nobody is dialed");
    let ctx = &desk.app.ctx;
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut ctx.stores.redis.clone()).await.unwrap();
    let calls = Beat { role: Role::Calls, most_sessions: Some(2), in_flight: 0, ..beat("calls", now * 1_000) };
    ctx.heartbeats.write(&calls).await.unwrap();
    assert_eq!(takes(&preview(&desk, run).await), (30 * ring).max(600));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_could_never_call_anybody_says_so_and_is_not_started(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let hours = |day: &str| json!({"hours": [{"days": [day], "from": "09:00", "to": "20:00"}]});
    assert_eq!(desk.patch("/v1/calling-rules", json!({ "window": hours("mon") })).await.status, 200);
    let mut body = leads(2, &json!({}));
    body["window"] = hours("tue");
    let run = desk.run(body).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([2, 0, 0], vec![("window", "held", 2)]), "{seen}");
    assert_eq!([&seen["windows"][0]["never"], &seen["until"]], [&json!(true), &Value::Null], "{seen}");
    let refused = desk.act(run, "start").await;
    assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("/window", "invalid_window")), "{}", refused.body);
    assert_eq!(refused.body["type"], "/problems/validation");
    assert_eq!(desk.state(run).await, "draft");
    // One number that may be called is enough, and so is another window.
    let business = json!({"window": {"hours": [{"days": ["mon"], "from": "00:00", "to": "01:00"}], "zone": "UTC"}});
    assert_eq!(desk.patch("/v1/calling-rules", business).await.status, 200);
    let run_hours = json!({"window": {"hours": [{"days": ["sun"], "from": "18:00", "to": "22:00"}]}});
    assert_eq!(desk.patch(&format!("/v1/runs/{run}"), run_hours).await.status, 200);
    let started = desk.act(run, "start").await;
    assert_eq!(started.status, 200, "{}", started.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_waits_for_its_start_keeps_a_time_to_call(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let hours = |day: &str| json!({"window": {"hours": [{"days": [day], "from": "09:00", "to": "20:00"}]}});
    assert_eq!(desk.patch("/v1/calling-rules", hours("mon")).await.status, 200);
    let mut body = leads(2, &json!({}));
    body["start_at"] = json!("2099-01-01T00:00:00Z");
    let run = desk.run(body).await;
    assert_eq!(desk.act(run, "start").await.status, 200);
    let path = format!("/v1/runs/{run}");
    let refused = desk.patch(&path, hours("tue")).await;
    assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("/window", "invalid_window")), "{}", refused.body);
    // Another window of the business may have left it none.
    assert_eq!(desk.patch(&path, hours("mon")).await.status, 200);
    assert_eq!(desk.patch("/v1/calling-rules", hours("tue")).await.status, 200);
    assert_eq!(desk.patch(&path, json!({"start_at": null})).await.fault(), ("/window", "invalid_window"));
    assert_eq!(desk.state(run).await, "scheduled");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn hours_in_which_no_phone_can_ring_to_its_end_are_no_hours(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let hours =
        |day: &str, from: &str, to: &str| json!({"hours": [{"days": [day], "from": from, "to": to}], "zone": "UTC"});
    assert_eq!(desk.patch("/v1/calling-rules", json!({"window": hours("mon", "09:00", "10:00")})).await.status, 200);
    let mut body = leads(2, &json!({}));
    body["window"] = hours("mon", "09:59", "11:00");
    body["ring_timeout_secs"] = json!(30);
    let run = desk.run(body).await;
    let seen = preview(&desk, run).await;
    assert_eq!((figures(&seen), held_back(&seen)), ([2, 0, 0], vec![("window", "held", 2)]), "{seen}");
    let refused = desk.act(run, "start").await;
    assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("/window", "invalid_window")), "{}", refused.body);
    // A minute is enough for a phone that rings for five seconds.
    let changed = desk.patch(&format!("/v1/runs/{run}"), json!({"ring_timeout_secs": 5})).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(figures(&preview(&desk, run).await), [2, 2, 0]);
    let started = desk.act(run, "start").await;
    assert_eq!(started.status, 200, "{}", started.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
#[expect(clippy::disallowed_methods, reason = "it takes long, which no query of the product should")]
async fn a_statement_that_hit_its_limit_is_not_called_a_store_that_is_away(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let mut tx = desk.pg().begin().await.unwrap();
    for limit in ["SET LOCAL statement_timeout = 1", "SELECT count(*) FROM generate_series(1, 1000000000)"] {
        let Err(error) = sqlx::query(limit).execute(&mut *tx).await else { continue };
        let body = ApiError::from(error).body();
        assert_eq!((&body["status"], &body["type"]), (&json!(503), &json!("/problems/unavailable")));
        assert!(body["detail"].as_str().unwrap().contains("too long"), "{body}");
        assert!(!body.to_string().contains("cannot be reached"), "{body}");
        return;
    }
    panic!("nothing was given up");
}
