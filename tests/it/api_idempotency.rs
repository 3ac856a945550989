//! I9: one `Idempotency-Key`, one effect, one answer.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::post,
};
use reqwest::Method;
use rollcall::{api::idempotency, businesses::answers, stores::MIGRATOR};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tower::ServiceExt;

use crate::api_harness::{Answer, App, OPERATOR};

async fn create(app: &App, key: &str, name: &str) -> Answer {
    let headers = [("Idempotency-Key", key)];
    app.ask_with(Method::POST, "/v1/businesses", OPERATOR, json!({ "name": name }), &headers).await
}

async fn businesses(app: &App) -> i64 {
    sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM business"#).fetch_one(&app.ctx.stores.pg).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn fifty_posts_at_once_with_one_key_make_one_business(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let answers = futures::future::join_all((0..50).map(|_| create(&app, "k", "one"))).await;
    assert_eq!(businesses(&app).await, 1);
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!made.is_empty());
    for answer in &answers {
        match answer.status.as_u16() {
            201 => assert_eq!(answer.body, made[0].body),
            409 => assert_eq!((answer.slug(), answer.header("retry-after")), ("idempotency-in-progress", "1")),
            other => panic!("{other}: {:?}", answer.body),
        }
    }
    assert_eq!(made.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count(), 1);
    let again = create(&app, "k", "one").await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((again.header("content-type"), &again.body), ("application/json", &made[0].body));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_answer_that_is_told_again_says_again_where_the_thing_is(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, key) = app.managed().await;
    let make =
        async || app.ask_with(Method::POST, "/v1/runs", &key, json!({"name": "x"}), &[("Idempotency-Key", "k")]).await;
    let (made, again) = (make().await, make().await);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let location = format!("/v1/runs/{}", made.body["id"].as_str().unwrap());
    assert_eq!((made.header("location"), again.header("location")), (location.as_str(), location.as_str()));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_body_under_a_used_key_is_refused(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    create(&app, "k", "one").await;
    let other = create(&app, "k", "two").await;
    assert_eq!((other.status.as_u16(), other.slug()), (422, "idempotency-mismatch"));
    assert_eq!(create(&app, "l", "two").await.status, 201, "another key is another request");
    assert_eq!(businesses(&app).await, 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_key_on_two_routes_or_for_two_businesses_is_two_keys(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let ((_, first), (_, second)) = (app.managed().await, app.managed().await);
    let headers = [("Idempotency-Key", "k")];
    for key in [&first, &second] {
        let body = json!({"number": "+12025550123"});
        let made = app.ask_with(Method::POST, "/v1/suppressions", key, body, &headers).await;
        assert_eq!((made.status.as_u16(), made.header("idempotency-replayed")), (201, ""));
    }
    assert_eq!(create(&app, "k", "one").await.status, 201);
    // A manager with the operator's key of a business's creation is told no, not what the operator was answered.
    let stolen = app.ask_with(Method::POST, "/v1/businesses", &first, json!({"name": "one"}), &headers).await;
    assert_eq!(stolen.status, 403);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_request_that_changed_nothing_does_not_hold_its_key(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    assert_eq!(create(&app, "k", "").await.status, 422);
    assert_eq!(create(&app, "k", "one").await.status, 201);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_that_no_header_should_be_is_refused(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    for key in [String::new(), "a b".into(), "x".repeat(256)] {
        let seen = create(&app, &key, "one").await;
        assert_eq!((seen.status.as_u16(), seen.fault()), (422, ("Idempotency-Key", "invalid_key")));
    }
    assert_eq!(create(&app, &"x".repeat(255), "one").await.status, 201);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_request_whose_process_died_is_taken_over_after_a_minute_and_still_has_one_effect(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let app = App::start(pg).await;
    let first = create(&app, "k", "one").await;
    // As the row is after a death between the commit of the effect and the storing of the answer.
    let id: uuid::Uuid = first.body["id"].as_str().unwrap().parse().unwrap();
    let age = async |secs: f64| {
        sqlx::query!(
            "UPDATE idempotency SET status = NULL, body = $2, answered_at = NULL,
                 started_at = clock_timestamp() - make_interval(secs => $1)",
            secs,
            id.as_bytes().as_slice()
        )
        .execute(&app.ctx.stores.pg)
        .await
        .unwrap();
    };
    age(50.0).await;
    let early = create(&app, "k", "one").await;
    assert_eq!((early.status.as_u16(), early.slug()), (409, "idempotency-in-progress"));
    assert_eq!(create(&app, "k", "two").await.slug(), "idempotency-mismatch");
    age(61.0).await;
    let taken_over = create(&app, "k", "one").await;
    assert_eq!((taken_over.header("idempotency-replayed"), &taken_over.body), ("", &first.body));
    assert_eq!(create(&app, "k", "one").await.header("idempotency-replayed"), "true");
    assert_eq!(businesses(&app).await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_answer_is_kept_though_the_client_is_gone(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let begun = async || {
        let rows =
            sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM idempotency"#).fetch_one(&app.ctx.stores.pg).await;
        rows.unwrap() == 1
    };
    {
        let mut request = std::pin::pin!(create(&app, "k", "one"));
        loop {
            tokio::select! {
                biased;
                begun = begun() => if begun { break },
                _ = &mut request => break,
            }
        }
    }
    let answer = loop {
        let answer = create(&app, "k", "one").await;
        if answer.status != 409 {
            break answer;
        }
    };
    assert_eq!((answer.status.as_u16(), answer.header("idempotency-replayed")), (201, "true"));
    assert_eq!(businesses(&app).await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_new_key_of_a_business_is_replayed_but_not_readable_in_the_row(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let path = format!("/v1/businesses/{}/keys", app.business().await);
    let headers = [("Idempotency-Key", "k")];
    let ask = || app.ask_with(Method::POST, &path, OPERATOR, json!({"role": "viewer"}), &headers);
    let (made, again) = (ask().await, ask().await);
    assert_eq!(made.body["key"], again.body["key"]);
    let text = made.body["key"].as_str().unwrap().as_bytes();
    let kept =
        sqlx::query_scalar!("SELECT body FROM idempotency").fetch_one(&app.ctx.stores.pg).await.unwrap().unwrap();
    assert!(!kept.windows(text.len()).any(|window| window == text));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn answers_are_kept_for_a_day_and_then_pruned(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let pg = &app.ctx.stores.pg;
    create(&app, "old", "one").await;
    sqlx::query!("UPDATE idempotency SET started_at = started_at - interval '26 hours'").execute(pg).await.unwrap();
    create(&app, "young", "two").await;
    assert_eq!(answers::prune(pg).await.unwrap(), 1);
    assert_eq!(answers::prune(pg).await.unwrap(), 0);
    assert_eq!(create(&app, "young", "two").await.header("idempotency-replayed"), "true");
}

/// The layer around a route that takes uploads and counts them, and one that always fails.
fn behind_the_layer(app: &App, taken: &Arc<AtomicUsize>) -> Router {
    let taken = Arc::clone(taken);
    let upload = move |body: axum::body::Bytes| async move {
        taken.fetch_add(1, Ordering::SeqCst);
        body.len().to_string()
    };
    let broken = || async { StatusCode::INTERNAL_SERVER_ERROR };
    Router::new()
        .route("/v1/upload", post(upload))
        .route("/v1/broken", post(broken))
        .layer(axum::middleware::from_fn_with_state(app.ctx.clone(), idempotency::layer))
        .with_state(app.ctx.clone())
}

async fn send(router: &Router, path: &str, kind: &str, body: &'static str) -> (u16, bool) {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {OPERATOR}"))
        .header("idempotency-key", "k")
        .header("content-type", kind)
        .body(Body::from(body));
    let response = router.clone().oneshot(request.unwrap()).await.unwrap();
    (response.status().as_u16(), response.headers().contains_key("idempotency-replayed"))
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_upload_sent_twice_is_taken_once_and_another_one_is_told_apart(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let router = behind_the_layer(&app, &taken);
    assert_eq!(send(&router, "/v1/upload", "text/csv", "phone\n1\n").await, (200, false));
    assert_eq!(send(&router, "/v1/upload", "text/csv; charset=utf-8", "phone\n1\n").await, (200, true));
    // Of the same length, so that only its content tells it apart.
    assert_eq!(send(&router, "/v1/upload", "text/csv", "phone\n2\n").await, (422, false));
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_fault_of_ours_does_not_freeze_the_key(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let router = behind_the_layer(&app, &Arc::default());
    for _ in 0..2 {
        assert_eq!(send(&router, "/v1/broken", "application/json", "{}").await, (500, false));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_refusal_of_what_took_over_does_not_forget_what_the_one_before_it_may_have_made(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let app = App::start(pg).await;
    let made = Arc::new(Mutex::new(Vec::new()));
    let ids = Arc::clone(&made);
    // Fails, which may have had its effect; refuses; succeeds.
    let moody = move |idempotency::NewId(id): idempotency::NewId| async move {
        let mut ids = ids.lock().unwrap();
        ids.push(id);
        StatusCode::from_u16([500, 422, 200][ids.len() - 1]).unwrap()
    };
    let router = Router::new()
        .route("/v1/moody", post(moody))
        .layer(axum::middleware::from_fn_with_state(app.ctx.clone(), idempotency::layer))
        .with_state(app.ctx.clone());
    for (status, replayed) in [(500, false), (422, false), (200, false), (200, true)] {
        assert_eq!(send(&router, "/v1/moody", "application/json", "{}").await, (status, replayed));
    }
    let ids = made.lock().unwrap();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}
