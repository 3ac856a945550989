//! Bad input gets a clear problem; every answer has its headers.

use axum::{Router, body::Body, http::Request, routing::get};
use reqwest::Method;
use rollcall::{api::frame, error::ApiError, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    api_harness::{App, OPERATOR, answer},
    heartbeats_say_who_is_there::beat,
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_not_there_is_a_problem_too(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    for (method, path, status, slug) in [
        (Method::GET, "/v1/nothing", 404, "not-found"),
        (Method::GET, "/", 404, "not-found"),
        (Method::GET, "/v1/businesses/no-uuid", 404, "not-found"),
        (Method::DELETE, "/v1/businesses", 405, "method-not-allowed"),
        (Method::GET, "/v1/businesses?limit=0", 422, "validation"),
    ] {
        let seen = app.ask(method, path, OPERATOR, Value::Null).await;
        assert_eq!((seen.status.as_u16(), seen.slug()), (status, slug), "{path}");
        assert_eq!(seen.header("content-type"), "application/problem+json");
        assert_eq!(seen.body["status"], status);
        if status == 405 {
            assert_eq!(seen.header("allow"), "POST,GET,HEAD");
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_body_that_cannot_be_read_is_refused_by_its_reason(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let url = format!("{}/v1/businesses", app.base);
    let post = |kind: &'static str, body: String| {
        let request = app.http.post(&url).bearer_auth(OPERATOR);
        answer(if kind.is_empty() { request.body(body) } else { request.header("content-type", kind).body(body) })
    };
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(1024 * 1024));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (kind, body, status, slug, code) in [
        ("", "{}".to_owned(), 415, "unsupported-media-type", ""),
        ("text/plain", "{}".into(), 415, "unsupported-media-type", ""),
        ("application/json", large, 413, "too-large", ""),
        ("application/json", String::new(), 422, "validation", "invalid_json"),
        ("application/json", "{".into(), 422, "validation", "invalid_json"),
        ("application/json", "[]".into(), 422, "validation", "wrong_type"),
        ("application/json", deep, 422, "validation", "wrong_type"),
        ("application/json; charset=utf-8", "{}".into(), 422, "validation", "required"),
        ("application/json", r#"{"name":"a\u0000b"}"#.into(), 422, "validation", "nul"),
    ] {
        let seen = post(kind, body.clone()).await;
        let start: String = body.chars().take(30).collect();
        assert_eq!((seen.status.as_u16(), seen.slug(), seen.fault().1), (status, slug, code), "{kind} {start}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_field_that_does_not_fit_is_pointed_at(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    for (extra, pointer, code) in [
        (json!({"nmae": 1}), "/nmae", "unknown_field"),
        (json!({"name": 7}), "/name", "wrong_type"),
        (json!({"name": " "}), "/name", "invalid_length"),
        (json!({"max_concurrent_calls": 0}), "/max_concurrent_calls", "out_of_range"),
        (json!({"max_concurrent_calls": 1e12}), "/max_concurrent_calls", "wrong_type"),
        (json!({"max_concurrent_calls": 99_999_999_999_i64}), "/max_concurrent_calls", "out_of_range"),
        (json!({"default_region": "XX"}), "/default_region", "invalid_region"),
        (json!({"time_zone": "Mars/Base"}), "/time_zone", "invalid_time_zone"),
        (json!({"allowed_countries": ["US", "us"]}), "/allowed_countries/1", "invalid_region"),
        (json!({"allowed_countries": []}), "/allowed_countries", "empty"),
        (json!({"carriers": ["pigeon"]}), "/carriers/0", "invalid_value"),
        (json!({"carriers": []}), "/carriers", "invalid_value"),
    ] {
        let mut body = json!({"name": "x"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let seen = app.ask(Method::POST, "/v1/businesses", OPERATOR, body).await;
        assert_eq!((seen.status.as_u16(), seen.slug()), (422, "validation"), "{extra}");
        assert_eq!(seen.fault(), (pointer, code), "{extra}");
    }
    for (query, pointer) in [("limit=501", "?limit"), ("limit=x", "?limit"), ("cursor=%25", "?cursor"), ("x=1", "?x")] {
        let seen = app.ask(Method::GET, &format!("/v1/businesses?{query}"), OPERATOR, Value::Null).await;
        assert_eq!((seen.status.as_u16(), seen.fault().0), (422, pointer), "{query}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_route_that_takes_no_query_refuses_one_and_does_nothing(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let new = json!({"name": "x", "max_concurrent_calls": 2, "default_region": "US"});
    let refused = app.ask(Method::POST, "/v1/businesses?dry_run=true&x", OPERATOR, new.clone()).await;
    assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("?dry_run", "unknown_field")), "{}", refused.body);
    assert_eq!(refused.body["errors"].as_array().unwrap().len(), 2);
    assert_eq!(app.ask(Method::GET, "/v1/businesses", OPERATOR, Value::Null).await.body["data"], json!([]));
    let nobody = app.ask(Method::POST, "/v1/businesses?dry_run=true", "", new.clone()).await;
    assert_eq!(nobody.status, 401, "who has no key is told that first: {}", nobody.body);
    assert_eq!(app.ask(Method::POST, "/v1/businesses?", OPERATOR, new).await.status, 201, "an empty one says nothing");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_answer_has_its_headers_and_the_pages_are_there(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    for (path, status) in
        [("/v1/me", 401), ("/healthz", 200), ("/readyz", 200), ("/openapi.json", 200), ("/docs/", 200), ("/x", 404)]
    {
        let seen = app.ask_with(Method::GET, path, "", Value::Null, &[("x-request-id", "chosen by the client")]).await;
        assert_eq!(seen.status.as_u16(), status, "{path}");
        assert!(seen.header("x-request-id").parse::<uuid::Uuid>().is_ok(), "{path}");
        if !path.ends_with('z') {
            assert_eq!(seen.header("x-content-type-options"), "nosniff", "{path}");
            assert!(seen.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        }
        assert_eq!(seen.header("cache-control") == "no-store", path.starts_with("/v1") || path == "/readyz", "{path}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_admin_listener_tells_the_figures_of_the_installation(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut app.ctx.stores.redis.clone()).await.unwrap();
    app.ctx.heartbeats.write(&beat("w1", now * 1_000)).await.unwrap();
    let figures = serde_json::to_value(rollcall::api::status::figures(&app.ctx).await.unwrap()).unwrap();
    let status = serde_json::to_value(rollcall::api::status::status(&app.ctx).await.unwrap()).unwrap();
    assert_eq!(
        figures,
        json!({"calls_active": 0, "calls_started": 0, "calls_rejected_max_concurrent": 0, "max_concurrent_calls": 50})
    );
    assert_eq!(status["lines"], json!({"open": 0, "limit": 50, "waiting_businesses": 0, "longest_wait_ms": null}));
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 1);
    assert_eq!((&workers[0]["name"], &workers[0]["in_flight"]), (&json!("w1"), &json!(3)));
    assert_eq!((&workers[0]["role"], &workers[0]["state"]), (&json!("worker"), &json!("ready")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_standby_that_is_not_promoted_yet_is_a_store_that_is_away(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let mut standby = app.ctx.stores.pg.acquire().await.unwrap().detach();
    sqlx::query!("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").execute(&mut standby).await.unwrap();
    let refused = sqlx::query!("DELETE FROM business").execute(&mut standby).await.unwrap_err();
    assert_eq!(ApiError::from(refused).body()["status"], 503);
}

#[tokio::test]
async fn a_panic_is_a_problem_and_what_it_said_stays_inside() {
    async fn broken() -> &'static str {
        panic!("the secret is 42")
    }
    let router = Router::new().route("/", get(broken)).layer(CatchPanicLayer::custom(frame::panicked));
    let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("/problems/internal") && !body.contains("42"), "{body}");
}

/// Sends these bytes, and reads one answer of the api: its head, and what is left on the connection.
async fn told(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let (mut head, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).await.unwrap() > 2 {
        head.push_str(&line.to_ascii_lowercase());
        line.clear();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_connection_stays_after_a_refusal_or_is_told_to_end(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let address = app.base.strip_prefix("http://").unwrap();
    let head = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nAuthorization: Bearer nobody\r\n{more}\r\n"
        )
    };
    // Nobody's key and no such route: refused before a byte of the body is read.
    let path = format!("/v1/runs/{}/leads", uuid::Uuid::nil());
    for path in [path.as_str(), "/v1/nothing"] {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        for _ in 0..3 {
            let short = [head(path, "Content-Length: 60000\r\n").into_bytes(), vec![b'x'; 60_000]].concat();
            let refused = told(&mut stream, &short).await;
            assert!(!refused.contains("connection: close"), "{refused}");
        }
        for unread in ["Content-Length: 10000000\r\n", "Content-Length: 100\r\nExpect: 100-continue\r\n"] {
            let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
            let refused = told(&mut stream, head(path, unread).as_bytes()).await;
            assert!(refused.starts_with("http/1.1 4") && refused.contains("connection: close"), "{refused}");
            assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        }
    }
}
