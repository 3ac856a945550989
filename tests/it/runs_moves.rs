//! A run moves only as its state allows, and each answer says what it left in flight.

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::{Answer, answer},
    runs_harness::{Desk, event, number},
};

fn refusal(answer: &Answer) -> (u16, &str, &Value) {
    (answer.status.as_u16(), answer.slug(), &answer.body["allowed"])
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_goes_from_draft_to_its_end_and_every_other_move_is_refused(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(3).await;
    for action in ["pause", "resume", "cancel"] {
        let refused = desk.act(run, action).await;
        assert_eq!(refusal(&refused), (409, "run-state", &json!(["start", "leads", "delete"])));
        assert_eq!(refused.body["state"], "draft");
    }
    let started = desk.act(run, "start").await;
    assert_eq!((started.status.as_u16(), &started.body["state"]), (200, &json!("running")));
    assert!(started.body["started_at"].is_string());
    let again = desk.act(run, "start").await;
    assert_eq!(refusal(&again), (409, "run-state", &json!(["pause", "cancel", "leads"])));

    let paused = desk.act(run, "pause").await;
    let pause = &paused.body["run"]["pause"];
    assert_eq!((&paused.body["run"]["state"], &pause["reason"]), (&json!("paused"), &json!("person")));
    assert!(pause["by"].as_str().unwrap().starts_with("key:"));
    assert_eq!((&paused.body["in_flight"], &paused.body["in_flight_total"]), (&json!([]), &json!(0)));
    assert_eq!(refusal(&desk.act(run, "pause").await), (409, "run-state", &json!(["resume", "cancel", "leads"])));
    let resumed = desk.act(run, "resume").await;
    assert_eq!((&resumed.body["state"], &resumed.body["pause"]), (&json!("running"), &Value::Null));

    let cancelled = desk.act(run, "cancel").await;
    let progress = &cancelled.body["run"]["progress"];
    assert_eq!(cancelled.body["run"]["state"], "cancelled");
    assert_eq!((&progress["states"]["cancelled"], &progress["dispositions"]), (&json!(3), &json!({"cancelled": 3})));
    for action in ["start", "pause", "resume", "cancel"] {
        assert_eq!(refusal(&desk.act(run, action).await), (409, "run-state", &json!([])));
    }
    assert_eq!(desk.csv(run, "to\n+12025550150\n").await.status, 409);
    let delete = desk.app.ask(Method::DELETE, &format!("/v1/runs/{run}"), &desk.key, Value::Null).await;
    assert_eq!(delete.slug(), "run-state");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_pause_lists_what_is_in_flight_and_a_cancel_asks_for_its_end(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(5).await;
    let (first, second) = (desk.claim(1).await.unwrap(), desk.claim(2).await.unwrap());
    event(desk.pg(), desk.business, second, "ringing", None).await;

    let paused = desk.act(run, "pause").await;
    let listed = paused.body["in_flight"].as_array().unwrap();
    let states: Vec<_> =
        listed.iter().map(|a| (a["attempt_id"].as_str().unwrap(), a["state"].as_str().unwrap())).collect();
    assert_eq!(states, [(first.to_string().as_str(), "intent"), (second.to_string().as_str(), "ringing")]);
    assert!(listed.iter().all(|a| a["since"].is_string() && a["job_id"].is_string() && a["to"].is_string()));
    assert_eq!(desk.claim(3).await, None, "a paused run is not claimed from");

    let cancelled = desk.act(run, "cancel").await;
    assert_eq!(
        (&cancelled.body["run"]["state"], &cancelled.body["in_flight_total"]),
        (&json!("cancelling"), &json!(2))
    );
    assert_eq!(cancelled.body["run"]["progress"]["states"]["cancelled"], 3);
    let wanted = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE hangup_wanted AND open"#);
    assert_eq!(wanted.fetch_one(desk.pg()).await.unwrap(), 2);
    assert_eq!(refusal(&desk.act(run, "cancel").await), (409, "run-state", &json!([])));

    event(desk.pg(), desk.business, first, "ended", Some("cancelled")).await;
    event(desk.pg(), desk.business, second, "ended", Some("answered")).await;
    let run = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!((&run["state"], &run["progress"]["states"]["completed"]), (&json!("cancelled"), &json!(1)));
    assert_eq!((&run["progress"]["states"]["cancelled"], &run["progress"]["slots"]["held"]), (&json!(4), &json!(0)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_long_list_is_cancelled_to_its_end_also_by_another_process(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let (here, elsewhere) = (desk.running(1).await, desk.running(1).await);
    for run in [here, elsewhere] {
        let more = sqlx::query!(
            "INSERT INTO job (job_id, run_id, business_id, to_number)
             SELECT gen_random_uuid(), $1, $2, '+1303200' || lpad(i::text, 4, '0') FROM generate_series(0, 5199) i",
            run.0,
            desk.business.0
        );
        more.execute(desk.pg()).await.unwrap();
    }
    let cancelled = desk.act(here, "cancel").await.body;
    assert_eq!((&cancelled["run"]["state"], &cancelled["in_flight_total"]), (&"cancelling".into(), &0.into()));
    assert_eq!(cancelled["run"]["progress"]["states"]["cancelled"], 5_000);
    assert_eq!(rollcall::dialing::cancel::finish(desk.pg()).await.unwrap(), 201);
    assert_eq!(desk.state(here).await, "cancelled");

    // As a process leaves it that dies behind the first transaction of a cancel.
    let half = sqlx::query!("UPDATE run SET state = 'cancelling' WHERE run_id = $1", elsewhere.0);
    half.execute(desk.pg()).await.unwrap();
    assert_eq!(rollcall::dialing::cancel::finish(desk.pg()).await.unwrap(), 5_000, "a batch a round");
    assert_eq!(rollcall::dialing::cancel::finish(desk.pg()).await.unwrap(), 201);
    assert_eq!(desk.state(elsewhere).await, "cancelled");
    assert_eq!(rollcall::dialing::cancel::finish(desk.pg()).await.unwrap(), 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_start_is_refused_until_list_account_and_message_are_ready(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let empty = desk.run(json!({"message": {"text": "Hello"}})).await;
    assert_eq!(desk.act(empty, "start").await.fault(), ("/leads", "no_leads"));
    let mute = desk.run(json!({"leads": [{"to": number(0)}]})).await;
    assert_eq!(desk.act(mute, "start").await.fault(), ("/message", "required"));

    let (business, key) = desk.app.managed().await;
    let desk = Desk { business, key, ..desk };
    let run = desk.run_of(1).await;
    let refused = desk.act(run, "start").await;
    assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("/carriers", "no_carrier_account")));
    assert!(refused.body["detail"].as_str().unwrap().contains(&format!("/v1/businesses/{business}/carriers/twilio")));
    assert_eq!(desk.state(run).await, "draft");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_variable_that_leads_lack_refuses_the_start_with_the_rows_named(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({"message": {"text": "Hello {{first_name}}, {{city | default(\"there\")}}"}})).await;
    let mut leads: Vec<Value> = (0..30).map(|i| json!({"to": number(i), "variables": {"first_name": "Ada"}})).collect();
    for (i, lacking) in leads.iter_mut().enumerate().skip(5) {
        lacking["variables"] = if i % 2 == 0 { json!({}) } else { json!({"first_name": null}) };
    }
    assert_eq!(desk.post(&format!("/v1/runs/{run}/leads"), json!(leads)).await.body["accepted"], 30);
    let refused = desk.act(run, "start").await;
    assert_eq!(
        (refused.status.as_u16(), refused.slug(), refused.fault()),
        (422, "validation", ("/message/text", "missing_variable"))
    );
    let detail = refused.body["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("first_name") && detail.starts_with("25 leads") && detail.contains("6, 7, 8"), "{detail}");
    assert!(detail.ends_with("25, …."), "{detail}");

    // Once the leads that lack it are cancelled, nothing stands in the way.
    let jobs = desk.get(&format!("/v1/runs/{run}/jobs?limit=500")).await.body;
    for job in jobs["data"].as_array().unwrap().iter().filter(|job| job["variables"]["first_name"].is_null()) {
        assert_eq!(
            desk.post(&format!("/v1/jobs/{}/cancel", job["id"].as_str().unwrap()), Value::Null).await.status,
            200
        );
    }
    assert_eq!(desk.act(run, "start").await.body["state"], "running");
    // A run that speaks already takes nobody whom it could not speak to.
    let late = json!([{"to": number(40)}, {"to": number(41), "variables": {"first_name": "Bo"}}]);
    let added = desk.post(&format!("/v1/runs/{run}/leads"), late).await.body;
    assert_eq!((&added["accepted"], &added["errors"][0]["code"]), (&json!(1), &json!("missing_variable")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_draft_can_be_deleted_with_everything_in_it(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(2).await;
    assert_eq!(desk.csv(run, "to\nnobody\n").await.status, 200);
    let path = format!("/v1/runs/{run}");
    assert_eq!(desk.app.ask(Method::DELETE, &path, &desk.key, Value::Null).await.status, 204);
    assert_eq!(desk.get(&path).await.status, 404);
    let left = sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM tally) + (SELECT count(*) FROM lead_import)
                  + (SELECT count(*) FROM rejected_lead) AS "n!""#
    );
    assert_eq!(left.fetch_one(desk.pg()).await.unwrap(), 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_draft_that_was_archived_is_not_started_changed_or_given_leads(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(1).await;
    assert_eq!(desk.act(run, "archive").await.status, 200);
    let path = format!("/v1/runs/{run}");
    let leads = desk.post(&format!("{path}/leads"), json!([{"to": number(5)}])).await;
    let changed = desk.app.ask(Method::PATCH, &path, &desk.key, json!({"name": "Again"})).await;
    for refused in [desk.act(run, "start").await, leads, changed, desk.act(run, "archive").await] {
        assert_eq!(refusal(&refused), (409, "run-state", &json!(["delete"])), "{}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains("archived"), "{}", refused.body);
    }
    assert_eq!(desk.claim(1).await, None);
    let copy = desk.post(&format!("{path}/clone"), json!({"leads": "all"})).await;
    assert_eq!((copy.status.as_u16(), &copy.body["archived_at"]), (201, &Value::Null), "{}", copy.body);
    assert_eq!(desk.app.ask(Method::DELETE, &path, &desk.key, Value::Null).await.status, 204);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_idempotency_key_makes_one_run(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let body = json!({"name": "Once", "leads": [{"to": number(0)}]});
    let headers = [("Idempotency-Key", "one")];
    let ask = |body: Value| desk.app.ask_with(Method::POST, "/v1/runs", &desk.key, body, &headers);
    let first = ask(body.clone()).await;
    let second = ask(body).await;
    assert_eq!((first.status.as_u16(), &first.body), (201, &second.body));
    assert_eq!(desk.get("/v1/runs").await.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(ask(json!({"name": "Twice"})).await.slug(), "idempotency-mismatch");

    let path = format!("{}/v1/runs/{}/leads", desk.app.base, first.body["id"].as_str().unwrap());
    let upload = |file: &'static str| {
        let request = desk.app.http.post(&path).bearer_auth(&desk.key).header("Idempotency-Key", "list");
        answer(request.header("content-type", "text/csv").body(file))
    };
    let first = upload("to\n+12025550177\n").await;
    assert_eq!((first.status.as_u16(), &first.body["accepted"]), (200, &json!(1)));
    assert_eq!(upload("to\n+12025550177\n").await.body, first.body, "the stored answer, not a second upload");
    assert_eq!(upload("to\n+12025550178\n").await.slug(), "idempotency-mismatch");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_business_sees_and_moves_nothing(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(2).await;
    let attempt = desk.claim(1).await.unwrap();
    let job = desk.get(&format!("/v1/attempts/{attempt}")).await.body["job_id"].as_str().unwrap().to_owned();
    let (_, stranger) = desk.app.managed().await;
    let gets =
        ["", "/jobs", "/results.csv", "/rejected.csv", "/events", "/why"].map(|rest| format!("/v1/runs/{run}{rest}"));
    for path in gets.into_iter().chain([format!("/v1/jobs/{job}"), format!("/v1/attempts/{attempt}")]) {
        let answer = desk.app.ask(Method::GET, &path, &stranger, Value::Null).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    for path in ["start", "pause", "resume", "cancel", "leads"].map(|act| format!("/v1/runs/{run}/{act}")) {
        let body = if path.ends_with("leads") { json!([]) } else { Value::Null };
        assert_eq!(desk.app.ask(Method::POST, &path, &stranger, body).await.status, 404, "{path}");
    }
    let cancel = format!("/v1/jobs/{job}/cancel");
    assert_eq!(desk.app.ask(Method::POST, &cancel, &stranger, Value::Null).await.status, 404);
    let found = desk.app.ask(Method::GET, "/v1/jobs?to=%2B12015550100", &stranger, Value::Null).await;
    assert_eq!(found.body["data"], json!([]));
    assert_eq!(desk.get("/v1/jobs?to=%2B12015550100").await.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(desk.get("/v1/jobs?to=+12015550100").await.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(desk.state(run).await, "running");
}
