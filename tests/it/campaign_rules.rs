//! I11: whom, when and how often, decided inside the claim and told afterwards.

use rollcall::{attempts::speech, dialing::sweep, ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    api_harness::Answer,
    house::{House, Options, numbers},
    runs_harness::{Desk, event, number},
};

/// Nine to eight on every day, wherever the callee is.
pub(crate) fn nine_to_eight() -> Value {
    json!({"hours": [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "09:00", "to": "20:00"}]})
}

/// Sets the clock of windows, retries and limits.
#[expect(clippy::disallowed_methods, reason = "a function is replaced, which no checked query can")]
pub(crate) async fn set_wall_clock(pg: &PgPool, moment: &str) {
    let text = format!(
        "CREATE OR REPLACE FUNCTION wall_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT '{moment}'::timestamptz $$"
    );
    sqlx::query(sqlx::AssertSqlSafe(text)).execute(pg).await.unwrap();
}

impl Desk {
    /// Sets the clock of windows, retries and limits.
    pub(crate) async fn at(&self, moment: &str) {
        set_wall_clock(self.pg(), moment).await;
    }

    /// What time alone moves, moves.
    pub(crate) async fn sweep(&self) {
        assert!(sweep::round(&self.app.ctx).await);
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.app.ask(reqwest::Method::PATCH, path, &self.key, body).await
    }

