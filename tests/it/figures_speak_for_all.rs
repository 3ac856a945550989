//! What an engineer watches Rollcall with: `/status`, `/dashboard` and `/metrics` of real programs, against the stores.

use std::collections::BTreeSet;

use regex::Regex;
use rollcall::{
    config::Role,
    heartbeats::Beat,
    ids::{AttemptId, BusinessId, Carrier, Held},
    ops::{
        children::Stop,
        private::{Durability, PrivateStores, REDIS},
    },
    sim::{self, Millis},
    stores::MIGRATOR,
};
use serde_json::{Value, json};

use crate::{
    by_hand::{AUTH_TOKEN, client},
    calls_that_come_in::Street,
    heartbeats_say_who_is_there::beat,
    house::{House, Options, Urls, numbers},
    processes::{Door, Process},
    telnyx_house::{SEED, now_secs},
};

/// What an admin listener answers.
async fn asked(process: &Process, path: &str) -> String {
    let url = format!("http://{}/{path}", process.addr("admin").await);
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.unwrap()
}

async fn json(process: &Process, path: &str) -> Value {
    serde_json::from_str(&asked(process, path).await).unwrap()
}

/// The sum over every series of this name whose labels contain all of `labels`.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
    series
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// What became of calls that nothing was free for, as `/metrics` says: spoken, redirected, rejected.
async fn turned_away(process: &Process) -> [f64; 3] {
    let metrics = asked(process, "metrics").await;
    let done = |how: &str| sum(&metrics, "rollcall_calls_rejected_total", &[&format!("done=\"{how}\"")]);
    ["spoken", "redirected", "rejected"].map(done)
}

