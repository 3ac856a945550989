//! `eta` is counted from the pace of calls while they are dialed: neither pauses nor closed windows are in it, and it is null where
//! nothing may be dialed.

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::{ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    campaign_rules::nine_to_eight,
    runs_harness::{Desk, number},
};

/// Half past ten in New York.
const MORNING: &str = "2026-11-24T15:30:00Z";

fn leads(n: usize, extra: &Value) -> Value {
    let mut body = extra.clone();
    let lead = |i: usize| json!({"to": number(i), "time_zone": "America/New_York"});
    body["message"] = json!({"text": "Hello"});
    body["leads"] = (0..n).map(lead).collect();
    body
}

impl Desk {
    async fn ends(&self, n: usize) {
        for _ in 0..n {
            self.dial("answered").await;
        }
    }

    async fn eta(&self, run: RunId) -> Option<DateTime<Utc>> {
        let shown = self.get(&format!("/v1/runs/{run}")).await.body;
        let eta = shown["progress"]["eta"].as_str()?;
        Some(eta.parse().unwrap())
    }

    /// The run was started `hours` ago, and paused until `secs` ago.
    async fn was_paused(&self, run: RunId, hours: i32, secs: i32) {
        self.by_hand(&format!(
            "UPDATE run SET started_at = clock_timestamp() - interval '{hours} h',
                 guarded_from = clock_timestamp() - interval '{secs} s' WHERE run_id = '{run}'"
        ))
        .await;
    }
}

fn at(moment: &str) -> DateTime<Utc> {
    moment.parse().unwrap()
}

/// Within a minute, which is what a loaded machine may take for a test.
fn about(eta: Option<DateTime<Utc>>, wanted: DateTime<Utc>) -> bool {
    eta.is_some_and(|eta| (eta - wanted).abs() < TimeDelta::minutes(1))
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_pause_is_in_no_pace_and_while_it_lasts_nothing_is_said(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at(MORNING).await;
    let run = desk.started(leads(40, &json!({}))).await;
    desk.ends(10).await;
    // Ten hours of pause, and then ten calls in a hundred seconds.
    desk.was_paused(run, 10, 100).await;
    let eta = desk.eta(run).await;
    assert!(about(eta, at(MORNING) + TimeDelta::seconds(300)), "{eta:?}");
    assert_eq!(desk.act(run, "pause").await.status, 200);
    assert_eq!(desk.eta(run).await, None);
    assert_eq!(desk.act(run, "resume").await.status, 200);
    assert_eq!(desk.eta(run).await, None, "nothing has ended since");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_night_is_in_no_pace_and_while_it_lasts_nothing_is_said(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at(MORNING).await;
    let run = desk.started(leads(40, &json!({ "window": nine_to_eight() }))).await;
    desk.ends(12).await;
    // Since yesterday: the window opened one and a half hours ago.
    desk.was_paused(run, 24, 24 * 3_600).await;
    let eta = desk.eta(run).await;
    assert!(about(eta, at(MORNING) + TimeDelta::minutes(90 * 28 / 12)), "{eta:?}");
    desk.at("2026-11-25T01:30:00Z").await;
    desk.sweep().await;
    assert_eq!(desk.eta(run).await, None, "the window is closed");
    desk.at("2026-11-25T14:00:00Z").await;
    desk.sweep().await;
    assert_eq!(desk.eta(run).await, None, "it has just opened");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_left_at_the_closing_is_over_on_the_next_day(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-25T00:50:00Z").await;
    let run = desk.started(leads(40, &json!({ "window": nine_to_eight() }))).await;
    desk.ends(10).await;
    desk.was_paused(run, 1, 600).await;
    // Half an hour of calls, and eight o'clock is in less than ten minutes.
    let eta = desk.eta(run).await.unwrap();
    assert!(eta > at("2026-11-25T14:20:00Z") && eta < at("2026-11-25T14:25:00Z"), "{eta}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_left_on_a_friday_is_over_on_monday_where_weekends_have_no_calls(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-28T00:50:00Z").await;
    let window = json!({"hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "20:00"}]});
    let run = desk.started(leads(40, &json!({ "window": window }))).await;
    desk.ends(10).await;
    desk.was_paused(run, 1, 600).await;
    let eta = desk.eta(run).await.unwrap();
    assert!(eta > at("2026-11-30T14:20:00Z") && eta < at("2026-11-30T14:25:00Z"), "{eta}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retry_that_falls_into_the_night_is_not_over_before_the_morning(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at(MORNING).await;
    let retry = json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 36_000, "jitter_pct": 0}}});
    let run = desk.started(leads(14, &json!({ "retry": retry, "window": nine_to_eight() }))).await;
    desk.ends(10).await;
    desk.dial("busy").await;
    assert_eq!(desk.eta(run).await, Some(at("2026-11-25T14:00:00Z")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_waits_for_a_retry_or_a_morning_is_not_said_to_be_called_before(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at(MORNING).await;
    let retry = json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 36_000, "jitter_pct": 0}}});
    let run = desk.started(leads(14, &json!({ "retry": retry }))).await;
    desk.ends(10).await;
    desk.dial("busy").await;
    assert_eq!(desk.eta(run).await, Some(at(MORNING) + TimeDelta::hours(10)));
    desk.ends(3).await;
    assert_eq!(desk.eta(run).await, None, "all that is left waits");
    // Los Angeles wakes up at five in the afternoon.
    let mut body = leads(12, &json!({ "window": nine_to_eight() }));
    body["leads"].as_array_mut().unwrap().push(json!({"to": number(20), "time_zone": "America/Los_Angeles"}));
    let run = desk.started(body).await;
    desk.ends(11).await;
    assert_eq!(desk.eta(run).await, Some(at("2026-11-24T17:00:00Z")));
    desk.ends(1).await;
    assert_eq!(desk.eta(run).await, None, "all that is left sleeps");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nothing_is_said_while_no_account_takes_calls(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(20).await;
    desk.ends(10).await;
    assert!(desk.eta(run).await.is_some());
    desk.by_hand("UPDATE carrier_account SET hold_until = clock_timestamp() + interval '1 h'").await;
    assert_eq!(desk.eta(run).await, None);
}
