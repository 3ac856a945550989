//! Did we call this number, and with what right; and a number that is to be forgotten is, while everything that was counted stays.
#![expect(
    clippy::disallowed_methods,
    reason = "the tables are read from the catalogue, so that a new one that keeps a number cannot be forgotten"
)]

use reqwest::Method;
use rollcall::{
    attempts::recordings,
    dialing::retention,
    ids::{AttemptId, BusinessId, Carrier, RunId},
    runs,
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use crate::{
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
    runs_harness::{Desk, event},
};

/// Whose number it is.
const PERSON: &str = "+12025550142";
/// What only this person's rows say.
const MARK: &str = "canary-of-one-person";

/// A run that calls these numbers, each with the mark.
async fn run_to(desk: &Desk, numbers: &[&str]) -> RunId {
    let leads: Vec<Value> = numbers
        .iter()
        .map(|to| json!({"to": to, "external_id": format!("{MARK} {to}"), "variables": {"name": MARK}}))
        .collect();
    desk.run(json!({"message": {"text": "Hello"}, "leads": leads})).await
}

/// A single call to the person, in this state.
async fn single(desk: &Desk, direction: &str) -> AttemptId {
    let call = AttemptId::new();
    sqlx::query!(
        "INSERT INTO attempt (attempt_id, business_id, direction, external_id, carrier, account, from_number, to_number, slot, line,
                              ring_timeout_secs, call_time_limit_secs, owner, variables, message, sent_at)
         VALUES ($1, $2, $5::text, $3::text, 'twilio', 'AC1', '+12025550100', $4::text, 3, 33, 30, 600, 'w',
                 jsonb_build_object('name', $3::text), jsonb_build_object('text', $3::text), clock_timestamp())",
        call.0,
        desk.business.0,
        MARK,
        PERSON,
        direction
    )
    .execute(desk.pg())
    .await
    .unwrap();
    call
}

/// What an agent heard in this call.
async fn said(pg: &PgPool, business: BusinessId, attempt: AttemptId) {
    sqlx::query!(
        "INSERT INTO conversation (attempt_id, business_id, agent_id, agent_version, end_reason, transcript, outcome, turns, usage, started_at)
         VALUES ($1, $2, $1, 1, 'hung_up', jsonb_build_array(jsonb_build_object('who', 'caller', 'text', $3::text)),
                 jsonb_build_object('name', $3::text), '[]', '{}', now())",
        attempt.0,
        business.0,
        MARK
    )
    .execute(pg)
    .await
    .unwrap();
}

/// The tables in which a text stands.
async fn tables_that_say(pg: &PgPool, text: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY 1",
    )
    .fetch_all(pg)
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let query = format!("SELECT EXISTS (SELECT 1 FROM {table} t WHERE strpos(t::text, $1) > 0)");
        if sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(text).fetch_one(pg).await.unwrap() {
            found.push(table);
        }
    }
    found
}

