//! `skip_called_within_days`: who was called lately is left out of the next list.

use rollcall::{
    attempts::{
        ledger::{self, Closing, JobThen},
        state::{AttemptState, Source},
    },
    ids::{AttemptId, RunId},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::runs_harness::{Desk, event, number};

impl Desk {
    /// Calls somebody as a worker and a carrier would, and they answer.
    async fn call(&self, slot: i32) -> AttemptId {
        let attempt = self.claim(slot).await.unwrap();
        event(self.pg(), self.business, attempt, "initiated", None).await;
        event(self.pg(), self.business, attempt, "ended", Some("answered")).await;
        attempt
    }

    /// Uploads the first four numbers.
    async fn four(&self, run: RunId) -> Value {
        let list: String = (0..4).map(|i| format!("{}\n", number(i))).collect();
        self.csv(run, format!("to\n{list}")).await.body
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_that_was_called_within_the_days_is_left_out_and_the_row_says_why(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.running(4).await;
    // One was called now, one eight days ago, one is about to be, and of one no byte left.
    desk.call(1).await;
    let old = desk.call(1).await;
    sqlx::query!("UPDATE attempt SET intent_at = clock_timestamp() - interval '8 days' WHERE attempt_id = $1", old.0)
        .execute(desk.pg())
        .await
        .unwrap();
    desk.claim(1).await.unwrap();
    let unsent = desk.claim(2).await.unwrap();
    let closing = Closing { state: AttemptState::NotSent, job: JobThen::Requeue, ..Closing::NOT_PLACED };
    assert!(ledger::close(desk.pg(), unsent, Source::Response, closing).await.unwrap().unwrap().closed);

    let run = desk.run(json!({"skip_called_within_days": 7})).await;
    let told = desk.four(run).await;
    assert_eq!((&told["accepted"], &told["duplicates"], &told["errors"]), (&json!(2), &json!(2), &json!([])), "{told}");
    let rejected = desk.download(told["rejected_url"].as_str().unwrap()).await;
    let rows: Vec<_> =
        rejected[1..].iter().map(|row| (row[1].as_str(), row[3].as_str(), row[5].trim_start_matches('\''))).collect();
    assert_eq!(rows, [("2", "called_recently", &*number(0)), ("4", "called_recently", &*number(2))]);

    // In the run itself they are duplicates as ever, and another business' calls are nobody's here.
    let again = desk.four(run).await;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(4)));
    let (longer, unset) = (desk.run(json!({"skip_called_within_days": 9})).await, desk.run(json!({})).await);
    assert_eq!(desk.four(longer).await["accepted"], 1);
    assert_eq!(desk.four(unset).await["accepted"], 4);
    let (other, key) = desk.app.managed().await;
    let elsewhere = Desk { app: desk.app, business: other, key };
    let run = elsewhere.run(json!({"skip_called_within_days": 365})).await;
    assert_eq!(elsewhere.four(run).await["accepted"], 4);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn leads_that_come_with_the_run_are_held_to_it_too_and_the_run_says_what_was_set(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let first = desk.running(1).await;
    desk.call(1).await;
    assert_eq!(desk.state(first).await, "completed");
    let leads = [json!({"to": number(0)}), json!({"to": number(1)})];
    let made = desk.post("/v1/runs", json!({"name": "x", "skip_called_within_days": 1, "leads": leads})).await.body;
    assert_eq!((&made["skip_called_within_days"], &made["import"]["duplicates"]), (&json!(1), &json!(1)), "{made}");
    assert_eq!(made["progress"]["total"], 1);
    for wrong in [0, -1, 366, i64::MAX] {
        let refused = desk.post("/v1/runs", json!({"name": "x", "skip_called_within_days": wrong})).await;
        assert_eq!((refused.status.as_u16(), refused.fault()), (422, ("/skip_called_within_days", "out_of_range")));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_two_runs_with_one_list_the_second_leaves_out_whom_the_first_has_called(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let body = |n: usize| {
        let leads: Vec<Value> = (0..n).map(|i| json!({"to": number(i)})).collect();
        let retry = json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 600}}});
        json!({"message": {"text": "Hello"}, "leads": leads, "skip_called_within_days": 30, "retry": retry})
    };
    let (first, second) = (desk.run(body(1)).await, desk.run(body(2)).await);
    assert_eq!(desk.act(first, "start").await.status, 200);
    desk.dial("busy").await;

    let seen = desk.act(second, "preview").await.body;
    assert_eq!((&seen["to_dial"], &seen["open_now"]), (&json!(1), &json!(1)), "{seen}");
    let held = &seen["held_back"][0];
    assert_eq!(
        (&held["rule"], &held["verdict"], &held["count"]),
        (&json!("attempt_cap"), &json!("skipped"), &json!(1))
    );
    assert_eq!(desk.act(second, "start").await.status, 200);
    desk.dial("answered").await;
    assert_eq!(desk.claim(1).await, None);
    let job = desk.jobs(second).await.into_iter().find(|job| job["to"] == number(0)).unwrap();
    assert_eq!((&job["state"], &job["reason"]), (&json!("skipped"), &json!("attempt_cap")), "{job}");
    let told = desk.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await.body["decisions"][0].clone();
    assert_eq!((&told["verdict"], &told["rule"]), (&json!("skipped"), &json!("attempt_cap")), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("30 days"), "{told}");

    // A list that is tried again is not held to it: its own calls are not meant, and it began before the others'.
    desk.by_hand("UPDATE job SET next_at = clock_timestamp() WHERE state = 'waiting'").await;
    let third = desk.started(json!({"message": {"text": "Hello"}, "leads": [{"to": number(0)}]})).await;
    desk.dial("answered").await;
    assert_eq!(desk.state(third).await, "completed");
    desk.sweep().await;
    desk.dial("answered").await;
    assert_eq!(desk.jobs(first).await[0]["state"], "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_copy_leaves_out_whom_the_business_has_called_but_not_whom_it_is_to_reach_at_last(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let leads: Vec<Value> = (0..3).map(|i| json!({"to": number(i)})).collect();
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "skip_called_within_days": 30})).await;
    desk.dial("busy").await;
    desk.dial("busy").await;
    let copy = async |of: RunId, leads: &str| {
        let made = desk.post(&format!("/v1/runs/{of}/clone"), json!({ "leads": leads })).await.body;
        assert_eq!(made["skip_called_within_days"], 30, "{made}");
        let counts = ["rows", "accepted", "duplicates"].map(|name| made["leads"][name].as_i64().unwrap());
        (made["id"].as_str().unwrap().parse::<RunId>().unwrap(), counts)
    };
    let (all, counts) = copy(run, "all").await;
    assert_eq!((counts, desk.jobs(all).await[0]["to"].as_str()), ([3, 1, 2], Some(&*number(2))));
    desk.dial("answered").await;
    let (_, counts) = copy(run, "all").await;
    assert_eq!(counts, [3, 0, 3]);

    // Who was not reached is called again, by a run of that run too; not whom another run has called since.
    let (again, counts) = copy(run, "unreached").await;
    assert_eq!(counts, [2, 2, 0]);
    assert_eq!(desk.act(again, "start").await.status, 200);
    desk.dial("busy").await;
    desk.started(json!({"message": {"text": "Hello"}, "weight": 100, "leads": [{"to": number(1), "priority": 9}]}))
        .await;
    desk.dial("busy").await;
    let (_, counts) = copy(again, "unreached").await;
    assert_eq!(counts, [2, 1, 1]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_long_list_and_many_calls_are_looked_at_in_time_also_by_a_plan_of_before_them(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    const MANY: i32 = 30_000;
    let desk = Desk::open(pg).await;
    let business = desk.business;
    let leads = [json!({"to": number(0)})];
    let other = desk.started(json!({"message": {"text": "Hello"}, "leads": leads})).await;
    desk.dial("busy").await;
    let run = desk.run(json!({"message": {"text": "Hello"}, "leads": leads, "skip_called_within_days": 30})).await;
    assert_eq!(desk.act(run, "preview").await.status, 200);
    desk.by_hand(&format!(
        "INSERT INTO job (job_id, run_id, business_id, to_number)
         SELECT id_in_order(n), '{run}', '{business}', '+1202' || (5000000 + n) FROM generate_series(1, {MANY}) n"
    ))
    .await;
    desk.by_hand(&format!(
        "INSERT INTO attempt (attempt_id, run_id, business_id, carrier, account, from_number, to_number, slot, line, state, rank, open,
                              ring_timeout_secs, call_time_limit_secs, owner, ended_at)
         SELECT gen_random_uuid(), '{other}', '{business}', 'twilio', 'AC', '+12125550100', '+1202' || (5000000 + n), 1, 1, 'ended', 9,
                false, 30, 600, 'w', clock_timestamp() FROM generate_series(1, {MANY}) n"
    ))
    .await;
    let seen = desk.act(run, "preview").await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert_eq!(seen.body["held_back"][0]["rule"], "attempt_cap", "{}", seen.body);
    assert_eq!(seen.body["jobs"], MANY);
}
