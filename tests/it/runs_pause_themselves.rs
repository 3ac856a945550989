//! A run is looked at ahead, made again, put away, and pauses by its own rules; whom its calls come from.

use rollcall::{
    attempts::{
        ledger::{self, Closing, JobThen},
        state::{AttemptState, Disposition, Source},
    },
    ids::RunId,
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    campaign_rules::nine_to_eight,
    runs_harness::{Desk, number},
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_is_made_again_with_those_whom_nobody_reached_and_put_away_when_it_is_over(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let run = desk.running(4).await;
    desk.dial("answered").await;
    desk.dial("busy").await;
    let path = format!("/v1/runs/{run}");
    let early = desk.act(run, "archive").await;
    assert_eq!((early.status.as_u16(), &early.body["state"]), (409, &json!("running")), "{}", early.body);
    assert_eq!(early.body["allowed"], json!(["pause", "cancel", "leads"]));
    assert_eq!(desk.act(run, "cancel").await.status, 200);
    let put = format!("/v1/suppressions/{}", number(3));
    assert!(desk.app.ask(reqwest::Method::PUT, &put, &desk.key, json!({})).await.status.is_success());

    let copy = desk.post(&format!("{path}/clone"), json!({"name": "Again", "leads": "unreached"})).await;
    assert_eq!((copy.status.as_u16(), &copy.body["state"]), (201, &json!("draft")), "{}", copy.body);
    assert_eq!((&copy.body["name"], &copy.body["message"]["text"]), (&json!("Again"), &json!("Hello")));
    assert_eq!(copy.body["leads"], json!({"rows": 3, "accepted": 2, "duplicates": 0, "suppressed": 1, "rejected": 0}));
    let copied: RunId = copy.body["id"].as_str().unwrap().parse().unwrap();
    let to: Vec<_> = desk.jobs(copied).await.iter().map(|job| job["to"].clone()).collect();
    assert_eq!(to, [json!(number(1)), json!(number(2))], "in the order of the list");
    assert_eq!(desk.act(copied, "start").await.status, 200);
    assert!(desk.claim(1).await.is_some());
    let none = desk.act(run, "clone").await;
    assert_eq!((none.status.as_u16(), &none.body["leads"]["rows"]), (201, &json!(0)));

    assert!(desk.act(run, "archive").await.body["archived_at"].is_string());
    let twice = desk.act(run, "archive").await;
    assert_eq!((twice.status.as_u16(), &twice.body["allowed"]), (409, &json!([])), "{}", twice.body);
    assert!(twice.body["detail"].as_str().unwrap().starts_with("The run is archived already"), "{}", twice.body);
    let listed = |query: &'static str| {
        let desk = &desk;
        async move { desk.get(&format!("/v1/runs{query}")).await.body["data"].as_array().unwrap().len() }
    };
    assert_eq!((listed("").await, listed("?archived=true").await), (2, 3));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_preview_says_by_the_rules_of_the_claim_what_a_run_would_do_and_does_nothing(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let leads: Vec<Value> = (0..5)
        .map(|i| json!({"to": number(i), "time_zone": if i < 3 { "America/New_York" } else { "Asia/Tokyo" }}))
        .collect();
    let run = desk.run(json!({"message": {"text": "Hello"}, "window": nine_to_eight(), "leads": leads})).await;
    sqlx::query!(
        "INSERT INTO suppression (business_id, number, source) VALUES ($1, $2, 'test')",
        desk.business.0,
        number(1)
    )
    .execute(desk.pg())
    .await
    .unwrap();
    let preview = desk.act(run, "preview").await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    let figures = ["jobs", "to_dial", "open_now"].map(|name| preview.body[name].clone());
    assert_eq!(figures, [json!(5), json!(4), json!(2)], "two of New York may be called now: {}", preview.body);
    assert_eq!(preview.body["held_back"][0]["rule"], "suppressed");
    assert_eq!(preview.body["held_back"][0]["count"], 1);
    assert_eq!(preview.body["windows"][0]["zones"], json!(["America/New_York"]));
    assert_eq!(preview.body["windows"][1]["opens_at"], "2026-11-24T00:00:00.000Z");
    assert!(preview.body["until"].is_string());
    assert_eq!(desk.state(run).await, "draft");
    assert!(desk.jobs(run).await.iter().all(|job| job["state"] == "queued"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_whose_calls_fail_is_paused_by_its_breaker_and_counts_anew_when_a_person_resumes_it(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let leads: Vec<Value> = (0..20).map(|i| json!({"to": number(i)})).collect();
    let breaker = json!({"last": 5, "max_failed_pct": 50});
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "breaker": breaker})).await;
    for ended_as in ["answered", "busy", "failed", "failed"] {
        desk.dial(ended_as).await;
    }
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "running", "four calls say nothing yet");
    desk.dial("failed").await;
    desk.sweep().await;
    let paused = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!((&paused["state"], &paused["pause"]["reason"]), (&json!("paused"), &json!("breaker")));
    assert_eq!(desk.claim(1).await, None);
    let why = desk.get(&format!("/v1/runs/{run}/why")).await.body;
    assert!(why["blockers"].as_array().unwrap().iter().any(|one| one["code"] == "breaker"), "{why}");
    assert_eq!(desk.act(run, "resume").await.status, 200);
    desk.sweep().await;
    desk.dial("failed").await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "running", "what was before counts no more");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_call_is_placed_once_the_last_ones_are_too_bad_for_the_breaker(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let leads: Vec<Value> = (0..20).map(|i| json!({"to": number(i)})).collect();
    let breaker = json!({"last": 5, "max_failed_pct": 50});
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "breaker": breaker})).await;
    for _ in 0..5 {
        desk.dial("failed").await;
    }
    assert_eq!(desk.claim(1).await, None, "the sixth would be one too many, whoever sweeps when");
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "paused");
    assert_eq!(
        desk.patch(&format!("/v1/runs/{run}"), json!({"breaker": {"last": 50, "max_failed_pct": 50}})).await.status,
        200
    );
    assert_eq!(desk.act(run, "resume").await.status, 200);
    assert!(desk.claim(1).await.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_carrier_has_no_room_for_pauses_no_run(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let leads: Vec<Value> = (0..20).map(|i| json!({"to": number(i)})).collect();
    let breaker = json!({"last": 5, "max_failed_pct": 50});
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "breaker": breaker})).await;
    let refused = async |job, reason| {
        let attempt = desk.claim(1).await.expect("something is due");
        let (state, disposition) = (AttemptState::Refused, Some(Disposition::Refused));
        let closing = Closing { state, job, disposition, reason, ..Closing::NOT_PLACED };
        assert!(ledger::close(desk.pg(), attempt, Source::Response, closing).await.unwrap().unwrap().closed);
    };
    for _ in 0..6 {
        refused(JobThen::Requeue, None).await;
    }
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "running", "the carrier said 429, and nobody was charged");
    for _ in 0..5 {
        refused(JobThen::Fail, Some("refused")).await;
    }
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "paused");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_places_no_call_beyond_its_budget(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let leads: Vec<Value> = (0..9).map(|i| json!({"to": number(i)})).collect();
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "budget": {"max_attempts": 2}})).await;
    desk.dial("answered").await;
    assert!(desk.claim(1).await.is_some());
    assert_eq!(desk.claim(2).await, None, "the third would be beyond it, whoever sweeps when");
    desk.sweep().await;
    let paused = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!((&paused["state"], &paused["pause"]["reason"]), (&json!("paused"), &json!("budget")));
    // Calls of this test last 7 s each.
    let more = json!({"budget": {"max_attempts": 9, "max_call_minutes": 1}});
    assert_eq!(desk.patch(&format!("/v1/runs/{run}"), more).await.status, 200);
    assert_eq!(desk.act(run, "resume").await.status, 200);
    assert!(desk.claim(2).await.is_some());
    sqlx::query!("UPDATE tally_shard SET call_secs = 60 WHERE run_id = $1", run.0).execute(desk.pg()).await.unwrap();
    assert_eq!(desk.claim(3).await, None);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_leaves_people_without_a_voice_is_paused(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let leads: Vec<Value> = (0..20).map(|i| json!({"to": number(i)})).collect();
    let guard = json!({"max_pct": 10, "min_answered": 10});
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "abandon_guard": guard})).await;
    for ended_as in ["answered"; 9].into_iter().chain(["abandoned"]) {
        desk.dial(ended_as).await;
    }
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "running", "one in ten is allowed");
    desk.dial("abandoned").await;
    desk.sweep().await;
    let paused = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!(paused["pause"]["reason"], "abandon_guard", "{paused}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_is_called_from_a_number_near_it_that_has_room_and_from_none_that_is_off(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let pool = ["+12025550100", "+12125550100", "+13105550100"];
    let path = format!("/v1/businesses/{}/carriers/twilio", desk.business);
    let more = json!({"caller_ids": pool});
    let answer = desk.app.ask(reqwest::Method::PATCH, &path, crate::api_harness::OPERATOR, more).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let leads: Vec<Value> = (0..4).map(|i| json!({"to": format!("+1212555014{i}")})).collect();
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "local_presence": "area_code"})).await;
    let from = |attempt: rollcall::ids::AttemptId| {
        let desk = &desk;
        async move {
            let from = sqlx::query_scalar!("SELECT from_number FROM attempt WHERE attempt_id = $1", attempt.0);
            from.fetch_one(desk.pg()).await.unwrap()
        }
    };
    let first = desk.claim(1).await.unwrap();
    assert_eq!(from(first).await, pool[1]);
    let limit = json!({"number": pool[1], "max_at_once": 1});
    assert_eq!(desk.patch("/v1/caller-ids", limit).await.status, 200);
    let second = desk.claim(2).await.unwrap();
    assert_ne!(from(second).await, pool[1], "it has its one call");
    for number in pool {
        let off = json!({"number": number, "enabled": false});
        assert_eq!(desk.patch("/v1/caller-ids", off).await.status, 200);
    }
    assert_eq!(desk.claim(3).await, None);
    let why = desk.get(&format!("/v1/runs/{run}/why")).await.body;
    assert!(why["blockers"].as_array().unwrap().iter().any(|one| one["code"] == "no_caller_id"), "{why}");
}
