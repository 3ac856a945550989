//! I11 by the carrier's log: days with a turned clock, in steps, over numbers whose zones change theirs.

use chrono::{DateTime, Duration, NaiveTime, Utc};
use chrono_tz::Tz;
use reqwest::Method;
use rollcall::{
    attempts::queued,
    dialing::{
        next::{Owner, next},
        sweep,
    },
    ids::BusinessId,
    sim,
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    campaign_rules::set_wall_clock,
    house::{House, Options},
    runs_harness::{Desk, event, number},
    single_calls_go_first::ask,
    single_job_and_queue_limits::STAYS_QUEUED,
};

/// A step of the turned clock. Zones are off from UTC by multiples of a quarter of an hour.
const STEP_MINUTES: i64 = 30;
/// Of a call that is dialed at a moment, the phone rings no later than this: carrier's queue, acceptance, ring time.
const MARGIN_SECS: i64 = 30 + 15 + 30;

/// Whom to call: the number without its last four digits, and the zone that the list names.
const LEADS: [(&str, Option<&str>); 8] = [
    ("+1212555", None),
    // Between Boise and Los Angeles.
    ("+1208555", None),
    ("+91982001", None),
    ("+1650555", Some("Australia/Lord_Howe")),
    ("+1713555", Some("America/St_Johns")),
    ("+1305555", Some("Europe/London")),
    ("+1404555", Some("Asia/Kathmandu")),
    ("+1303555", Some("Africa/Casablanca")),
];

struct Trial {
    house: House,
    business: BusinessId,
    run: String,
    owner: Owner,
    hours: (NaiveTime, NaiveTime),
    /// Possible zones of each kind of lead, as the product tells them.
    zones: Vec<Vec<Tz>>,
    seen: usize,
    rung: [usize; LEADS.len()],
}