/// Everything of the ledger but who was called.
async fn ledger(pg: &PgPool) -> Vec<Value> {
    sqlx::query_scalar(
        "SELECT to_jsonb(a) - 'to_number' - 'external_id' - 'variables' - 'message' - 'recording_url' FROM attempt a ORDER BY attempt_id",
    )
    .fetch_all(pg)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_tells_every_job_dial_recording_and_transcript_of_it(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let path = format!("/v1/numbers/{PERSON}");
    let never = desk.get(&path).await;
    assert_eq!(never.status, 200);
    assert_eq!(
        (&never.body["dialed"]["attempts"], &never.body["data"], &never.body["suppressions"]),
        (&json!(0), &json!([]), &json!([]))
    );
    let first = run_to(&desk, &[PERSON, "+12025550143"]).await;
    desk.act(first, "start").await;
    let dialed = desk.claim(1).await.unwrap();
    event(desk.pg(), desk.business, dialed, "ended", Some("no_answer")).await;
    let second = run_to(&desk, &[PERSON]).await;
    desk.act(second, "start").await;
    let call = single(&desk, "outbound").await;
    event(desk.pg(), desk.business, call, "ended", Some("answered")).await;
    said(desk.pg(), desk.business, call).await;
    assert!(recordings::saved(desk.pg(), (desk.business, call), "RE1", None, None).await.unwrap());
    let evidence = json!({"number": PERSON, "source": "letter", "evidence": {"text": "asked in writing"}, "expires_at": "2020-01-01T00:00:00Z"});
    desk.post("/v1/suppressions", evidence).await;
    let known = desk.get(&path).await.body;
    let dialed_to = &known["dialed"];
    assert_eq!((&dialed_to["attempts"], &dialed_to["open"], &dialed_to["inbound"]), (&json!(2), &json!(0), &json!(0)));
    assert_eq!(dialed_to["dispositions"], json!({"answered": 1, "no_answer": 1}));
    assert!(
        dialed_to["first_at"].as_str() < dialed_to["last_at"].as_str() || dialed_to["first_at"] == dialed_to["last_at"]
    );
    assert_eq!(
        (&known["suppressions"][0]["scope"], &known["suppressions"][0]["evidence"]["text"]),
        (&json!("business"), &json!("asked in writing"))
    );
    let contacts = known["data"].as_array().unwrap();
    let ids: Vec<&str> = contacts.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    assert_eq!(contacts.len(), 3);
    let of_call = contacts.iter().find(|one| one["job"].is_null()).unwrap();
    assert_eq!(of_call["attempts"][0]["recording_url"], json!(format!("/v1/calls/{call}/recording")));
    assert_eq!(of_call["transcript_urls"], json!([format!("/v1/calls/{call}/transcript")]));
    let of_first = contacts.iter().find(|one| one["job"]["run_id"] == json!(first)).unwrap();
    assert_eq!((&of_first["run_name"], &of_first["attempts"][0]["disposition"]), (&json!("Test"), &json!("no_answer")));
    let of_second = contacts.iter().find(|one| one["job"]["run_id"] == json!(second)).unwrap();
    assert_eq!(of_second["attempts"], json!([]));
    let mut paged = Vec::new();
    let mut next = format!("{path}?limit=1");
    loop {
        let page = desk.get(&next).await.body;
        paged.extend(page["data"].as_array().unwrap().iter().map(|one| one["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("{path}?limit=1&cursor={cursor}");
    }
    assert_eq!(json!(paged), json!(ids));
    assert_eq!(desk.get("/v1/numbers/2025550142").await.fault(), ("number", "invalid_number"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_erased_number_stands_nowhere_and_what_was_counted_stays(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let (pg, business) = (desk.pg(), desk.business);
    let path = format!("/v1/numbers/{PERSON}");
    let over = run_to(&desk, &[PERSON]).await;
    desk.act(over, "start").await;
    let dialed = desk.claim(1).await.unwrap();
    event(pg, business, dialed, "answered", None).await;
    let refused = desk.app.ask(Method::DELETE, &path, &desk.key, Value::Null).await;
    assert_eq!((refused.status.as_u16(), refused.slug()), (409, "conflict"));
    assert_eq!(refused.body["in_flight"][0]["attempt_id"], json!(dialed));
    event(pg, business, dialed, "ended", Some("answered")).await;
    assert_eq!(desk.state(over).await, "completed");
    let waits = run_to(&desk, &[PERSON]).await;
    desk.act(waits, "start").await;
    let both = run_to(&desk, &[PERSON, "+12025550143"]).await;
    let twice = desk.csv(both, format!("to\n{PERSON}\n")).await;
    assert_eq!(twice.body["duplicates"], 1);
    let call = single(&desk, "outbound").await;
    event(pg, business, call, "ended", Some("answered")).await;
    let rang = single(&desk, "inbound").await;
    event(pg, business, rang, "ended", Some("answered")).await;
    for attempt in [dialed, call] {
        said(pg, business, attempt).await;
        assert!(recordings::saved(pg, (business, attempt), &format!("RE{attempt}"), None, None).await.unwrap());
    }
    let other = desk.app.business().await;
    sqlx::query!("INSERT INTO suppression (business_id, number, source) VALUES ($1, $2, 'theirs')", other.0, PERSON)
        .execute(pg)
        .await
        .unwrap();
    let progress = async || {
        let mut progress = desk.get(&format!("/v1/runs/{over}")).await.body["progress"].clone();
        progress["at"].take();
        progress
    };
    let (before, counted) = (ledger(pg).await, progress().await);

    let viewer = desk.app.key(business, "viewer").await.1;
    assert_eq!(desk.app.ask(Method::DELETE, &path, &viewer, Value::Null).await.status, 403);
    let erased = desk.app.ask(Method::DELETE, &path, &desk.key, Value::Null).await;
    assert_eq!(erased.status, 200, "{}", erased.body);
    assert_eq!(
        erased.body,
        json!({"jobs": 3, "skipped": 2, "attempts": 3, "transcripts": 2, "recordings": 2, "rejected_rows": 1, "suppressed": true})
    );
    assert_eq!(tables_that_say(pg, PERSON).await, ["suppression"], "so that nobody calls it again");
    let mark = tables_that_say(pg, MARK).await;
    assert_eq!(mark, ["job"], "only of the other number of the run");
    assert_eq!(ledger(pg).await, before, "the ledger says the same of everything else");
    assert_eq!(progress().await, counted);
    assert_eq!((desk.state(waits).await.as_str(), desk.state(both).await.as_str()), ("completed", "draft"));
    for run in [over, waits, both] {
        assert_eq!(runs::audit::differences(pg, run).await.unwrap(), []);
    }
    let results = desk.download(&format!("/v1/runs/{over}/results.csv")).await;
    assert!(results[1][2].starts_with("+999") && results[1].iter().all(|cell| !cell.contains(MARK)), "{results:?}");
    let job = &desk.get(&format!("/v1/runs/{waits}/jobs")).await.body["data"][0];
    assert_eq!(
        (&job["state"], &job["reason"], &job["external_id"]),
        (&json!("skipped"), &json!("erased"), &Value::Null)
    );
    let again = desk.post(&format!("/v1/runs/{over}/clone"), json!({"leads": "all"})).await;
    assert_eq!(again.body["leads"]["accepted"], 0, "what stands in its place is never dialed: {}", again.body);
    let known = desk.get(&path).await.body;
    assert_eq!((&known["dialed"]["attempts"], &known["data"]), (&json!(0), &json!([])));
    assert_eq!(known["suppressions"][0]["source"], "erasure");
    let audited: Vec<String> =
        sqlx::query_scalar("SELECT detail::text FROM audit WHERE action = 'number.erase' ORDER BY audit_id")
            .fetch_all(pg)
            .await
            .unwrap();
    assert!(audited.len() == 1 && audited[0].contains("+*********42"), "{audited:?}");
    // What the carrier says of it afterwards is not kept either.
    assert!(recordings::saved(pg, (business, dialed), "RElate", None, None).await.unwrap());
    assert_eq!(desk.get("/v1/recordings").await.body["data"], json!([]));
    let late = desk.get(&format!("/v1/attempts/{dialed}")).await.body;
    assert_eq!((&late["recording_url"], late["to"].as_str().unwrap().len()), (&Value::Null, 16));
    let leads = desk.post("/v1/runs", json!({"name": "x", "leads": [{"to": PERSON}]})).await;
    assert_eq!(leads.body["import"]["suppressed"], 1);
    let gone = desk.app.ask(Method::DELETE, &format!("{path}?suppress=false"), &desk.key, Value::Null).await;
    assert_eq!((&gone.body["jobs"], &gone.body["suppressed"]), (&json!(0), &json!(false)));
    let theirs: i64 = sqlx::query_scalar("SELECT count(*) FROM suppression").fetch_one(pg).await.unwrap();
    assert_eq!(theirs, 1, "another business's own list is its own");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_kept_for_some_days_is_forgotten_after_them(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let (pg, business) = (desk.pg(), desk.business);
    let patch = async |retention: Value| {
        let path = format!("/v1/businesses/{business}");
        desk.app.ask(Method::PATCH, &path, crate::api_harness::OPERATOR, json!({ "retention": retention })).await
    };
    assert_eq!(patch(json!({"variables_days": 0})).await.fault(), ("/retention/variables_days", "out_of_range"));
    let old = run_to(&desk, &[PERSON]).await;
    assert_eq!(desk.csv(old, "to\nnobody\n").await.body["rejected"], 1);
    desk.act(old, "start").await;
    let dialed = desk.claim(1).await.unwrap();
    event(pg, business, dialed, "ended", Some("answered")).await;
    let young = run_to(&desk, &[PERSON]).await;
    let call = single(&desk, "outbound").await;
    event(pg, business, call, "ended", Some("answered")).await;
    said(pg, business, dialed).await;
    said(pg, business, call).await;
    assert!(recordings::saved(pg, (business, dialed), "RE1", None, None).await.unwrap());
    // Time passes for the first of each.
    for passed in [
        "UPDATE run SET ended_at = ended_at - interval '31 days' WHERE ended_at IS NOT NULL",
        "UPDATE conversation SET ended_at = ended_at - interval '8 days' WHERE attempt_id = (SELECT min(attempt_id::text)::uuid FROM conversation)",
        "UPDATE recording SET created_at = created_at - interval '8 days'",
    ] {
        assert_eq!(sqlx::query(passed).execute(pg).await.unwrap().rows_affected(), 1, "{passed}");
    }
    let words = async || -> Vec<bool> {
        sqlx::query_scalar("SELECT transcript = '[]' AND outcome IS NULL FROM conversation ORDER BY attempt_id")
            .fetch_all(pg)
            .await
            .unwrap()
    };
    let names = async || -> Vec<Value> {
        sqlx::query_scalar("SELECT variables FROM job ORDER BY job_id").fetch_all(pg).await.unwrap()
    };
    retention::whole_round(&desk.app.ctx).await.unwrap();
    assert_eq!((words().await, names().await[0] == json!({})), (vec![false, false], false), "kept for good");
    let set = patch(json!({"transcripts_days": 7, "recordings_days": 7, "variables_days": 30})).await;
    assert_eq!(set.body["retention"], json!({"transcripts_days": 7, "recordings_days": 7, "variables_days": 30}));
    retention::whole_round(&desk.app.ctx).await.unwrap();
    assert_eq!(words().await, [true, false]);
    assert_eq!(names().await, [json!({}), json!({"name": MARK})], "of the run that is over only");
    assert_eq!(desk.get("/v1/recordings").await.body["data"], json!([]));
    assert_eq!(desk.get(&format!("/v1/attempts/{dialed}")).await.body["recording_url"], Value::Null);
    let rows = desk.download(&format!("/v1/runs/{old}/rejected.csv")).await;
    assert_eq!((rows.len(), rows[1][3].as_str(), rows[1][5].as_str()), (2, "invalid_number", ""), "{rows:?}");
    let said_in_call: Value = sqlx::query_scalar("SELECT variables FROM attempt WHERE attempt_id = $1")
        .bind(call.0)
        .fetch_one(pg)
        .await
        .unwrap();
    assert_eq!(said_in_call, json!({"name": MARK}), "it ended just now");
    assert_eq!(retention::whole_round(&desk.app.ctx).await.unwrap(), 0, "nothing is left to be done");
    assert_eq!(desk.state(young).await, "draft");
    assert_eq!(runs::audit::differences(pg, old).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recordings_of_an_erased_number_are_deleted_at_both_carriers() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let pg = &house.ctx.stores.pg;
    for (business, carrier) in
        [(house.business(2).await, Carrier::Twilio), (house.telnyx_business(2).await, Carrier::Telnyx)]
    {
        let list = numbers(2);
        let run = house.run(business, &list).await;
        sqlx::query!("UPDATE run SET record = true WHERE run_id = $1", run.0).execute(pg).await.unwrap();
        house.ctx.ring(business).await;
        house.until_run_is(run, "completed").await;
        let kept = async || -> Vec<(Uuid, String)> {
            sqlx::query_as("SELECT attempt_id, carrier_recording_id FROM recording WHERE business_id = $1 ORDER BY 1")
                .bind(business.0)
                .fetch_all(pg)
                .await
                .unwrap()
        };
        house.until("both are recorded", || async { kept().await.len() == 2 }).await;
        let before = kept().await;
        let request = client().delete(format!("http://{}/v1/numbers/{}", house.addr, list[0]));
        let request = request.bearer_auth(OPERATOR_KEY).header("Rollcall-Business", business.to_string());
        let erased = crate::api_harness::answer(request).await;
        assert_eq!((erased.status.as_u16(), &erased.body["recordings"]), (200, &json!(1)), "{}", erased.body);
        retention::whole_round(&house.ctx).await.unwrap();
        house.until("one is left", || async { kept().await.len() == 1 }).await;
        let account = house.ctx.account_at(business, carrier).await.unwrap().unwrap();
        for (attempt, recording) in &before {
            let there = house.ctx.carriers.recording(&account, recording).await.unwrap().is_some();
            assert_eq!(there, kept().await[0].0 == *attempt, "{carrier}");
        }
    }
    house.close().await;
}
