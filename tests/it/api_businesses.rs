//! Businesses, keys and accounts, in the shapes that outside tools rely on.

use reqwest::Method;
use rollcall::{businesses::profile, businesses::vault::OpenError, ids::Carrier, stores::MIGRATOR};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::api_harness::{ACCOUNT_SID, App, OPERATOR};

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z') && &text[19..20] == ".")
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_business_has_the_shape_and_the_defaults_of_the_public_surface(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let made = app.ask(Method::POST, "/v1/businesses", OPERATOR, json!({"name": " Acme "})).await;
    assert_eq!(made.status, 201);
    let mut rest = made.body.clone();
    for time in ["created_at", "updated_at"] {
        assert!(is_time(&rest[time]), "{rest}");
        rest.as_object_mut().unwrap().remove(time);
    }
    let id = rest.as_object_mut().unwrap().remove("id").unwrap();
    assert_eq!(
        rest,
        json!({"name": "Acme", "state": "active", "max_concurrent_calls": 3, "default_region": "US", "time_zone": null,
               "allowed_countries": null, "carriers": ["twilio"], "slots": {"held": 0, "limit": 3},
               "retention": {"transcripts_days": null, "recordings_days": null, "variables_days": null}})
    );
    let path = format!("/v1/businesses/{}", id.as_str().unwrap());
    assert_eq!(app.ask(Method::GET, &path, OPERATOR, Value::Null).await.body, made.body);
    let profile = profile::read(&app.ctx.stores.pg, id.as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((profile.slots, profile.accounts.len()), (3, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_keeps_what_is_absent_and_clears_what_is_null(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let path = format!("/v1/businesses/{}", app.business().await);
    let change = |body| app.ask(Method::PATCH, &path, OPERATOR, body);
    let set =
        change(json!({"time_zone": "Europe/Berlin", "allowed_countries": ["DE", "US"], "max_concurrent_calls": 5}))
            .await;
    assert_eq!(set.status, 200);
    let changed = change(json!({"time_zone": null, "state": "suspended"})).await.body;
    assert_eq!(changed["time_zone"], Value::Null);
    assert_eq!(changed["allowed_countries"], json!(["DE", "US"]));
    assert_eq!(changed["slots"], json!({"held": 0, "limit": 5}));
    assert_eq!(changed["state"], "suspended");
    for field in ["name", "state", "max_concurrent_calls", "default_region", "carriers"] {
        let refused = change(json!({ field: null })).await;
        let pointer = format!("/{field}");
        assert_eq!((refused.status.as_u16(), refused.fault().0), (422, pointer.as_str()));
    }
    let none = "/v1/businesses/00000000-0000-7000-8000-000000000000";
    assert_eq!(app.ask(Method::PATCH, none, OPERATOR, json!({})).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn lists_come_in_pages_without_gap_or_repeat(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(app.business().await.to_string());
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = app.ask(Method::GET, &format!("/v1/businesses{query}"), OPERATOR, Value::Null).await.body;
        seen.extend(page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, made);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_is_shown_once_and_kept_as_a_hash(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let path = format!("/v1/businesses/{}/keys", app.business().await);
    let made = app.ask(Method::POST, &path, OPERATOR, json!({"name": "crm", "role": "manager"})).await.body;
    assert_eq!(names(&made), ["created_at", "id", "key", "name", "prefix", "revoked_at", "role"]);
    let (key, prefix) = (made["key"].as_str().unwrap(), made["prefix"].as_str().unwrap());
    assert!(key.starts_with(prefix) && prefix.len() == 7 && prefix.starts_with("rk_"));
    assert_eq!((&made["role"], &made["name"], &made["revoked_at"]), (&json!("manager"), &json!("crm"), &Value::Null));
    let listed = app.ask(Method::GET, &path, OPERATOR, Value::Null).await.body["data"][0].clone();
    assert_eq!(names(&listed), ["created_at", "id", "name", "prefix", "revoked_at", "role"]);
    let me = app.ask(Method::GET, "/v1/me", key, Value::Null).await.body;
    assert_eq!((&me["role"], &me["key"], &me["business"]["name"]), (&json!("manager"), &listed, &json!("Test")));
    let missing = "/v1/businesses/00000000-0000-7000-8000-000000000000/keys";
    assert_eq!(app.ask(Method::POST, missing, OPERATOR, json!({"role": "viewer"})).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_account_never_shows_its_secret(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let business = app.business().await;
    let path = format!("/v1/businesses/{business}/carriers/twilio");
    assert_eq!(app.ask(Method::GET, &path, OPERATOR, Value::Null).await.status, 404);
    let put = app.account(business).await;
    assert_eq!(put.status, 200);
    let mut body = put.body.clone();
    assert!(is_time(&body["secrets"]["auth_token"]["updated_at"]));
    body["secrets"]["auth_token"]["updated_at"] = Value::Null;
    assert_eq!(
        body,
        json!({"carrier": "twilio", "account_sid": ACCOUNT_SID, "caller_ids": ["+12025550100"], "calls_per_second": 1.0,
               "api_base_url": null, "secrets": {"auth_token": {"set": true, "updated_at": null}}, "health": "unchecked"})
    );
    assert_eq!(app.ask(Method::GET, &path, OPERATOR, Value::Null).await.body, put.body);
    let profile = profile::read(&app.ctx.stores.pg, business).await.unwrap().unwrap();
    let account = &profile.accounts[0];
    let opened = app.ctx.vault.open(business, Carrier::Twilio, &account.secret, &account.sealing_key).unwrap();
    assert_eq!(opened.expose_secret(), "a-secret-token");
    assert_eq!(app.ask(Method::DELETE, &path, OPERATOR, Value::Null).await.status, 204);
    assert_eq!(app.ask(Method::DELETE, &path, OPERATOR, Value::Null).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_secret_moved_to_another_business_does_not_open(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (ours, theirs) = (app.business().await, app.business().await);
    app.account(ours).await;
    app.account(theirs).await;
    sqlx::query!(
        "UPDATE carrier_account a SET secret = b.secret FROM carrier_account b WHERE a.business_id = $1 AND b.business_id = $2",
        ours.0,
        theirs.0
    )
    .execute(&app.ctx.stores.pg)
    .await
    .unwrap();
    let profile = profile::read(&app.ctx.stores.pg, ours).await.unwrap().unwrap();
    let account = &profile.accounts[0];
    let opened = app.ctx.vault.open(ours, Carrier::Twilio, &account.secret, &account.sealing_key);
    assert_eq!(opened.unwrap_err(), OpenError::Damaged);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn changed_credentials_are_unchecked_again_and_other_changes_keep_health_and_secret(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let app = App::start(pg).await;
    let business = app.business().await;
    let path = format!("/v1/businesses/{business}/carriers/twilio");
    let made = app.account(business).await.body;
    let refuse = async || {
        sqlx::query!("UPDATE carrier_account SET health = 'refused', hold_until = now() + interval '1 hour'")
            .execute(&app.ctx.stores.pg)
            .await
            .unwrap();
    };
    let change = |body| app.ask(Method::PATCH, &path, OPERATOR, body);
    refuse().await;
    let slower = change(json!({"calls_per_second": 0.5})).await.body;
    assert_eq!((&slower["health"], &slower["calls_per_second"]), (&json!("refused"), &json!(0.5)));
    assert_eq!(slower["secrets"], made["secrets"]);
    let renewed = change(json!({"auth_token": "another-token"})).await.body;
    assert_eq!(renewed["health"], "unchecked");
    assert_ne!(renewed["secrets"], made["secrets"]);
    // The same once more is no new one: what the one before it signed counts as long as it did.
    assert_eq!(change(json!({"auth_token": "another-token", "calls_per_second": 2})).await.status, 200);
    let former = sqlx::query!(
        r#"SELECT former_secret AS "secret!", former_sealing_key AS "key!" FROM carrier_account WHERE business_id = $1"#,
        business.0
    );
    let former = former.fetch_one(&app.ctx.stores.pg).await.unwrap();
    let former = app.ctx.vault.open(business, Carrier::Twilio, &former.secret, &former.key).unwrap();
    assert_ne!(former.expose_secret(), "another-token");
    refuse().await;
    let moved = change(json!({"api_base_url": "http://127.0.0.1:9099/"})).await.body;
    assert_eq!((&moved["health"], &moved["api_base_url"]), (&json!("unchecked"), &json!("http://127.0.0.1:9099")));
    let held = sqlx::query_scalar!(
        r#"SELECT hold_until IS NOT NULL AS "held!" FROM carrier_account WHERE business_id = $1"#,
        business.0
    );
    assert!(!held.fetch_one(&app.ctx.stores.pg).await.unwrap());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_account_that_does_not_fit_is_pointed_at_and_never_echoed(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let path = format!("/v1/businesses/{}/carriers/twilio", app.business().await);
    for (field, value, pointer) in [
        ("account_sid", json!("AC1"), "/account_sid"),
        ("auth_token", json!("with a blank"), "/auth_token"),
        ("caller_ids", json!([]), "/caller_ids"),
        ("caller_ids", json!(["+12025550100", "+12025550100"]), "/caller_ids/1"),
        ("caller_ids", json!(["2025550100"]), "/caller_ids/0"),
        ("calls_per_second", json!(0), "/calls_per_second"),
        ("calls_per_second", json!(10_001), "/calls_per_second"),
        ("api_base_url", json!("http://example.com"), "/api_base_url"),
        ("api_key", json!("x"), "/api_key"),
    ] {
        let mut body = json!({"account_sid": ACCOUNT_SID, "auth_token": "t", "caller_ids": ["+12025550100"]});
        body[field] = value;
        let seen = app.ask(Method::PUT, &path, OPERATOR, body).await;
        assert_eq!((seen.status.as_u16(), seen.fault().0), (422, pointer), "{:?}", seen.body);
        assert!(!seen.body.to_string().contains("with a blank"));
    }
    assert_eq!(app.ask(Method::PUT, &path.replace("twilio", "x"), OPERATOR, json!({})).await.status, 404);
}
