//! I9: one `Idempotency-Key`, one effect, one answer.

use reqwest::Method;
use rollcall::{businesses::answers, stores::MIGRATOR};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

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
async fn a_request_whose_process_died_is_taken_over_after_a_minute(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    create(&app, "k", "one").await;
    let age = async |secs: f64| {
        sqlx::query!(
            "UPDATE idempotency SET status = NULL, body = NULL, answered_at = NULL,
                 started_at = clock_timestamp() - make_interval(secs => $1)",
            secs
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
    assert_eq!(create(&app, "k", "one").await.header("idempotency-replayed"), "");
    assert_eq!(create(&app, "k", "one").await.header("idempotency-replayed"), "true");
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
