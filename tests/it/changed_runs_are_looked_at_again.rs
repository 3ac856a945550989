//! What is changed after it was checked is checked again, and `why` says of a run what is so.

use reqwest::Method;
use rollcall::{ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::Answer,
    campaign_rules::{nine_to_eight, one_lead},
    heartbeats_say_who_is_there::beat,
    runs_harness::{Desk, number},
};

const LATER: &str = "2026-11-30T16:00:00Z";

impl Desk {
    async fn agent(&self, greeting: &str) -> String {
        let made = self.post("/v1/agents", json!({"name": "A", "prompt": "Talk.", "greeting": greeting})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// A worker is there.
    pub(crate) async fn staffed(&self) {
        let ctx = &self.app.ctx;
        let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut ctx.stores.redis.clone()).await.unwrap();
        ctx.heartbeats.write(&beat("one", now * 1_000)).await.unwrap();
    }

    async fn preview(&self, run: RunId) -> Value {
        self.post(&format!("/v1/runs/{run}/preview"), Value::Null).await.body
    }

    async fn why(&self, run: RunId) -> Value {
        self.get(&format!("/v1/runs/{run}/why")).await.body
    }

    /// Puts or removes the calendar of the feasts.
    async fn feasts(&self, method: Method) -> u16 {
        let dates = if method == Method::PUT { json!({"dates": ["2026-12-25"]}) } else { Value::Null };
        self.app.ask(method, "/v1/calendars/feasts", &self.key, dates).await.status.as_u16()
    }

    async fn pinned(&self, run: RunId) -> Option<i32> {
        let pinned = sqlx::query_scalar!("SELECT agent_version FROM run WHERE run_id = $1", run.0);
        pinned.fetch_one(self.pg()).await.unwrap()
    }
}

fn blocker<'a>(why: &'a Value, code: &str) -> &'a Value {
    why["blockers"].as_array().unwrap().iter().find(|one| one["code"] == code).unwrap_or(&Value::Null)
}

