//! What a request leaves out stays as it is, and what it says is never dropped without a word.

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::{Answer, App, OPERATOR, answer},
    runs_harness::{Desk, number},
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_limit_that_is_not_named_stays_and_null_takes_it_away(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let caps = async |caps: Value| {
        let set = desk.patch("/v1/calling-rules", json!({ "attempt_caps": caps })).await;
        assert_eq!(set.status, 200, "{}", set.body);
        set.body["attempt_caps"].clone()
    };
    caps(json!({"per_day": 1, "lifetime": 9})).await;
    assert_eq!(caps(json!({"per_24h": 2})).await, json!({"per_day": 1, "per_24h": 2, "lifetime": 9}));
    assert_eq!(caps(json!({"per_day": null})).await, json!({"per_day": null, "per_24h": 2, "lifetime": 9}));
    let wrong = desk.patch("/v1/calling-rules", json!({"attempt_caps": {"per_week": 1}})).await;
    assert_eq!(wrong.fault(), ("/attempt_caps/per_week", "unknown_field"));

    let path = format!("/v1/businesses/{}", desk.business);
    let keep = async |days: Value| {
        let set = desk.app.ask(Method::PATCH, &path, OPERATOR, json!({ "retention": days })).await;
        assert_eq!(set.status, 200, "{}", set.body);
        set.body["retention"].clone()
    };
    keep(json!({"transcripts_days": 7, "variables_days": 30})).await;
    assert_eq!(
        keep(json!({"recordings_days": 5, "variables_days": null})).await,
        json!({"transcripts_days": 7, "recordings_days": 5, "variables_days": null})
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_part_of_an_agents_settings_that_is_not_named_stays(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let made = desk.post("/v1/agents", json!({"name": "A", "prompt": "Be kind.", "limits": {"turns": 7}})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = format!("/v1/agents/{}", made.body["id"].as_str().unwrap());
    let change = async |body: Value| desk.patch(&path, body).await;
    change(json!({"limits": {"call_secs": 60}, "voice": {"id": "v1"}, "models": {"temperature": 0.5}})).await;
    let now = change(json!({"voice": {"speed": 1.1}, "models": {"temperature": null, "max_tokens": 9}})).await.body;
    assert_eq!((&now["limits"]["turns"], &now["limits"]["call_secs"]), (&json!(7), &json!(60)), "{now}");
    assert_eq!((&now["voice"]["id"], &now["voice"]["speed"]), (&json!("v1"), &json!(1.1)));
    assert_eq!((&now["models"]["temperature"], &now["models"]["max_tokens"]), (&Value::Null, &json!(9)));
    for (body, fault) in [
        (json!({"limits": {"call_hours": 1}}), ("/limits/call_hours", "unknown_field")),
        (json!({"limits": {"turns": "many"}}), ("/limits/turns", "wrong_type")),
        (json!({"limits": []}), ("/limits", "wrong_type")),
        (json!({"limits": {"turns": 0}}), ("/limits/turns", "out_of_range")),
    ] {
        assert_eq!(change(body.clone()).await.fault(), fault, "{body}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_shows_that_a_number_is_not_called_outlives_a_repetition(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, key) = app.managed().await;
    let post = async |body: Value| -> Answer { app.ask(Method::POST, "/v1/suppressions", &key, body).await };
    let terms = json!({"number": "+12025550101", "source": "crm", "note": "asked", "expires_at": "2099-01-01T00:00:00Z",
                       "evidence": {"text": "letter", "url": "https://crm.example/1", "at": "2026-01-02T03:04:05Z"}});
    let first = post(terms).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let again = post(json!({"number": "+12025550101"})).await;
    assert_eq!((again.status.as_u16(), &again.body), (200, &first.body), "nothing was said, so nothing changed");
    let one = "/v1/suppressions/+12025550101";
    let changed = app.ask(Method::PUT, one, &key, json!({"note": null, "evidence": {"text": "call"}})).await.body;
    assert_eq!((&changed["note"], &changed["source"]), (&Value::Null, &json!("crm")));
    assert_eq!(
        changed["evidence"],
        json!({"text": "call", "url": "https://crm.example/1", "at": "2026-01-02T03:04:05.000Z"})
    );
    let row = "number,note,expires_at,evidence\n+12025550101,by list,,\n+12025550101,,,twice\n";
    let sent = app.http.post(format!("{}/v1/suppressions", app.base)).bearer_auth(&key);
    assert_eq!(answer(sent.header("content-type", "text/csv").body(row)).await.body["changed"], 2);
    let listed = app.ask(Method::GET, one, &key, Value::Null).await.body;
    assert_eq!((&listed["note"], &listed["source"]), (&json!("by list"), &json!("crm")), "{listed}");
    assert_eq!((&listed["evidence"]["text"], &listed["expires_at"]), (&json!("twice"), &first.body["expires_at"]));
    assert_eq!(listed["evidence"]["url"], "https://crm.example/1");
    let none = app.ask(Method::PUT, one, &key, json!({"evidence": null, "expires_at": null})).await.body;
    assert_eq!((&none["evidence"], &none["expires_at"]), (&Value::Null, &Value::Null));
    assert_eq!(post(json!({"number": "+12025550101"})).await.body["expires_at"], Value::Null, "never shortened");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_entry_that_has_expired_holds_again_when_it_is_repeated(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, key) = app.managed().await;
    let over = json!({"number": "+12025550101", "note": "for a year", "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(app.ask(Method::POST, "/v1/suppressions", &key, over).await.status, 201);
    let again = app.ask(Method::POST, "/v1/suppressions", &key, json!({"number": "+12025550101"})).await.body;
    assert_eq!((&again["expires_at"], &again["note"]), (&Value::Null, &json!("for a year")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_day_is_its_beginning_in_utc_in_a_list_and_in_a_request(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, key) = app.managed().await;
    let body = json!({"expires_at": "2030-01-01", "evidence": {"at": "2026-01-02"}});
    let put = app.ask(Method::PUT, "/v1/suppressions/+12025550101", &key, body).await;
    assert_eq!(
        (put.status.as_u16(), &put.body["expires_at"]),
        (201, &json!("2030-01-01T00:00:00.000Z")),
        "{}",
        put.body
    );
    assert_eq!(put.body["evidence"]["at"], "2026-01-02T00:00:00.000Z");
    let wrong = app.ask(Method::PUT, "/v1/suppressions/+12025550101", &key, json!({"expires_at": "1.1.2030"})).await;
    assert_eq!(wrong.fault(), ("/expires_at", "invalid_value"), "{}", wrong.body);
    assert!(wrong.body["errors"][0]["detail"].as_str().unwrap().contains("2026-11-22T08:00:00Z"), "{}", wrong.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_route_takes_a_query_that_it_does_not_know(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(1).await;
    for (method, path, field) in [
        (Method::POST, format!("/v1/runs/{run}/clone?leads=all"), "?leads"),
        (Method::POST, "/v1/runs?foo=1".to_owned(), "?foo"),
        (Method::POST, format!("/v1/runs/{run}/leads?foo=1"), "?foo"),
        (Method::POST, format!("/v1/runs/{run}/start?foo"), "?foo"),
        (Method::GET, format!("/v1/runs/{run}/why?foo=1"), "?foo"),
        (Method::GET, format!("/v1/runs/{run}/decisions.csv?job=1"), "?job"),
        (Method::GET, format!("/v1/runs/{run}?foo=1"), "?foo"),
        (Method::GET, "/v1/runs?foo=1".to_owned(), "?foo"),
        (Method::GET, "/v1/calendars?foo=1".to_owned(), "?foo"),
        (Method::PATCH, "/v1/calling-rules?window=null".to_owned(), "?window"),
        (Method::DELETE, format!("/v1/runs/{run}?force=1"), "?force"),
    ] {
        let refused = desk.app.ask(method.clone(), &path, &desk.key, json!({"name": "x"})).await;
        assert_eq!((refused.status.as_u16(), refused.fault()), (422, (field, "unknown_field")), "{method} {path}");
    }
    assert_eq!(desk.state(run).await, "draft", "nothing was done");
    assert_eq!(desk.get(&format!("/v1/runs/{run}?")).await.status, 200, "nothing is said behind this mark");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn calendars_are_shown_by_pages(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    for name in ["b", "a", "c"] {
        let path = format!("/v1/calendars/{name}");
        let put = desk.app.ask(Method::PUT, &path, &desk.key, json!({"dates": ["2026-12-25"]})).await;
        assert_eq!(put.status, 200, "{}", put.body);
    }
    let names = |page: &Answer| -> Vec<Value> {
        page.body["data"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    let first = desk.get("/v1/calendars?limit=2").await;
    assert_eq!(names(&first), ["a", "b"], "{}", first.body);
    let next = desk.get(&format!("/v1/calendars?cursor={}", first.body["next_cursor"].as_str().unwrap())).await;
    assert_eq!((names(&next), &next.body["next_cursor"]), (vec![json!("c")], &Value::Null));
    assert_eq!(desk.get("/v1/calendars?limit=501").await.fault(), ("?limit", "out_of_range"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_field_that_is_there_twice_is_refused_in_a_lead_too(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({"message": {"text": "Hello"}})).await;
    let send = async |path: &str, body: String| {
        let request = desk.app.http.post(format!("{}{path}", desk.app.base)).bearer_auth(&desk.key);
        answer(request.header("content-type", "application/json").body(body)).await
    };
    let (one, other) = (number(1), number(2));
    let leads = format!(r#"[{{"to":"{}"}},{{"to":"{one}","to":"{other}"}}]"#, number(0));
    let refused = send(&format!("/v1/runs/{run}/leads"), leads.clone()).await;
    assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("/1/to", "duplicate_field")), "{}", refused.body);
    let refused = send("/v1/runs", format!(r#"{{"name":"x","leads":{leads}}}"#)).await;
    assert_eq!(refused.fault(), ("/leads/1/to", "duplicate_field"), "{}", refused.body);
    let twice = format!(r#"[{{"to":"{one}","variables":{{"name":"A","name":"B"}}}}]"#);
    let refused = send(&format!("/v1/runs/{run}/leads"), twice).await;
    assert_eq!(refused.fault(), ("/0/variables/name", "duplicate_field"), "{}", refused.body);
    assert_eq!(desk.get(&format!("/v1/runs/{run}")).await.body["leads"]["rows"], 0);
}
