//! What became of the jobs: files, events, reasons, single jobs and calls.

use futures::StreamExt;
use rollcall::{dialing::overview, ids::AttemptId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    heartbeats_say_who_is_there::beat,
    runs_harness::{Desk, event},
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn results_hold_every_job_and_no_cell_begins_a_formula(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let leads = json!([
        {"to": "+12025550101", "external_id": "=HYPERLINK(1)", "variables": {"a": "@SUM(1)", "n": -5, "quote": "say \"x\", y"}},
        {"to": "+12025550102", "variables": {"b": "+1", "n": null}},
        {"to": "+12025550103"},
    ]);
    let run = desk.run(json!({"message": {"text": "Hello"}, "leads": leads})).await;
    assert_eq!(desk.act(run, "start").await.status, 200);
    let attempt = desk.claim(1).await.unwrap();
    event(desk.pg(), desk.business, attempt, "ended", Some("answered")).await;
    let rows = desk.download(&format!("/v1/runs/{run}/results.csv")).await;
    let columns = "job_id,external_id,to,state,reason,disposition,attempts,answered_by,first_dialed_at,answered_at,ended_at,\
                   duration_secs,from,carrier,carrier_call_id,price,currency,outcome,var.a,var.b,var.n,var.quote";
    assert_eq!(rows[0].join(","), columns);
    assert_eq!(rows.len(), 4);
    let cell = |row: usize, name: &str| rows[row][rows[0].iter().position(|column| column == name).unwrap()].as_str();
    let first =
        ["external_id", "to", "state", "disposition", "attempts", "from", "var.a", "var.b", "var.n", "var.quote"];
    assert_eq!(
        first.map(|name| cell(1, name)),
        [
            "'=HYPERLINK(1)",
            "+12025550101",
            "completed",
            "answered",
            "1",
            "+12025550100",
            "'@SUM(1)",
            "",
            "'-5",
            "say \"x\", y"
        ]
    );
    assert_eq!(
        ["to", "state", "var.b", "var.n", "carrier"].map(|name| cell(2, name)),
        ["+12025550102", "queued", "'+1", "", ""]
    );

    let rejected = desk.csv(run, "to,x\n=1+1,1\n").await;
    assert_eq!(rejected.body["rejected"], 1);
    let rejected = desk.download(&format!("/v1/runs/{run}/rejected.csv")).await;
    assert_eq!(rejected[1][5], "'=1+1");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_shows_its_attempts_and_can_be_cancelled_until_it_is_over(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(3).await;
    let attempt = desk.claim(1).await.unwrap();
    event(desk.pg(), desk.business, attempt, "initiated", None).await;
    let shown = desk.get(&format!("/v1/attempts/{attempt}")).await.body;
    let events: Vec<_> =
        shown["events"].as_array().unwrap().iter().map(|e| (&e["seq"], &e["from"], &e["to"])).collect();
    assert_eq!(events, [(&json!(1), &json!("intent"), &json!("initiated"))]);
    for field in ["price", "recording_url", "sip_code", "duration_secs", "answered_by", "placed_at"] {
        assert_eq!(shown.get(field), Some(&Value::Null), "{field} is null, not absent");
    }
    let dialed = format!("/v1/jobs/{}", shown["job_id"].as_str().unwrap());
    let job = desk.get(&dialed).await.body;
    assert_eq!(
        (&job["state"], &job["attempts"][0]["id"], &job["decisions"][0]["verdict"]),
        (&json!("dialing"), &json!(attempt), &json!("dialed"))
    );

    let cancelled = desk.post(&format!("{dialed}/cancel"), Value::Null).await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.body["state"]), (200, &json!("dialing")));
    event(desk.pg(), desk.business, attempt, "ended", Some("cancelled")).await;
    let refused = desk.post(&format!("{dialed}/cancel"), Value::Null).await;
    assert_eq!(
        (refused.status.as_u16(), refused.slug(), &refused.body["state"]),
        (409, "conflict", &json!("cancelled"))
    );

    let queued = desk.get(&format!("/v1/runs/{run}/jobs?state=queued&limit=1")).await.body;
    assert!(queued["next_cursor"].is_string());
    let next = desk
        .get(&format!("/v1/runs/{run}/jobs?state=queued&cursor={}", queued["next_cursor"].as_str().unwrap()))
        .await
        .body;
    assert_eq!((next["data"].as_array().unwrap().len(), &next["next_cursor"]), (1, &Value::Null));
    for job in [&queued["data"][0], &next["data"][0]] {
        let cancelled = desk.post(&format!("/v1/jobs/{}/cancel", job["id"].as_str().unwrap()), Value::Null).await;
        assert_eq!((&cancelled.body["state"], &cancelled.body["reason"]), (&json!("cancelled"), &json!("cancelled")));
    }
    assert_eq!(desk.state(run).await, "completed", "the last job ends the run");
}