fn codes(why: &Value) -> Vec<&str> {
    why["blockers"].as_array().unwrap().iter().map(|blocker| blocker["code"].as_str().unwrap()).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_waits_for_its_time_is_looked_at_again_when_it_is_changed(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let (first, second) = (desk.agent("Hello").await, desk.agent("Hi").await);
    let changed = desk.patch(&format!("/v1/agents/{first}"), json!({"greeting": "Ho"})).await;
    assert_eq!(changed.body["version"], 2);
    let leads = json!([{"to": number(0)}]);
    let run = desk.started(json!({"agent_id": first, "start_at": LATER, "leads": leads})).await;
    assert_eq!((desk.state(run).await.as_str(), desk.pinned(run).await), ("scheduled", Some(2)));
    let path = format!("/v1/runs/{run}");
    assert_eq!(desk.patch(&path, json!({"agent_id": second})).await.status, 200);
    assert_eq!(desk.pinned(run).await, Some(1), "the version is the other agent's");

    let lacks = desk.patch(&path, json!({"agent_id": null, "message": {"text": "Hello {{name}}"}})).await;
    assert_eq!((lacks.status.as_u16(), &lacks.body["errors"][0]["code"]), (422, &json!("missing_variable")));
    assert_eq!(desk.patch(&path, json!({"agent_id": null})).await.status, 422, "it would say nothing");
    let says = desk.patch(&path, json!({"agent_id": null, "message": {"text": "Hello"}})).await;
    assert_eq!((says.status.as_u16(), desk.pinned(run).await), (200, None), "{}", says.body);

    let now = desk.patch(&path, json!({"start_at": null})).await;
    assert_eq!((now.status.as_u16(), &now.body["state"]), (200, &json!("running")), "{}", now.body);
    assert!(desk.claim(1).await.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn leads_that_join_a_run_that_was_started_have_what_its_agent_says(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let agent = desk.agent("Hello {{name}}").await;
    let run = desk.run(json!({"agent_id": agent, "leads": [{"to": number(0), "variables": {"name": "Ada"}}]})).await;
    assert_eq!(desk.act(run, "start").await.status, 200);
    let file = format!("to,name\n{},\n{},Bo\n", number(1), number(2));
    let mut added = desk.csv(run, file).await.body;
    assert_eq!((&added["accepted"], &added["rejected"]), (&json!(2), &json!(0)), "an empty text is there: {added}");
    added = desk.csv(run, format!("to\n{}\n", number(3))).await.body;
    assert_eq!((&added["accepted"], &added["errors"][0]["code"]), (&json!(0), &json!("missing_variable")), "{added}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_went_wrong_with_a_run_since_it_was_made_stands_in_no_other_changes_way(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let agent = desk.agent("Hello").await;
    let run = desk.started(json!({"agent_id": agent, "leads": [{"to": number(0)}]})).await;
    let gone = desk.app.ask(Method::DELETE, &format!("/v1/agents/{agent}"), &desk.key, Value::Null).await;
    assert_eq!(gone.status, 204);
    let path = format!("/v1/runs/{run}");
    let slower = desk.patch(&path, json!({"max_concurrent_calls": 1})).await;
    assert_eq!((slower.status.as_u16(), &slower.body["max_concurrent_calls"]), (200, &json!(1)), "{}", slower.body);
    let wrong = desk.patch(&path, json!({"caller_ids": ["+12025550199"]})).await;
    assert_eq!((wrong.status.as_u16(), &wrong.body["errors"][0]["pointer"]), (422, &json!("/caller_ids/0")));
    assert_eq!(wrong.body["errors"].as_array().unwrap().len(), 1, "{}", wrong.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_names_a_time_only_where_all_that_stops_a_run_is_known_to_end(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    // New York: half past eight in the morning of a day to come.
    desk.at("2026-11-30T13:30:00Z").await;
    let run = desk.started(one_lead(&json!({"window": nine_to_eight(), "start_at": LATER}))).await;
    let why = desk.why(run).await;
    assert_eq!(
        (&why["dialing"], &why["next_possible_at"]),
        (&json!(false), &json!("2026-11-30T16:00:00.000Z")),
        "{why}"
    );
    assert_eq!(desk.patch(&format!("/v1/runs/{run}"), json!({"start_at": null})).await.status, 200);
    let why = desk.why(run).await;
    assert_eq!(why["next_possible_at"], "2026-11-30T14:00:00.000Z", "{why}");
    // Nothing is dialed from its end on.
    assert_eq!(desk.patch(&format!("/v1/runs/{run}"), json!({"end_at": "2026-11-30T14:00:00Z"})).await.status, 200);
    let why = desk.why(run).await;
    assert_eq!(why["next_possible_at"], Value::Null, "{why}");
    assert_eq!(desk.act(run, "pause").await.status, 200);
    let why = desk.why(run).await;
    assert_eq!((codes(&why)[0], &why["next_possible_at"]), ("run_not_running", &Value::Null), "{why}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_says_that_a_run_has_all_the_calls_that_it_may_have(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    let leads = json!([{"to": number(0)}, {"to": number(1)}]);
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "max_concurrent_calls": 1})).await;
    assert!(!codes(&desk.why(run).await).contains(&"no_slot"));
    assert!(desk.claim(1).await.is_some());
    let why = desk.why(run).await;
    assert!(codes(&why).contains(&"no_slot") && why["dialing"] == json!(false), "{why}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_preview_leaves_out_numbers_whose_window_does_not_open_before_the_end(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let window = json!({"hours": [{"days": ["sun"], "from": "09:00", "to": "10:00"}]});
    let run = desk.run(one_lead(&json!({"window": window, "end_at": "2026-11-25T00:00:00Z"}))).await;
    let preview = desk.preview(run).await;
    assert_eq!((&preview["jobs"], &preview["to_dial"]), (&json!(1), &json!(0)), "{preview}");
    let skipped = &preview["held_back"][0];
    assert_eq!(
        (&skipped["rule"], &skipped["verdict"], &skipped["count"]),
        (&json!("window_ended"), &json!("skipped"), &json!(1))
    );
    let running = desk.run(one_lead(&json!({"window": window}))).await;
    let preview = desk.preview(running).await;
    assert_eq!((&preview["to_dial"], &preview["held_back"]), (&json!(1), &json!([])), "{preview}");
}

/// A window that is open now in New York, but for the days of the calendar of the feasts.
fn but_for_feasts() -> Value {
    let mut window = nine_to_eight();
    window["calendars"] = json!(["feasts"]);
    json!({ "window": window })
}

fn unknown_calendar(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.slug(), answer.fault()),
        (422, "validation", ("/window/calendars/0", "unknown_calendar")),
        "{}",
        answer.body
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_window_that_names_a_calendar_that_is_gone_is_closed(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    desk.at("2026-11-23T15:00:00Z").await;
    assert_eq!(desk.feasts(Method::PUT).await, 200);
    let run = desk.started(one_lead(&but_for_feasts())).await;
    // Nobody can ask for that while a run names it: as if it had been removed in the moment in which the run was made.
    desk.by_hand("DELETE FROM calendar; UPDATE run SET window_version = window_version + 1").await;
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None, "nobody knows which days it had");
    let why = desk.why(run).await;
    let window = blocker(&why, "window");
    assert!(window["detail"].as_str().is_some_and(|text| text.contains("feasts")), "{why}");
    assert_eq!((&why["dialing"], &why["next_possible_at"]), (&json!(false), &Value::Null), "{why}");
    let job = desk.jobs(run).await[0]["id"].as_str().unwrap().to_owned();
    let told = desk.get(&format!("/v1/jobs/{job}")).await.body["decisions"].clone();
    assert!(told[0]["detail"].as_str().is_some_and(|text| text.contains("feasts")), "{told}");
    assert_eq!(desk.feasts(Method::PUT).await, 200);
    desk.sweep().await;
    assert!(desk.claim(1).await.is_some(), "its days are known again");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_is_not_made_again_started_or_changed_with_a_calendar_that_is_gone(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    assert_eq!(desk.feasts(Method::PUT).await, 200);
    let over = desk.started(one_lead(&but_for_feasts())).await;
    desk.dial("answered").await;
    desk.sweep().await;
    assert_eq!((desk.state(over).await.as_str(), desk.feasts(Method::DELETE).await), ("completed", 204));
    unknown_calendar(&desk.post(&format!("/v1/runs/{over}/clone"), json!({"leads": "all"})).await);

    assert_eq!(desk.feasts(Method::PUT).await, 200);
    let draft = desk.run(one_lead(&but_for_feasts())).await;
    assert_eq!(desk.feasts(Method::DELETE).await, 409, "a draft names it");
    desk.by_hand("DELETE FROM calendar").await;
    unknown_calendar(&desk.act(draft, "start").await);
    unknown_calendar(&desk.patch(&format!("/v1/runs/{draft}"), but_for_feasts()).await);
    assert_eq!(desk.patch(&format!("/v1/runs/{draft}"), json!({"window": nine_to_eight()})).await.status, 200);
    assert_eq!(desk.act(draft, "start").await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_limit_that_is_raised_lets_go_of_the_numbers_that_it_held(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    let caps = |per_24h: i32| json!({"attempt_caps": {"per_24h": per_24h}});
    assert_eq!(desk.patch("/v1/calling-rules", caps(1)).await.status, 200);
    let leads = |i: usize| json!({"message": {"text": "Hello"}, "leads": [{"to": number(i)}]});
    desk.started(leads(0)).await;
    desk.dial("no_answer").await;
    let held = desk.started(leads(0)).await;
    let mut tried = leads(1);
    tried["retry"] = json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 600}}});
    let tried = desk.started(tried).await;
    desk.dial("busy").await;
    assert_eq!(desk.claim(1).await, None);
    let waits = |run: RunId| {
        let desk = &desk;
        async move { desk.jobs(run).await[0]["state"] == "waiting" }
    };
    assert!(waits(held).await && waits(tried).await);
    assert!(codes(&desk.why(held).await).contains(&"attempt_cap"));

    desk.sweep().await;
    assert!(waits(held).await, "nothing was changed");
    assert_eq!(desk.patch("/v1/calling-rules", caps(2)).await.status, 200);
    desk.sweep().await;
    assert!(!waits(held).await && waits(tried).await, "what waits for another time goes on waiting");
    assert!(!codes(&desk.why(held).await).contains(&"attempt_cap"));
    desk.dial("busy").await;
    let again = desk.started(leads(0)).await;
    assert_eq!(desk.claim(1).await, None, "two are two");
    assert!(waits(again).await);
    assert_eq!(desk.patch("/v1/calling-rules", json!({"attempt_caps": {"per_24h": null}})).await.status, 200);
    desk.sweep().await;
    assert!(desk.claim(1).await.is_some());
    assert_eq!(desk.patch("/v1/calling-rules", caps(1)).await.status, 200);
    let reviews = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM cap_review"#).fetch_one(desk.pg()).await.unwrap();
    assert_eq!(reviews, 0, "a lower limit lets go of nobody");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_says_that_no_number_to_call_from_has_room_and_until_when(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    let run = desk.running(3).await;
    let only = |limits: Value| {
        let mut body = limits;
        body["number"] = json!("+12025550100");
        let desk = &desk;
        async move { assert_eq!(desk.patch("/v1/caller-ids", body).await.status, 200) }
    };
    only(json!({"max_at_once": 1})).await;
    assert!(!codes(&desk.why(run).await).contains(&"no_caller_id"));
    assert!(desk.claim(1).await.is_some());
    assert_eq!(desk.claim(2).await, None);
    let why = desk.why(run).await;
    assert_eq!((&why["dialing"], &blocker(&why, "no_caller_id")["next_at"]), (&json!(false), &Value::Null), "{why}");
    assert_eq!(blocker(&why, "no_caller_id")["count"], 2);

    only(json!({"max_at_once": null, "max_per_day": 1})).await;
    let why = desk.why(run).await;
    let today: chrono::NaiveDate = why["at"].as_str().unwrap()[..10].parse().unwrap();
    let midnight = json!(format!("{}T00:00:00.000Z", today.succ_opt().unwrap()));
    let says = blocker(&why, "no_caller_id");
    assert_eq!(
        (&why["dialing"], &says["next_at"], &why["next_possible_at"]),
        (&json!(false), &midnight, &midnight),
        "{why}"
    );
    only(json!({"max_per_day": 1, "enabled": false})).await;
    let why = desk.why(run).await;
    assert!(codes(&why).contains(&"no_caller_id") && blocker(&why, "no_caller_id")["next_at"].is_null(), "{why}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_advises_to_raise_a_budget_that_is_used_up_before_the_run_is_resumed(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let leads = json!([{"to": number(0)}, {"to": number(1)}]);
    let run = desk.started(json!({"message": {"text": "Hello"}, "leads": leads, "budget": {"max_attempts": 1}})).await;
    desk.dial("answered").await;
    desk.sweep().await;
    let advice = |why: Value| blocker(&why, "budget")["detail"].as_str().unwrap_or_default().to_owned();
    let told = advice(desk.why(run).await);
    assert!(told.contains("used up") && told.contains("PATCH") && told.contains("resume"), "{told}");
    assert_eq!(desk.patch(&format!("/v1/runs/{run}"), json!({"budget": {"max_attempts": 2}})).await.status, 200);
    let told = advice(desk.why(run).await);
    assert!(!told.contains("used up") && told.contains("resume"), "it was raised: {told}");
}
