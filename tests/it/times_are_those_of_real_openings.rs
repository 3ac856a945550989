//! A time that is told is one at which the window is open: days differ, and on some there are no calls.

use rollcall::{ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::OPERATOR,
    campaign_rules::nine_to_eight,
    runs_harness::{Desk, number},
};

/// Two hours of the morning on some days.
fn mornings(days: &[&str]) -> Value {
    json!({"hours": [{"days": days, "from": "09:00", "to": "11:00"}]})
}

fn list(n: usize, window: &Value) -> Value {
    let lead = |i: usize| json!({"to": number(i), "time_zone": "America/New_York"});
    json!({"message": {"text": "Hello"}, "window": window, "leads": (0..n).map(lead).collect::<Vec<_>>()})
}

impl Desk {
    async fn carrier(&self, settings: Value) {
        let path = format!("/v1/businesses/{}/carriers/twilio", self.business);
        let set = self.app.ask(reqwest::Method::PATCH, &path, OPERATOR, settings).await;
        assert_eq!(set.status, 200, "{}", set.body);
    }

    /// Until when a list of so many numbers would be dialed.
    async fn until(&self, n: usize, window: &Value) -> String {
        let run = self.run(list(n, window)).await;
        let seen = self.act(run, "preview").await.body;
        seen["until"].as_str().unwrap_or_else(|| panic!("{seen}")).to_owned()
    }

    /// A run whose one job waits for another attempt after a call to the number `n` now.
    async fn tried_again(&self, n: usize, window: &Value, delay_secs: i64) -> RunId {
        let mut body = list(n + 1, window);
        let lead = body["leads"][n].take();
        body["leads"] = json!([lead]);
        body["retry"] = json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": delay_secs, "jitter_pct": 0}}});
        let run = self.started(body).await;
        self.dial("busy").await;
        run
    }
}

