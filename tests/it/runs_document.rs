//! The document names every operation once, so that clients can be made of it.

use std::collections::BTreeMap;

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::api_harness::App;

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_two_operations_on_runs_jobs_and_calls_have_one_name(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let document = app.ask(Method::GET, "/openapi.json", "", Value::Null).await.body;
    let mut names = BTreeMap::<String, Vec<String>>::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let of_runs = ["runs", "jobs", "calls"].iter().any(|tag| operation["tags"][0] == *tag);
            if let Some(name) = operation["operationId"].as_str().filter(|_| of_runs) {
                names.entry(name.to_owned()).or_default().push(format!("{method} {path}"));
            }
        }
    }
    names.retain(|_, operations| operations.len() > 1);
    assert!(names.is_empty(), "{names:#?}");
    for path in [
        "/v1/runs",
        "/v1/runs/{id}/leads",
        "/v1/runs/{id}/results.csv",
        "/v1/jobs/{id}/cancel",
        "/v1/calls/{id}/hangup",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
    let shape = &document["components"]["schemas"]["NewRun"];
    assert_eq!(shape["required"], serde_json::json!(["name"]));
}