impl Trial {
    async fn of(from: &str, to: &str) -> Self {
        let house = House::open(Options { sim: Some(sim::Config::quick()), ..Options::default() }).await;
        house.ctx.gate.open().await.unwrap();
        let business = house.business(200).await;
        let every_day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let body = json!({
            "name": "Trial", "message": {"text": "Hello"}, "ring_timeout_secs": 30,
            "window": {"hours": [{"days": every_day, "from": from, "to": to}]},
        });
        let (status, made) = ask(&house, business, Method::POST, "/v1/runs", Some(body)).await;
        assert_eq!(status, 201, "{made}");
        let run = made["id"].as_str().unwrap().to_owned();
        let owner = Owner::new("by hand", CancellationToken::new());
        let hours = (from.parse().unwrap(), to.parse().unwrap());
        Self { house, business, run, owner, hours, zones: Vec::new(), seen: 0, rung: [0; LEADS.len()] }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = ask(&self.house, self.business, method, path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// One more lead of each kind.
    async fn upload(&self, n: usize) {
        let lead =
            |(prefix, zone): &(&str, Option<&str>)| json!({"to": format!("{prefix}{:04}", 100 + n), "time_zone": zone});
        let leads: Vec<_> = LEADS.iter().map(lead).collect();
        let path = format!("/v1/runs/{}/leads", self.run);
        let told = self.ask(Method::POST, &path, Some(json!(leads))).await;
        assert_eq!(told["accepted"], LEADS.len(), "{told}");
    }

    async fn read_zones(&mut self) {
        for (prefix, zone) in LEADS {
            let job = self
                .ask(Method::GET, &format!("/v1/jobs?to={}", format!("{prefix}0100").replace('+', "%2B")), None)
                .await;
            let zones: Vec<Tz> = job["data"][0]["time_zones"]
                .as_array()
                .unwrap()
                .iter()
                .map(|z| z.as_str().unwrap().parse().unwrap())
                .collect();
            assert!(
                !zones.is_empty() && zone.is_none_or(|zone| zones == [zone.parse::<Tz>().unwrap()]),
                "{prefix}: {zones:?}"
            );
            self.zones.push(zones);
        }
        assert!(self.zones[1].len() > 1, "{:?}", self.zones[1]);
    }

    /// What the worker does at this moment; every number that the carrier was asked to ring must be within its hours.
    async fn step(&mut self, moment: DateTime<Utc>) {
        let ctx = &self.house.ctx;
        set_wall_clock(&ctx.stores.pg, &moment.to_rfc3339()).await;
        assert!(sweep::round(ctx).await);
        next(ctx, &self.owner, self.business).await.unwrap();
        let all = || async { self.owner.sends.is_empty() && self.house.open_attempts().await == 0 };
        self.house.until("every call of the step has ended", all).await;
        let calls = self.house.sim.calls();
        for call in &calls[self.seen..] {
            let kind = LEADS.iter().position(|(prefix, _)| call.to.starts_with(prefix)).unwrap();
            self.rung[kind] += 1;
            for zone in &self.zones[kind] {
                for at in [moment, moment + Duration::seconds(MARGIN_SECS)] {
                    let there = at.with_timezone(zone).time();
                    assert!(self.hours.0 <= there && there < self.hours.1, "{} may ring at {there} in {zone}", call.to);
                }
            }
        }
        self.seen = calls.len();
    }
}

async fn of_days(from: &str, to: &str, begin: &str, hours: i64) {
    let mut trial = Trial::of(from, to).await;
    let begin: DateTime<Utc> = begin.parse().unwrap();
    set_wall_clock(&trial.house.ctx.stores.pg, begin.to_rfc3339().as_str()).await;
    trial.upload(0).await;
    trial.read_zones().await;
    trial.ask(Method::POST, &format!("/v1/runs/{}/start", trial.run), None).await;
    for n in 0..hours * 60 / STEP_MINUTES {
        if n > 0 && n % 4 == 0 {
            trial.upload(usize::try_from(n).unwrap()).await;
        }
        trial.step(begin + Duration::minutes(n * STEP_MINUTES)).await;
    }
    // A day has each hour once: nobody was left out, and everybody waited for at least one step.
    assert!(trial.rung.iter().all(|rung| *rung >= 4), "{:?}", trial.rung);
    trial.house.stop_dialing(trial.run.parse().unwrap()).await;
    trial.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_new_york_puts_its_clocks_forward() {
    of_days("01:30", "08:00", "2026-03-07T18:00:00Z", 28).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_lord_howe_puts_them_back_by_half_an_hour() {
    of_days("01:45", "09:15", "2026-04-04T02:00:00Z", 28).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_london_and_new_york_put_them_back_a_week_apart() {
    of_days("00:30", "01:45", "2026-10-24T16:00:00Z", 28).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_in_the_carriers_queue_when_its_window_closes_never_rings() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    // A Sunday.
    set_wall_clock(&house.ctx.stores.pg, "2026-11-22T12:00:00Z").await;
    let on = |day: &str| json!({"hours": [{"days": [day], "from": "09:00", "to": "20:00"}]});
    let run = json!({
        "name": "Sunday", "message": {"text": "Hello"}, "window": on("sun"),
        "leads": [{"to": STAYS_QUEUED, "time_zone": "Europe/London"}],
    });
    let (_, run) = ask(&house, business, Method::POST, "/v1/runs", Some(run)).await;
    let path = format!("/v1/runs/{}", run["id"].as_str().unwrap());
    assert_eq!(ask(&house, business, Method::POST, &format!("{path}/start"), None).await.0, 200);
    house.until("it waits in the carrier's queue", || async { house.attempts_in("placed").await == 1 }).await;
    let monday = json!({"window": on("mon")});
    assert_eq!(ask(&house, business, Method::PATCH, &path, Some(monday)).await.0, 200);
    let run = run["id"].as_str().unwrap().parse().unwrap();
    house.until("its job is back", || async { house.jobs_in(run, "queued").await == 1 }).await;
    let call = house.only_call(STAYS_QUEUED);
    assert_eq!((call.status, call.heard.len()), (sim::Status::Canceled, 0));
    house.stop_dialing(run).await;
    house.close().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_is_dialed_so_late_that_it_would_ring_past_the_time_that_their_lead_names(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let lead = json!({"to": number(0), "not_after": "2026-11-23T16:00:00Z"});
    let body = json!({"message": {"text": "Hello"}, "ring_timeout_secs": 30, "leads": [lead]});
    let [first, second] = [desk.started(body.clone()).await, desk.started(body).await];
    desk.at("2026-11-23T15:58:44Z").await;
    let attempt =
        desk.claim(1).await.expect("there is time to be accepted, to wait in the carrier's queue and to ring");
    event(desk.pg(), desk.business, attempt, "placed", None).await;
    let leaves_queue = async || !queued::stuck(desk.pg(), 10, (3_600_000, 0), (&[], &[])).await.unwrap().is_empty();
    desk.at("2026-11-23T15:59:29Z").await;
    assert!(!leaves_queue().await, "it may ring for half a minute");
    desk.at("2026-11-23T15:59:30Z").await;
    assert!(leaves_queue().await, "it would ring beyond it");
    event(desk.pg(), desk.business, attempt, "ended", Some("busy")).await;
    assert_eq!(desk.state(first).await, "completed");

    desk.at("2026-11-23T15:58:45Z").await;
    assert_eq!(desk.claim(1).await, None);
    let job = &desk.jobs(second).await[0];
    assert_eq!((&job["state"], &job["reason"]), (&json!("skipped"), &json!("expired")), "{job}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_whose_time_passes_while_its_window_is_closed_is_over_and_so_is_its_run(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T16:00:00Z").await;
    let saturdays = json!({"hours": [{"days": ["sat"], "from": "09:00", "to": "20:00"}]});
    let lead = json!({"to": number(0), "not_after": "2026-11-23T16:30:00Z"});
    let run = desk.started(json!({"message": {"text": "Hello"}, "window": saturdays, "leads": [lead]})).await;
    desk.sweep().await;
    assert_eq!((desk.state(run).await.as_str(), desk.claim(1).await), ("running", None), "a Monday");
    desk.at("2026-11-23T16:30:00Z").await;
    desk.sweep().await;
    let job = &desk.jobs(run).await[0];
    assert_eq!((&job["state"], &job["reason"]), (&json!("skipped"), &json!("expired")), "{job}");
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_and_the_preview_look_at_the_window_and_at_the_times_of_a_lead_together(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.staffed().await;
    desk.at("2026-11-23T16:00:00Z").await;
    let on = |day: &str| json!({"hours": [{"days": [day], "from": "09:00", "to": "20:00"}]});
    let next = async |run| desk.get(&format!("/v1/runs/{run}/why")).await.body["next_possible_at"].clone();
    let march = |n| json!({"to": number(n), "not_before": "2027-03-10T12:00:00Z"});
    let of = |n, day| json!({"message": {"text": "Hello"}, "window": on(day), "leads": [march(n)]});
    let (saturday, monday) = (desk.started(of(0, "sat")).await, desk.started(of(1, "mon")).await);
    desk.sweep().await;
    assert_eq!(desk.claim(1).await, None);
    assert_eq!(next(saturday).await, "2027-03-13T14:00:00.000Z", "a Saturday, nine in New York");
    assert_eq!(next(monday).await, "2027-03-15T13:00:00.000Z", "a Monday, an hour earlier by then");
    let early = json!({"to": number(2), "not_after": "2026-11-24T12:00:00Z"});
    let run = desk.run(json!({"message": {"text": "Hello"}, "window": on("sat"), "leads": [early]})).await;
    let preview = desk.post(&format!("/v1/runs/{run}/preview"), Value::Null).await.body;
    assert_eq!((&preview["to_dial"], &preview["held_back"][0]["rule"]), (&json!(0), &json!("expired")), "{preview}");
}
