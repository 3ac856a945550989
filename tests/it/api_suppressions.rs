//! Suppressed numbers: once acknowledged, a number is not dialed.

use reqwest::Method;
use rollcall::{
    ids::{BusinessId, JobId, RunId},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::api_harness::App;

/// A running run of the business with one job per number.
async fn run(pg: &PgPool, business: BusinessId, numbers: &[&str]) -> RunId {
    let run = RunId::new();
    sqlx::query!(
        "INSERT INTO run (run_id, business_id, name, carriers, default_region, ring_timeout_secs, call_time_limit_secs, state)
         VALUES ($1, $2, 'x', '{twilio}', 'US', 30, 600, 'running')",
        run.0,
        business.0
    )
    .execute(pg)
    .await
    .unwrap();
    for number in numbers {
        sqlx::query!(
            "INSERT INTO job (job_id, run_id, business_id, to_number) VALUES ($1, $2, $3, $4)",
            JobId::new().0,
            run.0,
            business.0,
            *number
        )
        .execute(pg)
        .await
        .unwrap();
    }
    run
}

async fn states(pg: &PgPool, run: RunId) -> (String, Vec<(String, Option<String>)>) {
    let jobs = sqlx::query!("SELECT state, reason FROM job WHERE run_id = $1 ORDER BY to_number", run.0);
    let jobs = jobs.fetch_all(pg).await.unwrap().into_iter().map(|job| (job.state, job.reason)).collect();
    let run = sqlx::query_scalar!("SELECT state FROM run WHERE run_id = $1", run.0).fetch_one(pg).await.unwrap();
    (run, jobs)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_suppressed_number_leaves_the_queue_and_its_last_job_ends_the_run(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (business, key) = app.managed().await;
    let (other, _) = app.managed().await;
    let pg = &app.ctx.stores.pg;
    let two = run(pg, business, &["+12025550101", "+12025550102"]).await;
    let theirs = run(pg, other, &["+12025550101"]).await;
    let put = async |number: &str| {
        let body = json!({"source": "call"});
        app.ask(Method::PUT, &format!("/v1/suppressions/{number}"), &key, body).await
    };
    assert_eq!(put("+12025550101").await.status, 201);
    let skipped = ("skipped".to_owned(), Some("suppressed".to_owned()));
    assert_eq!(states(pg, two).await, ("running".into(), vec![skipped.clone(), ("queued".into(), None)]));
    assert_eq!(put("+12025550102").await.status, 201);
    assert_eq!(states(pg, two).await, ("completed".into(), vec![skipped.clone(), skipped]));
    assert_eq!(states(pg, theirs).await, ("running".into(), vec![("queued".into(), None)]));
    let tally = sqlx::query_scalar!("SELECT sum(n)::bigint FROM tally WHERE run_id = $1 AND key = 'skipped'", two.0);
    assert_eq!(tally.fetch_one(pg).await.unwrap(), Some(2));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_expired_suppression_ends_no_job(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (business, key) = app.managed().await;
    let run = run(&app.ctx.stores.pg, business, &["+12025550101"]).await;
    let body = json!({"number": "+12025550101", "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(app.ask(Method::POST, "/v1/suppressions", &key, body).await.status, 201);
    assert_eq!(states(&app.ctx.stores.pg, run).await.0, "running");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn suppressions_can_be_made_changed_listed_and_lifted(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, key) = app.managed().await;
    let one = "/v1/suppressions/+12025550101";
    let body = json!({"number": "+12025550101", "note": "asked", "expires_at": "2099-01-01T01:00:00+01:00"});
    let made = app.ask(Method::POST, "/v1/suppressions", &key, body).await;
    assert_eq!(made.status, 201);
    let mut shape = made.body.clone();
    assert!(shape["created_at"].take().is_string());
    assert_eq!(
        shape,
        json!({"number": "+12025550101", "source": "api", "note": "asked", "expires_at": "2099-01-01T00:00:00.000Z", "created_at": null})
    );
    let changed = app.ask(Method::PUT, one, &key, json!({})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["note"]), (200, &Value::Null));
    assert_eq!(changed.body["created_at"], made.body["created_at"]);
    app.ask(Method::PUT, "/v1/suppressions/%2B12025550100", &key, json!({})).await;
    let list = app.ask(Method::GET, "/v1/suppressions?limit=1", &key, Value::Null).await.body;
    assert_eq!(list["data"][0]["number"], "+12025550100");
    let next = format!("/v1/suppressions?cursor={}", list["next_cursor"].as_str().unwrap());
    let list = app.ask(Method::GET, &next, &key, Value::Null).await.body;
    assert_eq!((&list["data"], &list["next_cursor"]), (&json!([changed.body]), &Value::Null));
    assert_eq!(app.ask(Method::DELETE, one, &key, Value::Null).await.status, 204);
    assert_eq!(app.ask(Method::GET, one, &key, Value::Null).await.status, 404);
    for bad in ["2025550101", "+0123", "+1202555010x"] {
        let refused = app.ask(Method::POST, "/v1/suppressions", &key, json!({ "number": bad })).await;
        assert_eq!(refused.fault(), ("/number", "invalid_number"), "{bad}");
        assert_eq!(app.ask(Method::GET, &format!("/v1/suppressions/{bad}"), &key, Value::Null).await.status, 404);
    }
}