    async fn limit(&self, calls: i32) {
        let path = format!("/v1/businesses/{}", self.business);
        let limit = json!({"max_concurrent_calls": calls});
        let answer = self.app.ask(reqwest::Method::PATCH, &path, crate::api_harness::OPERATOR, limit).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub(crate) async fn jobs(&self, run: RunId) -> Vec<Value> {
        self.get(&format!("/v1/runs/{run}/jobs")).await.body["data"].as_array().unwrap().clone()
    }

    /// Claims the next job with slot 1 and has its call end.
    pub(crate) async fn dial(&self, ended_as: &str) {
        let attempt = self.claim(1).await.expect("something is due");
        event(self.pg(), self.business, attempt, "ended", Some(ended_as)).await;
    }

    pub(crate) async fn started(&self, body: Value) -> RunId {
        let run = self.run(body).await;
        let answer = self.act(run, "start").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        run
    }
}

pub(crate) fn one_lead(extra: &Value) -> Value {
    let mut body = json!({"message": {"text": "Hello"}, "leads": [{"to": number(0), "time_zone": "America/New_York"}]});
    for (field, value) in extra.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_that_is_busy_is_tried_again_after_its_delay_and_no_oftener_than_the_rules_say(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let retry = json!({"max_attempts": 5, "rules": {"busy": {"delay_secs": 600, "jitter_pct": 0, "max": 2}}});
    let run = desk.started(one_lead(&json!({"retry": retry}))).await;
    for (moment, again) in
        [("2026-11-23T15:00:00Z", "2026-11-23T15:10:00.000Z"), ("2026-11-23T15:10:00Z", "2026-11-23T15:20:00.000Z")]
    {
        desk.at(moment).await;
        desk.sweep().await;
        desk.dial("busy").await;
        let job = &desk.jobs(run).await[0];
        assert_eq!((&job["state"], &job["next_at"]), (&json!("waiting"), &json!(again)));
        desk.sweep().await;
        assert_eq!(desk.claim(1).await, None, "its time has not come");
    }
    desk.at("2026-11-23T15:20:00Z").await;
    desk.sweep().await;
    desk.dial("busy").await;
    let job = &desk.jobs(run).await[0];
    assert_eq!(
        [&job["state"], &job["reason"], &job["disposition"], &job["attempt_count"]],
        [&json!("unreached"), &json!("attempts_used"), &json!("busy"), &json!(3)]
    );
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
    let id = job["id"].as_str().unwrap();
    let told = desk.get(&format!("/v1/jobs/{id}")).await.body["decisions"].clone();
    let told: Vec<_> =
        told.as_array().unwrap().iter().map(|one| (one["verdict"].clone(), one["rule"].clone())).collect();
    let dialed = (json!("dialed"), Value::Null);
    let waits = (json!("held"), json!("retry_wait"));
    assert_eq!(told.iter().filter(|one| **one == dialed).count(), 3);
    assert_eq!(told.iter().filter(|one| **one == waits).count(), 2);
    let rows = desk.download(&format!("/v1/runs/{run}/decisions.csv")).await;
    assert_eq!(rows.len(), 1 + 5, "{rows:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_answered_or_has_no_rule_is_not_tried_again(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let retry = json!({"max_attempts": 3, "rules": {"no_answer": {"delay_secs": 60}}});
    let run = desk
        .started(json!({"message": {"text": "Hello"}, "retry": retry, "leads": [{"to": number(0)}, {"to": number(1)}]}))
        .await;
    desk.dial("answered").await;
    desk.dial("busy").await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nothing_is_claimed_outside_the_callees_hours_nor_so_late_that_it_would_ring_outside(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    // New York: half past eight in the morning.
    desk.at("2026-11-23T13:30:00Z").await;
    let run = desk.started(one_lead(&json!({"window": nine_to_eight()}))).await;
    assert_eq!(desk.claim(1).await, None);
    let why = desk.get(&format!("/v1/runs/{run}/why")).await.body;
    let window = why["blockers"].as_array().unwrap().iter().find(|one| one["code"] == "window").unwrap();
    assert_eq!((&window["count"], &window["next_at"]), (&json!(1), &json!("2026-11-23T14:00:00.000Z")), "{why}");
    let job = desk.jobs(run).await[0]["id"].as_str().unwrap().to_owned();
    let decisions = desk.get(&format!("/v1/jobs/{job}")).await.body["decisions"].clone();
    assert_eq!(decisions.as_array().unwrap().len(), 1, "{decisions}");
    assert_eq!((&decisions[0]["rule"], &decisions[0]["verdict"]), (&json!("window"), &json!("held")));

    desk.at("2026-11-24T00:30:00Z").await;
    desk.sweep().await;
    let first = desk.claim(1).await.expect("half an hour to eight");
    event(desk.pg(), desk.business, first, "ended", Some("answered")).await;
    // Twenty seconds to eight: with 30 s of ringing it could ring past it.
    let second = desk.started(one_lead(&json!({"window": nine_to_eight()}))).await;
    desk.at("2026-11-24T00:59:40Z").await;
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None);
    assert_eq!(desk.jobs(second).await[0]["state"], "queued");
    let why = desk.get(&format!("/v1/runs/{second}/why")).await.body;
    assert_eq!(why["blockers"][0]["next_at"], "2026-11-24T14:00:00.000Z", "{why}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_window_that_is_changed_or_a_calendar_counts_from_the_next_claim_on(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let put =
        desk.app.ask(reqwest::Method::PUT, "/v1/calendars/feasts", &desk.key, json!({"dates": ["2026-12-25"]})).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let mut window = nine_to_eight();
    window["calendars"] = json!(["feasts"]);
    let run = desk.started(one_lead(&json!({"window": window}))).await;
    let put =
        desk.app.ask(reqwest::Method::PUT, "/v1/calendars/feasts", &desk.key, json!({"dates": ["2026-11-23"]})).await;
    assert_eq!(put.status, 200, "{}", put.body);
    assert_eq!(desk.claim(1).await, None, "nobody knows yet whether it is open");
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None, "today is a day without calls");
    let used = desk.app.ask(reqwest::Method::DELETE, "/v1/calendars/feasts", &desk.key, Value::Null).await;
    assert_eq!(used.status, 409, "{}", used.body);

    let changed = desk.patch(&format!("/v1/runs/{run}"), json!({"window": nine_to_eight()})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["window"]["calendars"]), (200, &json!([])), "{}", changed.body);
    let home =
        json!({"window": {"hours": [{"days": ["mon"], "from": "06:00", "to": "08:00"}], "zone": "America/New_York"}});
    assert_eq!(desk.patch("/v1/calling-rules", home).await.status, 200);
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None, "the business's own hours hold too");
    assert_eq!(desk.patch("/v1/calling-rules", json!({"window": null})).await.status, 200);
    desk.sweep().await;
    assert!(desk.claim(1).await.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_is_dialed_no_oftener_than_the_business_allows_by_all_its_runs(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let caps = json!({"attempt_caps": {"per_24h": 1, "lifetime": 2}});
    assert_eq!(desk.patch("/v1/calling-rules", caps).await.status, 200);
    desk.started(one_lead(&json!({}))).await;
    desk.dial("no_answer").await;
    let second = desk.started(one_lead(&json!({}))).await;
    assert_eq!(desk.claim(1).await, None);
    let job = &desk.jobs(second).await[0];
    assert_eq!(job["state"], "waiting", "{job}");
    let why = desk.get(&format!("/v1/runs/{second}/why")).await.body;
    assert!(why["blockers"].as_array().unwrap().iter().any(|one| one["code"] == "attempt_cap"), "{why}");
    assert_eq!(desk.patch("/v1/calling-rules", json!({"attempt_caps": {"lifetime": 1}})).await.status, 200);
    sqlx::query!("UPDATE job SET next_at = now() WHERE state = 'waiting'").execute(desk.pg()).await.unwrap();
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None);
    let job = &desk.jobs(second).await[0];
    assert_eq!((&job["state"], &job["reason"]), (&json!("skipped"), &json!("attempt_cap")), "{job}");
    desk.sweep().await;
    assert_eq!(desk.state(second).await, "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn runs_of_a_business_take_turns_by_weight_and_none_has_more_calls_than_its_limit(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let leads = |from: usize| (from..from + 8).map(|i| json!({"to": number(i)})).collect::<Vec<_>>();
    desk.limit(6).await;
    let light = desk.started(json!({"message": {"text": "a"}, "leads": leads(0)})).await;
    let heavy = desk.started(json!({"message": {"text": "b"}, "leads": leads(8), "weight": 2})).await;
    for slot in 1..=6 {
        assert!(desk.claim(slot).await.is_some());
    }
    let dialing = |run: RunId| {
        let desk = &desk;
        async move { desk.get(&format!("/v1/runs/{run}")).await.body["progress"]["states"]["dialing"].clone() }
    };
    assert_eq!((dialing(light).await, dialing(heavy).await), (json!(2), json!(4)));
    assert_eq!(desk.patch(&format!("/v1/runs/{light}"), json!({"max_concurrent_calls": 2})).await.status, 200);
    assert_eq!(desk.act(heavy, "pause").await.status, 200);
    desk.limit(8).await;
    assert_eq!(desk.claim(7).await, None, "the run has its two calls");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_starts_at_its_time_and_at_its_end_what_waits_is_over(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let times = json!({"start_at": "2026-11-23T16:00:00Z", "end_at": "2026-11-23T18:00:00+01:00"});
    let run = desk.started(one_lead(&times)).await;
    assert_eq!(desk.state(run).await, "scheduled");
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None);
    desk.at("2026-11-23T16:00:00Z").await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "running");
    desk.at("2026-11-23T17:00:00Z").await;
    assert_eq!(desk.claim(1).await, None, "its end has come");
    desk.sweep().await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
    let job = &desk.jobs(run).await[0];
    assert_eq!((&job["state"], &job["reason"]), (&json!("skipped"), &json!("run_ended")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_whose_window_never_opens_before_its_end_is_over(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let window = json!({"hours": [{"days": ["sun"], "from": "09:00", "to": "10:00"}]});
    let run = desk.started(one_lead(&json!({"window": window, "end_at": "2026-11-25T00:00:00Z"}))).await;
    desk.sweep().await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
    assert_eq!(desk.jobs(run).await[0]["reason"], "window_ended");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_is_over_is_only_named_anew_and_one_that_runs_keeps_what_it_says(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let run = desk.started(one_lead(&json!({}))).await;
    let path = format!("/v1/runs/{run}");
    let fixed = desk.patch(&path, json!({"message": {"text": "Bye"}, "weight": 3})).await;
    assert_eq!(
        (fixed.status.as_u16(), &fixed.body["errors"][0]["pointer"]),
        (409, &json!("/message")),
        "{}",
        fixed.body
    );
    assert_eq!(fixed.body["allowed"], json!(["pause", "cancel", "leads"]));
    let unknown = desk.patch(&path, json!({"colour": "red"})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.body["errors"][0]["code"]), (422, &json!("unknown_field")));
    let wrong = desk.patch(&path, json!({"weight": 0})).await;
    assert_eq!((wrong.status.as_u16(), &wrong.body["errors"][0]["pointer"]), (422, &json!("/weight")));
    let changed = desk.patch(&path, json!({"weight": 3, "retry": {"max_attempts": 2}})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["weight"]), (200, &json!(3)), "{}", changed.body);
    assert_eq!(changed.body["retry"]["rules"]["busy"]["delay_secs"], 900, "every rule is said");
    assert_eq!(desk.act(run, "cancel").await.status, 200);
    let late = desk.patch(&path, json!({"weight": 1})).await;
    assert_eq!(late.status, 409, "{}", late.body);
    assert_eq!(desk.patch(&path, json!({"name": "Archive 7"})).await.body["name"], "Archive 7");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cancel_that_lets_calls_finish_hangs_nobody_up(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(2).await;
    let attempt = desk.claim(1).await.unwrap();
    let stopped = desk.post(&format!("/v1/runs/{run}/cancel"), json!({"in_flight": "finish"})).await;
    assert_eq!((stopped.status.as_u16(), &stopped.body["in_flight_total"]), (200, &json!(1)), "{}", stopped.body);
    assert_eq!(stopped.body["run"]["state"], "cancelling");
    let wanted = sqlx::query_scalar!("SELECT hangup_wanted FROM attempt WHERE attempt_id = $1", attempt.0);
    assert!(!wanted.fetch_one(desk.pg()).await.unwrap());
    event(desk.pg(), desk.business, attempt, "ended", Some("answered")).await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "cancelled");
    let states: Vec<_> = desk.jobs(run).await.iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, [json!("completed"), json!("cancelled")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whom_a_time_was_agreed_with_is_called_again_then_though_the_run_tries_once(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let run = desk.started(one_lead(&json!({}))).await;
    let attempt = desk.claim(1).await.unwrap();
    event(desk.pg(), desk.business, attempt, "answered", None).await;
    let agree = |at: &'static str| speech::call_back(desk.pg(), attempt, at.parse().unwrap());
    assert!(!agree("2026-11-23T14:59:00Z").await.unwrap(), "that time is past");
    assert!(!agree("2027-11-23T15:00:00Z").await.unwrap(), "nobody remembers it by then");
    assert!(agree("2026-11-23T17:30:00Z").await.unwrap());
    event(desk.pg(), desk.business, attempt, "ended", Some("answered")).await;
    let job = &desk.jobs(run).await[0];
    assert_eq!((&job["state"], &job["next_at"]), (&json!("waiting"), &json!("2026-11-23T17:30:00.000Z")));
    desk.at("2026-11-23T17:30:00Z").await;
    desk.sweep().await;
    desk.dial("answered").await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_may_not_be_dialed_do_not_stand_in_the_way_of_those_behind_them() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let pg = house.ctx.stores.pg.clone();
    let run = house.run(business, &numbers(1_500)).await;
    sqlx::query!(
        "UPDATE job SET not_before = now() + interval '1 day' WHERE job_id IN
             (SELECT job_id FROM job WHERE run_id = $1 ORDER BY job_id LIMIT 1490)",
        run.0
    )
    .execute(&pg)
    .await
    .unwrap();
    house.start_worker();
    house.ctx.ring(business).await;
    house.until("the last ten are over", || async { house.jobs_in(run, "completed").await == 10 }).await;
    assert_eq!(house.jobs_in(run, "waiting").await, 1_490);
    assert_eq!(house.sim.figures().total.created, 10);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_first_numbers_may_not_be_dialed_has_its_turn_beside_one_that_has_plenty() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(1).await;
    let pg = house.ctx.stores.pg.clone();
    let all = numbers(330);
    let run = house.run(business, &all[..30]).await;
    sqlx::query!(
        "UPDATE job SET not_before = now() + interval '1 day' WHERE job_id IN
             (SELECT job_id FROM job WHERE run_id = $1 ORDER BY job_id LIMIT 29)",
        run.0
    )
    .execute(&pg)
    .await
    .unwrap();
    let other = house.run(business, &all[30..]).await;
    house.start_worker();
    house.ctx.ring(business).await;
    house.until("the last one is over", || async { house.jobs_in(run, "completed").await == 1 }).await;
    assert!(house.jobs_in(other, "queued").await > 0, "it did not wait for the other run");
    assert_eq!(house.jobs_in(run, "waiting").await, 29);
    house.stop_dialing(other).await;
    house.close().await;
}