/// Within ten minutes after that moment.
fn soon_after(until: &str, moment: &str) -> bool {
    let [until, moment] = [until, moment].map(|text| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
    until >= moment && until < moment + chrono::TimeDelta::minutes(10)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_list_of_several_days_is_dialed_on_days_that_have_calls(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    // 200 calls take 2 h 47 min: 2 h of them on the first day.
    desk.carrier(json!({"calls_per_second": 0.02})).await;
    desk.at("2026-11-28T14:00:00Z").await;
    let until = desk.until(200, &mornings(&["sat"])).await;
    assert!(soon_after(&until, "2026-12-05T14:46:40Z"), "the next Saturday, not tomorrow: {until}");
    let until = desk.until(200, &mornings(&["sat", "tue"])).await;
    assert!(soon_after(&until, "2026-12-01T14:46:40Z"), "a Tuesday: {until}");
    let mut window = mornings(&["sat", "sun", "mon", "tue"]);
    window["blackout_dates"] = json!(["2026-11-29", "2026-11-30"]);
    let until = desk.until(200, &window).await;
    assert!(soon_after(&until, "2026-12-01T14:46:40Z"), "two days have no calls: {until}");
    // Clocks are put forward on 14 March 2027: the hours come an hour earlier.
    desk.at("2027-03-13T14:00:00Z").await;
    let until = desk.until(200, &mornings(&["sat", "sun"])).await;
    assert!(soon_after(&until, "2027-03-14T13:46:40Z"), "{until}");
    // Longer than four hundred such days: nobody knows.
    desk.carrier(json!({"calls_per_second": 0.000_06})).await;
    let run = desk.run(list(200, &mornings(&["sat", "sun"]))).await;
    assert_eq!(desk.act(run, "preview").await.body["until"], Value::Null);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn numbers_that_are_taken_once_a_day_are_not_taken_on_days_without_calls(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.carrier(json!({"caller_ids": ["+12025550100"]})).await;
    let once = json!({"number": "+12025550100", "max_per_day": 1});
    assert_eq!(desk.patch("/v1/caller-ids", once).await.status, 200);
    // A Monday: what is left of today is of no use.
    desk.at("2026-11-23T15:00:00Z").await;
    let until = desk.until(2, &mornings(&["sat"])).await;
    assert!(soon_after(&until, "2026-12-05T14:00:00Z"), "{until}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_waits_is_said_to_be_dialed_when_its_window_is_open(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    // A Friday, half past ten in New York.
    desk.at("2026-11-27T15:30:00Z").await;
    let (opens, weekdays) = ("2026-11-30T14:00:00.000Z", ["mon", "tue", "wed", "thu", "fri"]);
    let run = desk.tried_again(0, &mornings(&weekdays), 3_600).await;
    let job = desk.jobs(run).await[0].clone();
    assert_eq!((&job["state"], &job["next_at"]), (&json!("waiting"), &json!(opens)), "Monday at nine: {job}");
    let one = desk.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await.body;
    let found = desk.get(&format!("/v1/jobs?to={}", number(0).replace('+', "%2B"))).await.body;
    let contact = desk.get(&format!("/v1/numbers/{}", number(0))).await.body;
    let told = [&one["next_at"], &found["data"][0]["next_at"], &contact["data"][0]["job"]["next_at"]];
    assert_eq!(told, [&json!(opens); 3], "{contact}");
    let why = desk.get(&format!("/v1/runs/{run}/why")).await.body;
    assert_eq!(
        (&why["blockers"][0]["code"], &why["blockers"][0]["next_at"]),
        (&json!("retry_wait"), &json!(opens)),
        "{why}"
    );
    assert_eq!(why["next_possible_at"], opens);
    let seen = desk.act(run, "preview").await.body;
    assert_eq!(
        (&seen["held_back"][0]["rule"], &seen["held_back"][0]["next_at"]),
        (&json!("retry_wait"), &json!(opens))
    );
    // A time at which it may be dialed stands.
    let run = desk.tried_again(1, &nine_to_eight(), 3_600).await;
    let job = desk.jobs(run).await[0].clone();
    assert_eq!(job["next_at"], "2026-11-27T16:30:00.000Z", "{job}");
    // Where the window is shut for good, nobody knows.
    let never = json!({"window": {"hours": [{"days": ["fri"], "from": "03:00", "to": "04:00"}], "zone": "UTC"}});
    assert_eq!(desk.patch("/v1/calling-rules", never).await.status, 200);
    let job = desk.jobs(run).await[0].clone();
    assert_eq!((&job["state"], &job["next_at"]), (&json!("waiting"), &Value::Null), "{job}");
    let why = desk.get(&format!("/v1/runs/{run}/why")).await.body;
    assert_eq!((&why["blockers"][0]["next_at"], &why["next_possible_at"]), (&Value::Null, &Value::Null), "{why}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whom_a_limit_holds_is_said_to_be_dialed_when_the_window_is_open(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-27T15:30:00Z").await;
    let caps = json!({"attempt_caps": {"per_24h": 1}});
    assert_eq!(desk.patch("/v1/calling-rules", caps).await.status, 200);
    desk.started(list(1, &nine_to_eight())).await;
    desk.dial("no_answer").await;
    let run = desk.started(list(1, &mornings(&["mon", "fri"]))).await;
    desk.by_hand("UPDATE attempt SET intent_at = '2026-11-27T15:00:00Z'").await;
    assert_eq!(desk.claim(1).await, None);
    let why = desk.get(&format!("/v1/runs/{run}/why")).await.body;
    let of_limit = why["blockers"].as_array().unwrap().iter().find(|one| one["code"] == "attempt_cap");
    let opens = json!("2026-11-30T14:00:00.000Z");
    assert_eq!(of_limit.map(|one| &one["next_at"]), Some(&opens), "{why}");
    assert_eq!(desk.jobs(run).await[0]["next_at"], opens);
}