/// A carrier whose calls last until they are hung up.
fn long_calls() -> sim::Config {
    sim::Config {
        shares: sim::Shares::all(sim::Outcome::Answered),
        talk_ms: Millis::exactly(600_000),
        ..sim::Config::quick()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_says_what_the_stores_say_whichever_process_is_asked() {
    let mut house = House::open(Options { sim: Some(long_calls()), ..Options::default() }).await;
    let (api, worker) = (house.api(None).await, house.worker().await);
    let business = house.business(3).await;
    let run = house.started(business, &numbers(40)).await;
    house.until("three calls are up", || async { house.attempts_in("answered").await == 3 }).await;
    let mut seen = Vec::new();
    for process in [&api, &worker] {
        house
            .until("both processes beat", || async {
                json(process, "dashboard").await["resources"]["processes"].as_array().is_some_and(|all| all.len() == 2)
            })
            .await;
        let mut board = json(process, "dashboard").await;
        let sections: Vec<&String> = board.as_object().unwrap().keys().collect();
        assert_eq!(sections, ["calls", "queue", "resources", "runs", "system", "workers"]);
        assert_eq!(board["system"]["stores"], json!({"postgres": true, "redis": true}));
        assert_eq!(board["system"]["gate_drift"], 0);
        assert_eq!((&board["workers"]["total_workers"], &board["workers"]["ready_workers"]), (&json!(1), &json!(1)));
        assert_eq!(board["runs"], json!({"states": {"running": 1}, "businesses_with_work": 1}));
        assert_eq!(
            board["calls"]["lines"],
            json!({"open": 3, "limit": 50, "waiting_businesses": 0, "longest_wait_ms": null})
        );
        assert_eq!(board["queue"]["jobs_queued"], 37);
        for (section, name) in [("resources", "memory_percent"), ("workers", "data"), ("queue", "session_queue_length")]
        {
            assert!(!board[section][name].is_null(), "{section}.{name}: {board}");
        }
        let status = json(process, "status").await;
        assert_eq!((&status["total_workers"], &status["total_sessions"]), (&json!(1), &json!(3)), "{status}");
        let pool = json(process, "status/workers").await;
        assert_eq!((pool["data"].as_array().unwrap().len(), &pool["calls_programs"]), (1, &json!([])), "{pool}");
        assert_eq!((&status["workers_wanted"], &pool["workers_wanted"]), (&json!(1), &json!(1)), "a number, always");
        let metrics = asked(process, "metrics").await;
        for name in ["total_workers", "ready_workers", "total_sessions"] {
            assert_eq!(sum(&metrics, name, &[]), status[name].as_f64().unwrap(), "{name}");
        }
        for name in ["session_queue_length", "memory_percent", "cpu_percent"] {
            let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
            // How busy a machine is is known from its second beat on.
            assert!(line.is_some_and(|line| name == "cpu_percent" || !line.ends_with("NaN")), "{name}: {line:?}");
        }
        seen.push((board["calls"].take(), board["runs"].take()));
    }
    assert_eq!(seen[0], seen[1]);
    house.act(business, run, "cancel").await;
    house.until_run_is(run, "cancelled").await;
    house.stop_workers().await;
    house.close_with([api, worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_models_of_all_calls_programs_are_shown_whichever_process_is_asked() {
    let house = House::open(Options::default()).await;
    let api = house.api(None).await;
    let mut redis = house.ctx.stores.redis.clone();
    let (secs, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
    let used = |account: &str, in_flight: usize, p99_ms: u64| {
        json!({
            "provider": "openai", "account": account, "in_flight": in_flight, "permits": 5, "answers": 10, "p50_ms": null,
            "p99_ms": p99_ms, "refused": 1, "failed": 0,
        })
    };
    let says = async |name: &str, ago_secs: u64, data: Value| {
        let models = json!({ "data": data, "voice_activity": {"name": "earshot", "shared": false} });
        let beat = Beat { role: Role::Calls, models: Some(models), ..beat(name, (secs - ago_secs) * 1_000) };
        house.ctx.heartbeats.write(&beat).await.unwrap();
    };
    says("calls-1", 0, json!([used("a", 2, 700), used("b", 1, 50)])).await;
    says("calls-2", 1, json!([used("a", 3, 900)])).await;
    says("calls-dead", 120, json!([used("a", 4, 9_000)])).await;
    let models = json(&api, "status/models").await;
    let of = |n: usize| {
        let account = &models["data"][n];
        ["account", "in_flight", "permits", "answers", "p99_ms", "replicas"].map(|field| account[field].clone())
    };
    assert_eq!(of(0), [json!("a"), json!(5), json!(5), json!(20), json!(900), json!(2)], "{models}");
    assert_eq!(of(1), [json!("b"), json!(1), json!(5), json!(10), json!(50), json!(1)], "{models}");
    let names: Vec<&Value> = models["replicas"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["calls-1", "calls-2"]);
    assert_eq!(models["replicas"][0]["voice_activity"]["name"], "earshot");
    let pool = json(&api, "status/workers").await;
    let seen: Vec<_> =
        pool["calls_programs"].as_array().unwrap().iter().map(|one| (&one["name"], &one["state"])).collect();
    assert_eq!(seen.len(), 3, "{pool}");
    assert!(seen.contains(&(&json!("calls-dead"), &json!("stale"))), "{pool}");
    assert_eq!(pool["total_workers"], 0, "they do not dial");
    let stale = async |role: &str| sum(&asked(&api, "metrics").await, "rollcall_processes_stale", &[role]);
    house.until("the dead one is counted", || async { stale("role=\"calls\"").await == 1.0 }).await;
    assert_eq!((stale("role=\"api\"").await, stale("role=\"worker\"").await), (0.0, 0.0));
    let dashboard = json(&api, "dashboard").await;
    assert!(dashboard["system"]["alarms"].to_string().contains("missed_heartbeats"), "{dashboard}");
    house.close_with([api]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_histogram_counts_one_per_call_and_a_closing_counts_once() {
    const CALLS: usize = 30;
    let mut house = House::open(Options::default()).await;
    let door = Door::open().await;
    house.call_back_at(door.addr);
    let (api, worker) = (house.api(None).await, house.worker().await);
    door.leads_to(&[&api]).await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(CALLS)).await;
    house.until_run_is(run, "completed").await;
    house.until("nothing is held", || async { house.ctx.gate.holders().await.unwrap().is_empty() }).await;
    let (of_api, of_worker) = (asked(&api, "metrics").await, asked(&worker, "metrics").await);
    let both = |name: &str, labels: &[&str]| sum(&of_api, name, labels) + sum(&of_worker, name, labels);
    let calls = CALLS as f64;
    let placed = ["carrier=\"twilio\"", "request=\"dial\"", "outcome=\"placed\""];
    assert_eq!(both("rollcall_carrier_request_seconds_count", &placed), calls);
    let long = [placed[0], placed[1], placed[2], "le=\"15\""];
    assert_eq!(both("rollcall_carrier_request_seconds_bucket", &long), calls);
    assert_eq!(both("rollcall_bell_to_post_seconds_count", &[]), calls);
    assert_eq!(both("rollcall_calls_placed_total", &[]), calls);
    assert_eq!(both("rollcall_calls_ended_total", &[]), calls);
    assert_eq!(both("rollcall_calls_ended_total", &["disposition=\"answered\""]), calls);
    assert_eq!(sum(&of_api, "rollcall_webhook_apply_seconds_count", &["kind=\"answer\""]), calls);
    assert!(sum(&of_api, "rollcall_webhook_apply_seconds_count", &["kind=\"status\""]) >= calls);
    // The first calls of a run follow no other; the rest take slots that were freed for them.
    let turned = both("rollcall_slot_turnaround_seconds_count", &[]);
    assert!((1.0..=calls - 3.0).contains(&turned), "{turned}");
    let forged = client().post(format!("http://{}/webhooks/twilio/status/nobody", door.addr)).send().await.unwrap();
    assert_eq!(forged.status(), 403);
    let refused = sum(&asked(&api, "metrics").await, "rollcall_webhooks_refused_total", &["reason=\"token\""]);
    assert_eq!(refused, 1.0);
    house.close_with([api, worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nothing_is_free_for_counts_as_what_was_done_with_it() {
    let mut street = Street::open(Carrier::Telnyx, 1).await;
    let door = Door::open().await;
    street.house.call_back_at(door.addr);
    let api = street.house.api(None).await;
    door.leads_to(&[&api]).await;
    assert_eq!(turned_away(&api).await, [0.0; 3], "there from the start");
    let (said, desk) = (Some("All our lines are busy."), Some("+12125550188"));
    let cases = [(said, None, [1.0, 0.0, 0.0]), (said, desk, [1.0, 1.0, 0.0]), (None, None, [1.0, 1.0, 1.0])];
    for (at, (fallback, redirect, counted)) in cases.into_iter().enumerate() {
        street.answers(fallback, redirect).await;
        // No calls program is there: nobody could talk.
        for _ in 0..2 {
            let body = street.rings(&format!("v3:call-{at}")).to_string();
            let timestamp = now_secs().to_string();
            let request = client()
                .post(format!("http://{}{}", door.addr, street.path()))
                .header("Telnyx-Signature-Ed25519", sim::sign_telnyx(&SEED, &timestamp, body.as_bytes()))
                .header("Telnyx-Timestamp", timestamp);
            assert_eq!(request.body(body).send().await.unwrap().status(), 200);
        }
        assert_eq!(turned_away(&api).await, counted, "once, though it was told twice");
    }
    street.house.close_with([api]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_stand_free_while_jobs_are_due_are_counted_in_seconds() {
    let house = House::open(Options { sim: Some(long_calls()), ..Options::default() }).await;
    let worker = house.worker().await;
    let idle = async || sum(&asked(&worker, "metrics").await, "rollcall_idle_slot_seconds_total", &[]);
    let business = BusinessId::new();
    // A call in a hundred seconds: one is dialed, and four slots wait for the pace.
    let account = format!("AC{}", business.0.simple());
    house.business_with(business, 5, &account, AUTH_TOKEN, 0.01).await;
    let run = house.started(business, &numbers(3)).await;
    house.until("the first call is up", || async { house.attempts_in("answered").await == 1 }).await;
    let before = idle().await;
    house.until("four slots were idle for a second", || async { idle().await >= before + 4.0 }).await;
    house.act(business, run, "cancel").await;
    house.until_run_is(run, "cancelled").await;
    house.close_with([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_shows_the_same_levels_and_no_label_names_anybody() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.run(business, &numbers(1)).await;
    // Before a worker is there that would claim it, and not due for a look: what is read here is nobody else's to change.
    let doubtful = house.claim_at(business, 1, 1).await;
    sqlx::query!(
        "UPDATE attempt SET state = 'unknown', intent_at = clock_timestamp() - interval '10 minutes',
             next_look_at = clock_timestamp() + interval '10 minutes' WHERE attempt_id = $1",
        doubtful.0
    )
    .execute(&house.ctx.stores.pg)
    .await
    .unwrap();
    sqlx::query!("UPDATE carrier_account SET health = 'refused'").execute(&house.ctx.stores.pg).await.unwrap();
    let (api, worker) = (house.api(None).await, house.worker().await);
    house
        .until("the worker is seen, and has swept", || async {
            let metrics = asked(&api, "metrics").await;
            sum(&metrics, "rollcall_workers_alive", &[]) == 1.0
                && sum(&metrics, "rollcall_sweep_age_seconds", &[]) < 1.5
        })
        .await;
    let (of_api, of_worker) = (asked(&api, "metrics").await, asked(&worker, "metrics").await);
    let id = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-|\\+[0-9]{7}|AC[0-9a-f]{32}").unwrap();
    for metrics in [&of_api, &of_worker] {
        assert_eq!(sum(metrics, "rollcall_attempts_open", &[]), 1.0);
        assert_eq!(sum(metrics, "rollcall_workers_alive", &[]), 1.0);
        assert_eq!(sum(metrics, "rollcall_accounts_not_ok", &["health=\"refused\""]), 1.0);
        assert_eq!(sum(metrics, "rollcall_store_up", &[]), 2.0);
        let oldest = sum(metrics, "rollcall_unknown_oldest_seconds", &[]);
        assert!((600.0..700.0).contains(&oldest), "{oldest}");
        assert_eq!(metrics.lines().find(|line| id.is_match(line)), None);
        let one = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.contains("_bucket{");
        let series = metrics.lines().filter(one).count();
        assert!(series < 130, "{series} series besides buckets");
    }
    let board = json(&api, "dashboard").await;
    let alarms: Vec<&str> =
        board["system"]["alarms"].as_array().unwrap().iter().filter_map(|a| a["name"].as_str()).collect();
    for name in ["unknown_oldest_ms", "accounts_refused"] {
        assert!(alarms.contains(&name), "{name} is no alarm: {alarms:?}");
    }
    worker.kill().await;
    house
        .until("nobody sweeps, and it shows", || async {
            sum(&asked(&api, "metrics").await, "rollcall_sweep_age_seconds", &[]) > 2.5
        })
        .await;
    sqlx::query!("UPDATE carrier_account SET health = 'ok'").execute(&house.ctx.stores.pg).await.unwrap();
    sqlx::query!("UPDATE attempt SET next_look_at = clock_timestamp()").execute(&house.ctx.stores.pg).await.unwrap();
    let worker = house.worker().await;
    house.close_with([api, worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_nobody_stands_behind_shows_as_drift() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let size = async || rollcall::dialing::gate::drift(&house.ctx).await.unwrap().size();
    house.ctx.gate.open().await.unwrap();
    let stray = Held { attempt: AttemptId::new(), slot: 1, line: 1 };
    house.ctx.gate.hold(business, stray, None).await.unwrap();
    assert_eq!(size().await, 0, "what is young may be on its way");
    house.until("it has settled", || async { size().await == 1 }).await;

    house.run(business, &numbers(1)).await;
    let unheld = house.claim_at(business, 2, 2).await;
    house.until("so has an attempt without a holder", || async { size().await == 2 }).await;
    let drift = rollcall::dialing::gate::drift(&house.ctx).await.unwrap();
    assert_eq!((drift.holders_too_many, drift.holders_missing), (vec![stray.attempt], vec![unheld]));
    rollcall::dialing::gate::correct(&house.ctx).await.unwrap();
    assert_eq!(size().await, 0);
    rollcall::dialing::send::not_sent(&house.ctx, unheld, "the test is over").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_answers_while_redis_is_away() {
    let mut stores = PrivateStores::start(Durability::Scratch).await.unwrap();
    stores.migrate(&MIGRATOR).await.unwrap();
    let urls = Urls { database: stores.database_url(), redis: stores.redis_url() };
    let house = House::open(Options { stores: Some(urls), ..Options::default() }).await;
    let api = house.api(None).await;
    assert_eq!(json(&api, "dashboard").await["system"]["stores"], json!({"postgres": true, "redis": true}));
    stores.children().stop(REDIS, Stop::Terminate).await.unwrap();
    let board = json(&api, "dashboard").await;
    assert_eq!(board["system"]["stores"], json!({"postgres": true, "redis": false}));
    assert_eq!((&board["system"]["status"], &board["workers"]), (&json!("degraded"), &Value::Null));
    assert_eq!(board["system"]["alarms"][0]["name"], "redis_up", "{board:#}");
    assert_eq!(board["calls"]["total_sessions"], 0);
    let metrics = asked(&api, "metrics").await;
    assert_eq!(sum(&metrics, "rollcall_store_up", &["store=\"redis\""]), 0.0);
    assert!(sum(&metrics, "rollcall_workers_alive", &[]).is_nan(), "what cannot be read is no number");
    stores.start_redis().await.unwrap();
    house
        .until("Redis is back", || async { json(&api, "dashboard").await["system"]["stores"]["redis"] == json!(true) })
        .await;
    house.until("this process is connected anew", || async { house.ctx.gate.open().await.is_ok() }).await;
    house.close_with([api]).await;
}

/// Names of figures in a text, without the endings that a histogram adds.
fn figures_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new("rollcall_[a-z_]+").unwrap();
    name.find_iter(text)
        .map(|found| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| found.as_str().strip_suffix(end));
            base.filter(|base| base.ends_with("_seconds")).unwrap_or(found.as_str()).to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_the_grafana_dashboard_use_only_figures_that_are_exported() {
    let house = House::open(Options::default()).await;
    let (api, worker) = (house.api(None).await, house.worker().await);
    house
        .until("the worker's second heartbeat is in", || async {
            asked(&worker, "metrics").await.contains("rollcall_machine_memory_percent ")
        })
        .await;
    let shown = asked(&api, "metrics").await + &asked(&worker, "metrics").await;
    let samples: String = shown.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let exported = figures_in(&samples);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/");
    for file in ["prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/rollcall.json"] {
        let text = std::fs::read_to_string(format!("{root}{file}")).unwrap();
        let used = figures_in(&text);
        assert!(used.len() > 5, "{file} uses {used:?}");
        let missing: Vec<_> = used.difference(&exported).collect();
        assert!(missing.is_empty(), "{file} uses what nobody exports: {missing:?}");
    }
    house.close_with([api, worker]).await;
}

/// What each alert is tested with, in `alerts_test.yml`: a case in which it fires and one in which it does not.
#[test]
fn every_alert_has_a_case_that_fires_one_that_does_not_and_a_place_in_the_runbook() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (rules, cases, runbook) =
        (read("deploy/prometheus/alerts.yml"), read("deploy/prometheus/alerts_test.yml"), read("RUNBOOK.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    let name = Regex::new(r"alertname: (\w+)\s*\n\s*exp_alerts:( \[\])?").unwrap();
    for alert in alerts {
        let mut found = name.captures_iter(&cases).filter(|case| &case[1] == alert).map(|case| case.get(2).is_some());
        let quiet: Vec<bool> = found.by_ref().collect();
        assert!(quiet.contains(&true) && quiet.contains(&false), "{alert} has these cases only: {quiet:?}");
        assert!(runbook.contains(&format!("### {alert}\n")), "RUNBOOK.md has no section {alert}");
        let link = format!("runbook: RUNBOOK.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} does not point at {link}");
    }
}
