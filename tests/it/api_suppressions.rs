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

use crate::{
    api_harness::{Answer, App, OPERATOR},
    runs_harness::{Desk, number},
};

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
        json!({"number": "+12025550101", "prefix": null, "source": "api", "note": "asked", "expires_at": "2099-01-01T00:00:00.000Z",
               "evidence": null, "created_at": null})
    );
    let changed = app.ask(Method::PUT, one, &key, json!({})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["note"]), (200, &json!("asked")), "what is not said stays");
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

async fn suppressed(pg: &PgPool, business: BusinessId, number: &str) -> bool {
    sqlx::query_scalar!(r#"SELECT is_suppressed($1, $2) AS "is!""#, business.0, number).fetch_one(pg).await.unwrap()
}

/// Sends a CSV list.
pub(crate) async fn upload(app: &App, path: &str, key: &str, csv: &str) -> Answer {
    let request = app.http.post(format!("{}{path}", app.base)).bearer_auth(key);
    crate::api_harness::answer(request.header("content-type", "text/csv").body(csv.to_owned())).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_prefix_ends_every_waiting_job_that_it_matches_and_keeps_new_leads_out(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let app = App::start(pg).await;
    let (business, key) = app.managed().await;
    let (other, _) = app.managed().await;
    let pg = &app.ctx.stores.pg;
    let numbers = ["+12025550101", "+12025550102", "+12035550101", "+12045550101"];
    let (mixed, only) = (run(pg, business, &numbers).await, run(pg, business, &numbers[..2]).await);
    let theirs = run(pg, other, &numbers).await;
    let waits = sqlx::query!(
        "UPDATE job SET state = 'waiting', next_at = now() WHERE run_id = $1 AND to_number = '+12025550102' RETURNING tally_moved(run_id, 'queued', 'waiting', NULL, 1, 0) IS NULL AS told",
        mixed.0
    );
    waits.fetch_one(pg).await.unwrap();
    let body = json!({"prefix": "+1202", "source": "law", "evidence": {"text": "order 7", "url": "https://law.example/7", "at": "2026-01-02T03:04:05Z"}});
    let made = app.ask(Method::POST, "/v1/suppressions", &key, body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!((&made.body["number"], &made.body["prefix"]), (&Value::Null, &json!("+1202")));
    assert_eq!(
        made.body["evidence"],
        json!({"text": "order 7", "url": "https://law.example/7", "at": "2026-01-02T03:04:05.000Z"})
    );
    let (skipped, queued) = (("skipped".to_owned(), Some("suppressed".to_owned())), ("queued".to_owned(), None));
    let (state, jobs) = states(pg, mixed).await;
    assert_eq!((state.as_str(), jobs), ("running", vec![skipped.clone(), skipped.clone(), queued.clone(), queued]));
    assert_eq!(states(pg, only).await, ("completed".into(), vec![skipped.clone(), skipped]));
    assert!(states(pg, theirs).await.1.iter().all(|(state, _)| state == "queued"), "it is another business's list");
    let decided =
        sqlx::query_scalar!("SELECT count(*) FROM decision WHERE run_id = $1 AND rule = 'suppressed'", mixed.0);
    assert_eq!(decided.fetch_one(pg).await.unwrap(), Some(2));
    for (key, n) in [("skipped", 2), ("queued", 2), ("waiting", 0)] {
        let tally =
            sqlx::query_scalar!("SELECT sum(n)::bigint FROM tally WHERE run_id = $1 AND key = $2", mixed.0, key);
        assert_eq!(tally.fetch_one(pg).await.unwrap(), Some(n), "{key}");
    }
    for (number, is) in [("+12025559999", true), ("+1202", true), ("+12035550101", false), ("+120", false)] {
        assert_eq!(suppressed(pg, business, number).await, is, "{number}");
    }
    assert!(!suppressed(pg, other, "+12025559999").await);
    let leads = json!({"name": "x", "leads": [{"to": "+12025550123"}, {"to": "+12125550123"}]});
    let made = app.ask(Method::POST, "/v1/runs", &key, leads).await;
    assert_eq!((&made.body["import"]["suppressed"], &made.body["import"]["accepted"]), (&json!(1), &json!(1)));
    let one = "/v1/suppressions/+1202*";
    assert_eq!(app.ask(Method::GET, one, &key, Value::Null).await.body["prefix"], "+1202");
    assert_eq!(app.ask(Method::DELETE, one, &key, Value::Null).await.status, 204);
    assert!(!suppressed(pg, business, "+12025559999").await);
    for bad in
        [json!({"prefix": "1202"}), json!({"prefix": "+"}), json!({"prefix": "+1202*"}), json!({"prefix": "+012"})]
    {
        let refused = app.ask(Method::POST, "/v1/suppressions", &key, bad.clone()).await;
        assert_eq!(refused.fault(), ("/prefix", "invalid_prefix"), "{bad}");
    }
    for bad in [json!({}), json!({"prefix": "+1202", "number": "+12025550101"})] {
        assert_eq!(app.ask(Method::POST, "/v1/suppressions", &key, bad).await.fault(), ("/number", "required"));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_operators_list_holds_for_every_business_and_is_shown_to_none(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (one, key) = app.managed().await;
    let (two, _) = app.managed().await;
    let pg = &app.ctx.stores.pg;
    let runs =
        [run(pg, one, &["+12025550101", "+19005550101"]).await, run(pg, two, &["+12025550101", "+19005550101"]).await];
    let number = json!({"number": "+12025550101", "note": "of all"});
    assert_eq!(app.ask(Method::POST, "/v1/suppressions", OPERATOR, number).await.status, 201);
    for run in runs {
        let (state, jobs) = states(pg, run).await;
        assert_eq!((state.as_str(), jobs[0].0.as_str(), jobs[1].0.as_str()), ("running", "skipped", "queued"));
    }
    assert_eq!(app.ask(Method::PUT, "/v1/suppressions/+1900*", OPERATOR, json!({})).await.status, 201);
    for run in runs {
        assert_eq!(states(pg, run).await.0, "completed");
    }
    for business in [one, two] {
        assert!(suppressed(pg, business, "+12025550101").await && suppressed(pg, business, "+19005559999").await);
    }
    let leads = json!({"name": "x", "leads": [{"to": "+12025550101"}]});
    assert_eq!(app.ask(Method::POST, "/v1/runs", &key, leads).await.body["import"]["suppressed"], 1);
    let own = app.ask(Method::GET, "/v1/suppressions", &key, Value::Null).await;
    assert_eq!(own.body["data"], json!([]), "a business is not shown the installation's list");
    assert_eq!(app.ask(Method::DELETE, "/v1/suppressions/+12025550101", &key, Value::Null).await.status, 404);
    let named = [("Rollcall-Business", one.to_string())];
    let headers: Vec<(&str, &str)> = named.iter().map(|(name, id)| (*name, id.as_str())).collect();
    let theirs = app.ask_with(Method::GET, "/v1/suppressions", OPERATOR, Value::Null, &headers).await;
    assert_eq!(theirs.body["data"], json!([]), "with the header the operator is shown the business's");
    let all = app.ask(Method::GET, "/v1/suppressions", OPERATOR, Value::Null).await;
    assert_eq!(all.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(app.ask(Method::DELETE, "/v1/suppressions/+12025550101", OPERATOR, Value::Null).await.status, 204);
    assert!(!suppressed(pg, one, "+12025550101").await);
    let audited = sqlx::query_scalar!(
        r#"SELECT detail ->> 'path' AS "path!" FROM audit WHERE action LIKE '%/v1/suppressions%' ORDER BY audit_id"#
    );
    let audited = audited.fetch_all(pg).await.unwrap();
    assert_eq!(
        audited,
        ["/v1/suppressions", "/v1/suppressions/+***0*", "/v1/suppressions/+*********01"],
        "without a whole number"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_list_is_taken_row_by_row_and_comes_back_as_it_went_in(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (business, key) = app.managed().await;
    let pg = &app.ctx.stores.pg;
    let run = run(pg, business, &["+12025550101", "+12025550102", "+442071838750"]).await;
    let csv = "\u{feff}number,source,note,expires_at,evidence,evidence_url,evidence_at\r\n\
               (202) 555-0101,crm,\"asked, twice\",,letter,https://crm.example/1,2026-01-02\r\n\
               +44*,law,,2099-01-01T00:00:00Z,,,\r\n\
               +12025550102,old,,2020-01-01,,,\r\n\
               +12025550101,crm,=again,,,,\r\n\
               nobody,,,,,,\r\n\
               +12025550103,,,,,ftp://x,\r\n";
    let taken = upload(&app, "/v1/suppressions", &key, csv).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    let counts = ["rows", "added", "changed", "rejected"].map(|name| taken.body[name].as_i64().unwrap());
    assert_eq!(counts, [6, 3, 1, 2], "{}", taken.body);
    let errors: Vec<_> = taken.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_i64().unwrap(), row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(errors, [(6, "invalid_number"), (7, "invalid_url")]);
    let (state, jobs) = states(pg, run).await;
    let was: Vec<&str> = jobs.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(
        (state.as_str(), was),
        ("running", vec!["skipped", "queued", "skipped"]),
        "what has expired keeps nobody"
    );
    let export = async || {
        let sent = app.http.get(format!("{}/v1/suppressions.csv", app.base)).bearer_auth(&key).send().await.unwrap();
        assert!(sent.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
        sent.text().await.unwrap()
    };
    let before = export().await;
    let lines: Vec<&str> = before.lines().collect();
    assert_eq!(lines[0], "number,source,note,expires_at,evidence,evidence_url,evidence_at,created_at");
    let first = "+12025550101,crm,'=again,,letter,https://crm.example/1,2026-01-02T00:00:00.000Z,20";
    assert!(lines[1].starts_with(first), "{}", lines[1]);
    assert!(lines[3].starts_with("+44*,law,,2099-01-01T00:00:00.000Z,,,,20"), "{}", lines[3]);
    let again = upload(&app, "/v1/suppressions", &key, &before).await;
    assert_eq!((&again.body["rows"], &again.body["changed"]), (&json!(3), &json!(3)), "{}", again.body);
    assert_eq!(export().await.lines().count(), 4);
    let refused = upload(&app, "/v1/suppressions", &key, "name\nx\n").await;
    assert_eq!((refused.status.as_u16(), refused.fault().1), (422, "unknown_column"));
    let viewer = app.key(business, "viewer").await.1;
    assert_eq!(upload(&app, "/v1/suppressions", &viewer, csv).await.status, 403);
    let everywhere = upload(&app, "/v1/suppressions", OPERATOR, "number\n+1900*\n2025550101\n").await;
    assert_eq!(
        (&everywhere.body["added"], &everywhere.body["rejected"]),
        (&json!(1), &json!(1)),
        "no country to read it by"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_claim_takes_a_number_that_a_prefix_or_the_operators_list_suppresses(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let (first, second) = (desk.running(1).await, desk.running(3).await);
    let numbers: Vec<String> = (0..3).map(number).collect();
    // As if it came while the list was going in: the entry is there, and the jobs are too.
    for (list, key) in [(desk.business.0, numbers[0].clone()), (uuid::Uuid::nil(), format!("{}*", &numbers[1][..11]))] {
        sqlx::query!("INSERT INTO suppression (business_id, number, source) VALUES ($1, $2, 'late')", list, key)
            .execute(desk.pg())
            .await
            .unwrap();
    }
    for slot in 1..4 {
        assert_eq!(desk.claim(slot).await, None);
    }
    for run in [first, second] {
        let (state, jobs) = states(desk.pg(), run).await;
        assert!(
            jobs.iter().all(|(state, reason)| state == "skipped" && reason.as_deref() == Some("suppressed")),
            "{state} {jobs:?}"
        );
    }
}