async fn admit(desk: &Desk, slot: i32) -> AttemptId {
    let call = AttemptId::new();
    let verdict = sqlx::query_scalar!(
        "SELECT admit_call($1, $2, $3, $3, 'twilio', '{}', NULL, $4, 'crm-1', '{}', '{\"text\": \"Hello\"}', 30, 600, 30, false, '{}', 0)",
        desk.business.0,
        call.0,
        slot,
        format!("+1202555014{slot}")
    );
    assert_eq!(verdict.fetch_one(desk.pg()).await.unwrap().as_deref(), Some("admitted"));
    call
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_call_that_nobody_took_ends_at_once_and_one_that_was_taken_is_hung_up(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let (untaken, taken) = (admit(&desk, 1).await, admit(&desk, 2).await);
    sqlx::query!("UPDATE attempt SET owner = 'worker' WHERE attempt_id = $1", taken.0)
        .execute(desk.pg())
        .await
        .unwrap();
    let listed = desk.get("/v1/calls").await.body;
    let states: Vec<_> = listed["data"].as_array().unwrap().iter().map(|call| (&call["id"], &call["state"])).collect();
    assert_eq!(states, [(&json!(taken), &json!("dialing")), (&json!(untaken), &json!("queued"))]);
    assert_eq!(listed["data"][1].get("session"), Some(&Value::Null));

    let ended = desk.post(&format!("/v1/calls/{untaken}/hangup"), Value::Null).await.body;
    assert_eq!(
        (&ended["state"], &ended["disposition"], &ended["reason"]),
        (&json!("ended"), &json!("cancelled"), &json!("cancelled"))
    );
    let asked = desk.post(&format!("/v1/calls/{taken}/hangup"), Value::Null).await;
    assert_eq!((asked.status.as_u16(), &asked.body["state"]), (200, &json!("dialing")));
    let wanted = sqlx::query_scalar!("SELECT hangup_wanted FROM attempt WHERE attempt_id = $1", taken.0);
    assert!(wanted.fetch_one(desk.pg()).await.unwrap());
    assert_eq!(desk.post(&format!("/v1/calls/{untaken}/hangup"), Value::Null).await.slug(), "conflict");
    assert_eq!(desk.get(&format!("/v1/calls/{}", AttemptId::new())).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_names_what_is_in_the_way(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(5).await;
    let why = || async { desk.get(&format!("/v1/runs/{run}/why")).await.body };
    let codes = |why: &Value| -> Vec<(String, i64)> {
        let blockers = why["blockers"].as_array().unwrap().iter();
        blockers.map(|b| (b["code"].as_str().unwrap().to_owned(), b["count"].as_i64().unwrap())).collect()
    };
    assert_eq!(codes(&why().await), [("no_worker".to_owned(), 5)]);
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut desk.app.ctx.stores.redis.clone()).await.unwrap();
    desk.app.ctx.heartbeats.write(&beat("one", now * 1_000)).await.unwrap();
    let free = why().await;
    assert_eq!((codes(&free), &free["dialing"], &free["lines"]["limit"]), (vec![], &json!(true), &json!(50)));
    assert_eq!(free["next_possible_at"], free["at"]);

    for slot in 1..=3 {
        desk.claim(slot).await.unwrap();
    }
    sqlx::query!("UPDATE attempt SET state = 'unknown' WHERE slot = 1").execute(desk.pg()).await.unwrap();
    sqlx::query!("UPDATE carrier_account SET health = 'refused', hold_until = clock_timestamp() + interval '1 minute'")
        .execute(desk.pg())
        .await
        .unwrap();
    let held = why().await;
    let expected = [("no_slot", 2), ("account_refused", 2), ("unknown_attempts", 1)];
    assert_eq!(codes(&held), expected.map(|(code, n)| (code.to_owned(), n)));
    assert_eq!((&held["dialing"], &held["slots"]), (&json!(false), &json!({"held": 3, "limit": 3})));
    // Whoever wrote an intent and is gone hears no answer.
    sqlx::query!("UPDATE attempt SET intent_at = intent_at - interval '2 minutes' WHERE slot = 2")
        .execute(desk.pg())
        .await
        .unwrap();
    assert_eq!(codes(&why().await)[2], ("unknown_attempts".to_owned(), 2));
    let attempts = overview::ledger(&desk.app.ctx).await.unwrap().attempts;
    assert_eq!((attempts.intent, attempts.unknown), (1, 2));
    assert_eq!(held["next_possible_at"], Value::Null, "nobody knows when a slot comes free");
    assert_eq!(desk.act(run, "pause").await.status, 200);
    assert_eq!(codes(&why().await)[0].0, "run_not_running");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_event_stream_begins_with_now_and_ends_with_the_run(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(2).await;
    let path = format!("{}/v1/runs/{run}/events", desk.app.base);
    let response = desk.app.http.get(path).bearer_auth(&desk.key).header("Last-Event-ID", "1").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        text.push_str(str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    let start = text.split("\n\n").collect::<Vec<_>>();
    assert_eq!(start[0], "retry: 2000");
    let mut lines: Vec<_> = start[1].lines().collect();
    lines.sort_unstable();
    let data: Value = serde_json::from_str(lines[0].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((lines[1], lines[2]), ("event: progress", format!("id: {}", data["progress"]["sequence"]).as_str()));
    assert_eq!(
        (&data["run_id"], &data["state"], &data["progress"]["total"]),
        (&json!(run), &json!("running"), &json!(2))
    );

    assert_eq!(desk.act(run, "cancel").await.status, 200);
    while let Some(chunk) = stream.next().await {
        text.push_str(str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.contains("event: end") && last.contains("\"state\":\"cancelled\""), "{last}");
    assert!(text.contains("event: run\n"), "the move itself was told");
}
