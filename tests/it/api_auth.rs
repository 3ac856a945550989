//! Who may do what, and that nobody sees or moves another's data.

use reqwest::Method;
use rollcall::{ids::BusinessId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::api_harness::{App, OPERATOR};

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_role_may_do_what_it_should_and_no_more(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let business = app.business().await;
    let (viewer, manager) = (app.key(business, "viewer").await.1, app.key(business, "manager").await.1);
    let of_business = format!("/v1/businesses/{business}");
    let suppress = json!({"number": "+12025550123"});
    for (method, path, body, by_viewer, by_manager, by_operator, bare_operator) in [
        (Method::GET, "/v1/me", Value::Null, 200, 200, 200, 200),
        (Method::GET, "/v1/runs", Value::Null, 200, 200, 200, 422),
        // Without a business the operator speaks of the installation's own list.
        (Method::GET, "/v1/suppressions", Value::Null, 200, 200, 200, 200),
        (Method::POST, "/v1/suppressions", suppress, 403, 201, 200, 201),
        (Method::DELETE, "/v1/suppressions/+12025550123", Value::Null, 403, 204, 404, 204),
        (Method::DELETE, "/v1/numbers/+12025550123", Value::Null, 403, 200, 200, 422),
        (Method::GET, "/v1/businesses", Value::Null, 403, 403, 200, 200),
        (Method::GET, &of_business, Value::Null, 403, 403, 200, 200),
        (Method::GET, "/v1/hooks", Value::Null, 422, 422, 422, 422),
        (Method::POST, "/v1/hooks", json!({}), 403, 422, 422, 422),
    ] {
        let named = [("Rollcall-Business", business.to_string())];
        let named = named.each_ref().map(|(name, id)| (*name, id.as_str()));
        let asked =
            |key, headers: &'static [(&str, &str)]| app.ask_with(method.clone(), path, key, body.clone(), headers);
        assert_eq!(asked("", &[]).await.status, 401, "{method} {path} without a key");
        assert_eq!(asked("rk_0", &[]).await.status, 401, "{method} {path} with a wrong key");
        assert_eq!(asked(&viewer, &[]).await.status, by_viewer, "{method} {path} by a viewer");
        assert_eq!(asked(&manager, &[]).await.status, by_manager, "{method} {path} by a manager");
        let operator = app.ask_with(method.clone(), path, OPERATOR, body.clone(), &named).await;
        assert_eq!(operator.status, by_operator, "{method} {path} by the operator for the business");
        assert_eq!(asked(OPERATOR, &[]).await.status, bare_operator, "{method} {path} by the operator");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_touches_its_own_business_only(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let ((_, ours), (theirs, their_key)) = (app.managed().await, app.managed().await);
    app.ask(Method::POST, "/v1/suppressions", &their_key, json!({"number": "+12025550123"})).await;
    let one = "/v1/suppressions/+12025550123";
    assert_eq!(app.ask(Method::GET, one, &ours, Value::Null).await.status, 404);
    assert_eq!(app.ask(Method::DELETE, one, &ours, Value::Null).await.status, 404);
    // The header is the operator's; a business's key gains nothing by it.
    let theirs = theirs.to_string();
    let named = [("Rollcall-Business", theirs.as_str())];
    let seen = app.ask_with(Method::GET, "/v1/suppressions", &ours, Value::Null, &named).await;
    assert_eq!(seen.body["data"], json!([]));
    assert_eq!(app.ask(Method::GET, one, &their_key, Value::Null).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_operator_names_a_business_that_exists_and_its_writes_are_audited(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let business = app.business().await;
    for id in [BusinessId::new().to_string(), "no-id".into(), String::new()] {
        let named = [("Rollcall-Business", id.as_str())];
        let seen = app.ask_with(Method::GET, "/v1/suppressions", OPERATOR, Value::Null, &named).await;
        assert_eq!((seen.status.as_u16(), seen.slug()), (404, "not-found"), "{id}");
    }
    let id = business.to_string();
    let named = [("Rollcall-Business", id.as_str())];
    let body = json!({"number": "+12025550123"});
    app.ask_with(Method::POST, "/v1/suppressions", OPERATOR, body, &named).await;
    app.ask_with(Method::GET, "/v1/suppressions", OPERATOR, Value::Null, &named).await;
    let actions =
        sqlx::query_scalar!("SELECT action FROM audit WHERE business_id = $1 AND actor = 'operator'", business.0)
            .fetch_all(&app.ctx.stores.pg)
            .await
            .unwrap();
    assert_eq!(actions, ["POST /v1/suppressions"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_revoked_key_is_dead_though_it_was_just_used(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let business = app.business().await;
    let (id, key) = app.key(business, "viewer").await;
    assert_eq!(app.ask(Method::GET, "/v1/me", &key, Value::Null).await.status, 200);
    let path = format!("/v1/businesses/{business}/keys/{id}");
    assert_eq!(app.ask(Method::DELETE, &path, OPERATOR, Value::Null).await.status, 204);
    assert_eq!(app.ask(Method::GET, "/v1/me", &key, Value::Null).await.status, 401);
    assert_eq!(app.ask(Method::DELETE, &path, OPERATOR, Value::Null).await.status, 204, "revoking twice is no error");
    let other = format!("/v1/businesses/{}/keys/{id}", app.business().await);
    assert_eq!(app.ask(Method::DELETE, &other, OPERATOR, Value::Null).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn many_bad_keys_are_slowed_down_and_good_ones_are_not(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, good) = app.managed().await;
    for _ in 0..10 {
        assert_eq!(app.ask(Method::GET, "/v1/me", "rk_bad", Value::Null).await.status, 401);
    }
    let slowed = app.ask(Method::GET, "/v1/me", "rk_bad", Value::Null).await;
    assert_eq!((slowed.status.as_u16(), slowed.slug()), (429, "too-many-requests"));
    assert!((1..=60).contains(&slowed.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(app.ask(Method::GET, "/v1/me", &good, Value::Null).await.status, 200);
    assert_eq!(app.ask(Method::GET, "/v1/me", OPERATOR, Value::Null).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_route_of_the_document_asks_for_a_key_and_tells_its_problems(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let document = app.ask(Method::GET, "/openapi.json", "", Value::Null).await.body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1")) {
        for (method, operation) in item.as_object().unwrap() {
            let at = path.replace("{id}", &BusinessId::new().to_string()).replace(['{', '}'], "");
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = app.ask(method.clone(), &at, "", Value::Null).await;
            assert_eq!((answer.status.as_u16(), answer.slug()), (401, "unauthenticated"), "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert!(operation["security"][0].is_object(), "{method} {path} names no key");
            for status in ["401", "403", "404", "422", "503"] {
                let named = operation["responses"][status]["$ref"].as_str().unwrap().trim_start_matches('#');
                let schema = &document.pointer(named).unwrap()["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
            asked += 1;
        }
    }
    assert!(asked >= 30, "only {asked} routes");
}
