//! A list goes in as a whole or not at all, and every row is counted once.

use std::{cell::Cell, fmt::Write};

use reqwest::Method;
use rollcall::{ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::{
    PgTransaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    database,
    runs_harness::{Desk, number},
};

/// Takes the lock that an import has while it goes on.
async fn import_going_on(desk: &Desk, run: RunId) -> PgTransaction<'static> {
    let mut tx = desk.pg().begin().await.unwrap();
    assert!(rollcall::runs::store::import_lock(&mut tx, run).await.unwrap());
    tx
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn twenty_thousand_rows_are_counted_to_the_last(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({"message": {"text": "Hello {{name}}"}})).await;
    desk.app.ask(Method::PUT, "/v1/suppressions/+12025550199", &desk.key, json!({"source": "test"})).await;
    let mut file = String::from("Phone,name,time_zone,external_id\n");
    // Exchanges 200 to 999 but those of services: every number is a valid one, and each comes once.
    let numbers = (0..)
        .map(|i| (200 + i / 10_000, i % 10_000))
        .filter(|(exchange, _)| !(exchange % 100 == 11 || *exchange == 555));
    for (i, (exchange, line)) in numbers.take(18_000).enumerate() {
        let _ = writeln!(file, "(303) {exchange}-{line:04},n{i},America/Denver,row-{i}");
    }
    for i in 0..1_000 {
        let _ = writeln!(file, "303.200.{i:04},again,,");
    }
    for i in 0..997 {
        let _ = writeln!(file, "call me {i},,,");
    }
    file.push_str("202-555-0199,never,,\n202-555-0199,never,,\n+1 202 555 0198,last,,");

    let answer = desk.csv(run, file).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (body, leads) = (&answer.body, desk.get(&format!("/v1/runs/{run}")).await.body);
    for (name, n) in
        [("rows", 20_000), ("accepted", 18_001), ("duplicates", 1_000), ("suppressed", 2), ("rejected", 997)]
    {
        assert_eq!((&body[name], &leads["leads"][name]), (&json!(n), &json!(n)), "{name}");
    }
    assert_eq!((body["errors"].as_array().unwrap().len(), &body["errors_truncated"]), (100, &json!(true)));
    assert_eq!((&body["errors"][0]["line"], &body["errors"][0]["column"]), (&json!(19_002), &json!("Phone")));
    assert_eq!(leads["progress"]["states"]["queued"], 18_001);
    let rejected = desk.download(body["rejected_url"].as_str().unwrap()).await;
    assert_eq!(rejected.len(), 1 + 1_999);
    assert_eq!(rejected[0], ["import_id", "line", "column", "code", "detail", "value"]);
    let reasons = |code: &str| rejected.iter().filter(|row| row[3] == code).count();
    assert_eq!((reasons("duplicate"), reasons("suppressed")), (1_000, 2));
    let earlier = desk.get(&format!("/v1/runs/{run}/imports/{}", body["import_id"].as_str().unwrap())).await.body;
    assert_eq!((&earlier["rows"], &earlier["accepted"]), (&json!(20_000), &json!(18_001)));
    let job = &desk.get("/v1/jobs?external_id=row-7").await.body["data"][0];
    assert_eq!((&job["variables"], &job["time_zones"]), (&json!({"name": "n7"}), &json!(["America/Denver"])));
    assert_eq!(desk.act(run, "start").await.body["state"], "running");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_a_list_goes_in_a_run_is_not_started_or_deleted_but_can_be_stopped(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let (draft, running) = (desk.run_of(1).await, desk.running(2).await);
    let (first, second) = (import_going_on(&desk, draft).await, import_going_on(&desk, running).await);
    let refused = desk.act(draft, "start").await;
    assert_eq!((refused.slug(), &refused.body["importing"]), ("run-state", &json!(true)));
    assert_eq!(refused.body["allowed"], json!([]), "none of what a draft may else is done now");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(desk.csv(draft, "to\n+12025550150\n").await.slug(), "run-state");
    let path = format!("/v1/runs/{draft}");
    assert_eq!(desk.app.ask(Method::DELETE, &path, &desk.key, Value::Null).await.slug(), "run-state");
    let kept = desk.act(draft, "archive").await;
    assert_eq!((kept.slug(), &kept.body["importing"]), ("run-state", &json!(true)), "{}", kept.body);
    assert_eq!(desk.get(&path).await.body["archived_at"], Value::Null);
    let codes = |why: Value| why["blockers"].as_array().unwrap().iter().map(|b| b["code"].clone()).collect::<Vec<_>>();
    assert!(codes(desk.get(&format!("/v1/runs/{draft}/why")).await.body).contains(&json!("importing")));
    assert_eq!(desk.act(running, "pause").await.status, 200);
    assert_eq!(desk.act(running, "cancel").await.status, 200);
    first.rollback().await.unwrap();
    second.rollback().await.unwrap();
    assert_eq!(desk.act(draft, "archive").await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn leads_that_come_while_a_run_is_started_wait_for_the_start_which_is_no_import(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(1).await;
    // The start is in the middle of its transaction while nobody may write a run.
    let mut other = desk.pg().begin().await.unwrap();
    database::run(&mut other, "LOCK TABLE run IN SHARE MODE").await;
    let answered = Cell::new(false);
    let waiting = async |n: i64| {
        while !answered.get() {
            let waiting = sqlx::query_scalar!(
                r#"SELECT count(*) AS "n!" FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"#
            );
            if waiting.fetch_one(desk.pg()).await.unwrap() == n {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let path = format!("/v1/runs/{run}/leads");
    let leads = async {
        waiting(1).await;
        let told = desk.get(&format!("/v1/runs/{run}/why")).await.body;
        assert!(told["blockers"].as_array().unwrap().iter().all(|one| one["code"] != "importing"), "{told}");
        let taken = desk.post(&path, json!([{"to": number(1)}])).await;
        answered.set(true);
        taken
    };
    let go_on = async {
        waiting(2).await;
        other.rollback().await.unwrap();
    };
    let (started, taken, ()) = tokio::join!(desk.act(run, "start"), leads, go_on);
    assert_eq!(started.status, 200, "{}", started.body);
    assert_eq!((taken.status.as_u16(), &taken.body["accepted"]), (200, &json!(1)), "{}", taken.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_refused_lets_go_of_the_run_before_it_is_answered(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({})).await;
    for _ in 0..20 {
        assert_eq!(desk.act(run, "start").await.fault().1, "no_leads");
        assert_eq!(desk.csv(run, "to\nnobody\n").await.status, 200);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_list_for_a_run_that_ended_meanwhile_is_not_stored(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(1).await;
    // The upload waits for the row lock of a number that another transaction is about to store, while the run is cancelled.
    let mut other = desk.pg().begin().await.unwrap();
    let added = sqlx::query!(
        "INSERT INTO job (job_id, run_id, business_id, to_number) VALUES ($1, $2, $3, $4)",
        rollcall::ids::JobId::new().0,
        run.0,
        desk.business.0,
        number(50)
    );
    added.execute(&mut *other).await.unwrap();
    let upload = desk.csv(run, format!("to\n{}\n{}\n", number(51), number(50)));
    let cancel = async {
        // Once somebody waits for the other transaction, the upload is in the middle of its own.
        loop {
            let waiting = sqlx::query_scalar!(
                r#"SELECT count(*) AS "n!" FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"#
            );
            if waiting.fetch_one(desk.pg()).await.unwrap() > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(desk.act(run, "cancel").await.body["run"]["state"], "cancelled");
        other.rollback().await.unwrap();
    };
    let (uploaded, ()) = tokio::join!(upload, cancel);
    assert_eq!((uploaded.status.as_u16(), uploaded.slug()), (409, "run-state"));
    let run = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!((&run["progress"]["total"], &run["leads"]["rows"]), (&json!(1), &json!(1)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_first_of_two_uploads_of_one_number_wins_and_leads_may_come_with_the_run(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let leads = json!([{"to": "202-555-0101", "external_id": "first"}, {"to": "2025550101"}, {"to": "nobody"}]);
    let made = desk.post("/v1/runs", json!({"name": "x", "leads": leads})).await;
    assert_eq!(made.status, 201);
    let import = &made.body["import"];
    assert_eq!((&import["accepted"], &import["duplicates"], &import["rejected"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&import["errors"][0]["line"], &import["errors"][0]["column"]), (&json!(3), &json!("to")));
    let run = made.body["id"].as_str().unwrap();
    let again =
        desk.post(&format!("/v1/runs/{run}/leads"), json!([{"to": "+12025550101", "external_id": "second"}])).await;
    assert_eq!((&again.body["accepted"], &again.body["duplicates"]), (&json!(0), &json!(1)));
    let jobs = desk.get("/v1/jobs?to=%2B12025550101").await.body;
    assert_eq!((jobs["data"].as_array().unwrap().len(), &jobs["data"][0]["external_id"]), (1, &json!("first")));
    assert_eq!(desk.get(&format!("/v1/runs/{run}")).await.body["leads"]["rows"], 4);
    // The uploads, newest first, page by page.
    let page = desk.get(&format!("/v1/runs/{run}/imports?limit=1")).await.body;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = desk.get(&format!("/v1/runs/{run}/imports?limit=1&cursor={cursor}")).await.body;
    let seen = [&page, &rest].map(|page| (page["data"][0]["import_id"].clone(), page["data"][0]["rows"].clone()));
    assert_eq!(seen, [(again.body["import_id"].clone(), json!(1)), (import["import_id"].clone(), json!(3))]);
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_countries_that_the_business_may_call_become_jobs(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    sqlx::query!("UPDATE business SET allowed_countries = '{US}'").execute(desk.pg()).await.unwrap();
    let run = desk.run(json!({})).await;
    let answer = desk.csv(run, "to\n+12025550101\n+442079460123\n911\n19002345678\n").await.body;
    let codes: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap()).collect();
    assert_eq!(answer["accepted"], 1);
    assert_eq!(codes, ["country_not_allowed", "emergency_number", "premium_number"]);
}
