//! Telnyx accounts over the API: what is asked for, what is shown, and that the key never is.

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::api_harness::{App, OPERATOR};

const PUBLIC_KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const OTHER_KEY: &str = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

fn account() -> Value {
    json!({"api_key": "KEY-secret-0123", "connection_id": "1293384261075731461", "public_key": PUBLIC_KEY,
        "caller_ids": ["+12025550100"]})
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_account_is_set_shown_without_its_key_changed_and_deleted(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let path = format!("/v1/businesses/{}/carriers/telnyx", app.business().await);
    assert_eq!(app.ask(Method::GET, &path, OPERATOR, Value::Null).await.status, 404);
    let set = app.ask(Method::PUT, &path, OPERATOR, account()).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let mut shown = set.body.clone();
    assert!(shown["secrets"]["api_key"]["updated_at"].take().is_string());
    let expected = json!({"carrier": "telnyx", "connection_id": "1293384261075731461", "public_key": PUBLIC_KEY,
        "caller_ids": ["+12025550100"], "calls_per_second": 1.0, "api_base_url": null, "health": "unchecked",
        "secrets": {"api_key": {"set": true, "updated_at": null}}});
    assert_eq!(shown, expected);
    let changed =
        app.ask(Method::PATCH, &path, OPERATOR, json!({"public_key": OTHER_KEY, "calls_per_second": 5})).await;
    assert_eq!((&changed.body["public_key"], &changed.body["calls_per_second"]), (&json!(OTHER_KEY), &json!(5.0)));
    assert_eq!(changed.body["secrets"], set.body["secrets"], "the key stays");
    let former = sqlx::query!(
        r#"SELECT former_public_key, former_until > clock_timestamp() + interval '23 hours' AS "day!" FROM carrier_account"#
    );
    let former = former.fetch_one(&app.ctx.stores.pg).await.unwrap();
    assert_eq!((former.former_public_key.as_deref(), former.day), (Some(PUBLIC_KEY), true));
    // What changes no key ends the time of the one before it neither sooner nor later; nor does a secret that signs nothing.
    let kept = async || {
        let kept = sqlx::query!("SELECT former_public_key, former_until FROM carrier_account");
        let kept = kept.fetch_one(&app.ctx.stores.pg).await.unwrap();
        (kept.former_public_key, kept.former_until)
    };
    let before = kept().await;
    let mut same = account();
    same["public_key"] = json!(OTHER_KEY);
    assert_eq!(app.ask(Method::PUT, &path, OPERATOR, same.clone()).await.status, 200);
    assert_eq!(kept().await, before);
    assert_eq!(app.ask(Method::PATCH, &path, OPERATOR, json!({"calls_per_second": 7})).await.status, 200);
    same["api_key"] = json!("KEY-secret-4567");
    assert_eq!(app.ask(Method::PUT, &path, OPERATOR, same).await.status, 200);
    assert_eq!(kept().await, before);
    for answer in [&set, &changed, &app.ask(Method::GET, &path, OPERATOR, Value::Null).await] {
        assert!(!answer.body.to_string().contains("KEY-secret"), "{}", answer.body);
    }
    assert_eq!(app.ask(Method::DELETE, &path, OPERATOR, Value::Null).await.status, 204);
    assert_eq!(app.ask(Method::GET, &path, OPERATOR, Value::Null).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_account_that_does_not_fit_is_pointed_at_and_never_echoed(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let path = format!("/v1/businesses/{}/carriers/telnyx", app.business().await);
    for (field, value) in [
        ("api_key", json!("with a blank")),
        ("api_key", json!("")),
        ("connection_id", json!("AC1")),
        ("connection_id", json!("1/../2")),
        ("public_key", json!("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")),
        ("public_key", json!("c2hvcnQ=")),
        ("caller_ids", json!([])),
        ("account_sid", json!("AC1")),
    ] {
        let mut body = account();
        body[field] = value;
        let seen = app.ask(Method::PUT, &path, OPERATOR, body).await;
        assert_eq!((seen.status.as_u16(), seen.fault().0), (422, &*format!("/{field}")), "{:?}", seen.body);
        assert!(!seen.body.to_string().contains("with a blank"));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_business_and_its_runs_name_their_carriers_in_order(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (business, key) = app.managed().await;
    let path = format!("/v1/businesses/{business}");
    let both = json!({"carriers": ["telnyx", "twilio"]});
    assert_eq!(app.ask(Method::PATCH, &path, OPERATOR, both.clone()).await.body["carriers"], both["carriers"]);
    for (list, code) in [(json!([]), "invalid_value"), (json!(["telnyx", "telnyx"]), "invalid_value")] {
        let seen = app.ask(Method::PATCH, &path, OPERATOR, json!({ "carriers": list })).await;
        assert_eq!(seen.fault(), ("/carriers", code));
    }
    let new = |more: Value| {
        let mut body = json!({"name": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let run = app.ask(Method::POST, "/v1/runs", &key, new(json!({}))).await;
    assert_eq!(run.body["carriers"], both["carriers"], "the business's order");
    let run = app.ask(Method::POST, "/v1/runs", &key, new(json!({"carriers": ["twilio"]}))).await;
    assert_eq!(run.body["carriers"], json!(["twilio"]));
    // A number may be called from where one of the run's own carriers has it.
    assert_eq!(app.ask(Method::PUT, &format!("{path}/carriers/telnyx"), OPERATOR, account()).await.status, 200);
    let from = json!({"caller_ids": ["+12025550100"], "carriers": ["telnyx"]});
    assert_eq!(app.ask(Method::POST, "/v1/runs", &key, new(from)).await.status, 201);
    let from = json!({"caller_ids": ["+12025550100"], "carriers": ["twilio"]});
    let seen = app.ask(Method::POST, "/v1/runs", &key, new(from)).await;
    assert_eq!(seen.fault(), ("/caller_ids/0", "unknown_caller_id"));
}
