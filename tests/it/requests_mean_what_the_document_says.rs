//! A request that says something else than the document has is refused with the place of it, never read as something near.

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::runs_harness::{Desk, number};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_list_goes_on_only_from_a_cursor_of_its_own(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(2).await;
    for i in 0..2 {
        let put = format!("/v1/suppressions/{}", number(50 + i));
        assert_eq!(desk.app.ask(Method::PUT, &put, &desk.key, json!({})).await.status, 201);
    }
    let page = desk.get("/v1/suppressions?limit=1").await.body;
    let of_suppressions = page["next_cursor"].as_str().unwrap();
    let page = desk.get(&format!("/v1/runs/{run}/jobs?limit=1")).await.body;
    let of_jobs = page["next_cursor"].as_str().unwrap();
    let lists = [
        "/v1/suppressions".to_owned(),
        "/v1/calendars".into(),
        "/v1/caller-ids".into(),
        "/v1/runs".into(),
        "/v1/agents".into(),
        "/v1/calls".into(),
        "/v1/recordings".into(),
        format!("/v1/runs/{run}/jobs"),
        format!("/v1/runs/{run}/imports"),
        format!("/v1/numbers/{}", number(0)),
    ];
    for list in &lists {
        // `AAAA` is three NULs; the last is an id without the name of a list.
        for cursor in
            ["AAAA", "", "%00", "x", of_suppressions, of_jobs, "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAw"]
        {
            let own = (list == "/v1/suppressions" && cursor == of_suppressions)
                || (list.ends_with("/jobs") && cursor == of_jobs);
            let seen = desk.get(&format!("{list}?cursor={cursor}")).await;
            if own {
                assert_eq!(seen.body["data"].as_array().map(Vec::len), Some(1), "{list} {}", seen.body);
            } else {
                assert_eq!((seen.status.as_u16(), seen.fault().0), (422, "?cursor"), "{list} {cursor} {}", seen.body);
            }
        }
    }
}
