//! The sandbox carrier's figures: what the product is judged by.
use clap::{Args, Command, FromArgMatches};
use rollcall::sim::{
    CallReport, CallbackFault, Config, Faults, Figures, Forged, LogEntry, MAGIC, MAGIC_HELP, Outcome, Rule, Shares,
    Status, Until,
};

use crate::sandbox_carrier_desk::{ACCOUNT, Desk, FROM, PATIENCE, TO};

#[tokio::test]
async fn a_second_create_with_one_token_is_counted() {
    let desk = Desk::quick().await;
    for (to, token) in [("+12125550191", "a"), ("+13125550191", "a"), ("+13125550191", "b"), ("+12135550191", "a")] {
        desk.call(to, token).await;
    }
    desk.idle().await;
    let figures = desk.sim.figures();
    for scope in [&figures.total, &figures.accounts[ACCOUNT], &figures.froms[FROM]] {
        assert_eq!((scope.created, scope.created_twice, scope.numbers_called_twice), (4, 1, 1));
    }
}

#[tokio::test]
async fn most_live_counts_queued_and_ringing_calls_and_falls_with_every_end() {
    let desk = Desk::quick().await;
    let mut sids = Vec::new();
    for (to, token) in [("+12125550196", "a"), ("+12125550198", "b"), ("+12125550194", "c")] {
        sids.push(desk.call(to, token).await);
    }
    let total = desk.sim.figures().total;
    assert_eq!((total.live, total.most_live), (3, 3));
    for sid in &sids {
        desk.sim.end(sid, Status::Completed).unwrap();
    }
    desk.call("+12125550191", "d").await;
    desk.idle().await;
    let total = desk.sim.figures().total;
    assert_eq!((total.live, total.most_live, total.ended), (0, 3, 4));
    assert_eq!((total.final_states["completed"], total.final_states["busy"]), (3, 1));
}

#[tokio::test]
async fn every_end_callback_is_paired_with_the_create_that_takes_its_place() {
    let desk = Desk::quick().await;
    for n in 0..3 {
        desk.call("+12125550191", &format!("a{n}")).await;
    }
    desk.idle().await;
    assert_eq!(desk.sim.figures().total.turnaround_ms.count, 2, "the first had nothing to wait for");
    let mut other = desk.form("+12125550191", "b");
    other[1].1 = "+14155550177".to_owned();
    desk.dial(&other).await;
    desk.idle().await;
    let figures = desk.sim.figures();
    assert_eq!(figures.froms["+14155550177"].turnaround_ms.count, 0, "another business");
    assert_eq!(figures.accounts[ACCOUNT].turnaround_ms.count, 3, "the same account");
    let quantiles = figures.total.turnaround_ms;
    assert!(quantiles.p50 <= quantiles.p95 && quantiles.p95 <= quantiles.p99 && quantiles.p99 <= quantiles.max * 1.01);
}

#[tokio::test]
async fn a_doubled_lost_or_forged_end_callback_frees_one_place_and_no_more() {
    let desk = Desk::quick().await;
    let doubled = Rule { times: Some(4), ..Rule::next(CallbackFault::Doubled, 1) };
    let rules = [doubled, Rule::next(CallbackFault::Lost, 1)].map(|rule| Rule { status: Some("busy".into()), ..rule });
    desk.sim.set_faults(Faults { callback: rules.to_vec(), ..Faults::default() }).unwrap();
    desk.call("+12125550191", "a").await;
    desk.idle().await;
    let sid = desk.call("+12125550191", "b").await;
    desk.idle().await;
    desk.sim.callback(&sid, Forged { status: Status::Busy, sequence: None }).await.unwrap();
    for token in ["c", "d", "e"] {
        desk.call("+12125550196", token).await;
    }
    let total = desk.sim.figures().total;
    assert_eq!((total.turnaround_ms.count, total.callbacks_lost), (2, 1), "b took the place of a, and c that of b");
}

#[tokio::test]
async fn figures_calls_and_log_are_read_over_http_and_the_figures_begin_again() {
    let desk = Desk::quick().await;
    desk.call("+12125550190", "t1").await;
    desk.idle().await;
    let base = desk.sim.base_url();
    let get = async |path: &str| desk.client.get(format!("{base}{path}")).send().await.unwrap();
    let figures: Figures = get("/_figures").await.json().await.unwrap();
    assert!(figures.cpu_ms > 0.0 && figures.calls_per_second > 0.0 && figures.busy_ms > 0.0);
    assert_eq!((figures.total.callbacks_sent, figures.total.created), (4, 1));
    let calls: Vec<CallReport> = get("/_calls?token=t1&To=%2B12125550190").await.json().await.unwrap();
    assert_eq!(calls, desk.sim.calls());
    assert_eq!(get("/_calls?token=t2").await.json::<Vec<CallReport>>().await.unwrap(), []);
    assert_eq!(get("/_calls?tokn=t2").await.status(), 400);
    let log = get("/_log").await.text().await.unwrap();
    let entries: Vec<LogEntry> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((entries.len(), &*entries[0].verdict, entries[0].token.as_deref()), (1, "accepted", Some("t1")));
    assert_eq!(get("/healthz").await.status(), 200);
    assert_eq!(desk.client.delete(format!("{base}/_figures")).send().await.unwrap().status(), 204);
    assert_eq!(desk.sim.figures().total, rollcall::sim::Scope::default());
    assert_eq!(desk.sim.calls().len(), 1);
}

#[tokio::test]
async fn a_call_is_driven_and_waited_for_over_http() {
    let desk = Desk::quick().await;
    let base = desk.sim.base_url();
    let post = async |path: String| desk.client.post(format!("{base}{path}")).send().await.unwrap().status();
    let wait = async |query: &str| desk.client.get(format!("{base}/_wait?{query}")).send().await.unwrap().status();
    assert_eq!(wait("created=1&timeout_ms=0").await, 504);
    assert_eq!(wait("timeout_ms=0").await, 400);
    desk.say("<Response><Say>Hello</Say></Response>");
    let held = desk.call("+12125550196", "t1").await;
    assert_eq!(wait("created=1").await, 200);
    assert_eq!(post(format!("/_calls/{held}/answer")).await, 204);
    assert_eq!(wait("ended=1").await, 200);
    assert_eq!(post(format!("/_calls/{held}/answer")).await, 409);
    let busy = desk.call("+12125550196", "t2").await;
    assert_eq!(post(format!("/_calls/{busy}/end?status=busy")).await, 204);
    assert_eq!(post("/_calls/CA0/end".to_owned()).await, 404);
    assert_eq!(wait("idle=1").await, 200);
    let forged = desk.client.post(format!("{base}/_calls/{busy}/callback"));
    let receipt = forged.json(&serde_json::json!({ "status": "completed" })).send().await.unwrap();
    assert_eq!(receipt.json::<serde_json::Value>().await.unwrap()["answer"], 204);
}

#[tokio::test]
async fn a_thousand_calls_at_once_all_end_and_none_is_counted_twice() {
    let shares = Shares::all(Outcome::Answered);
    let desk = Desk::new(Config { shares, ..Config::quick() }).await;
    let dials = (0..1000).map(|n| {
        let form = desk.form(TO, &format!("t{n}"));
        let desk = &desk;
        async move { desk.dial(&form).await.0 }
    });
    let answers = futures::future::join_all(dials).await;
    assert!(answers.iter().all(|status| *status == 201));
    desk.sim.wait(Until::Ended(1000), PATIENCE).await.unwrap();
    desk.idle().await;
    let total = desk.sim.figures().total;
    assert_eq!((total.created, total.created_twice, total.live, total.callbacks_sent), (1000, 0, 0, 4000));
}

#[tokio::test]
async fn a_sandbox_that_is_shut_down_frees_its_port_and_its_silent_clients() {
    let desk = Desk::quick().await;
    desk.sim
        .set_faults(crate::sandbox_carrier_desk::next_create(rollcall::sim::CreateFault::TimeoutAfterAccept, 1))
        .unwrap();
    let addr = desk.sim.addr();
    let form = desk.form("+12125550194", "t1");
    let url = desk.url("Calls.json");
    let Desk { sim, client, .. } = desk;
    let request = client.post(url).basic_auth(ACCOUNT, Some("x")).form(&form).send();
    let (answer, ()) = tokio::join!(request, async {
        sim.wait(Until::Created(1), PATIENCE).await.unwrap();
        sim.shutdown().await;
    });
    assert!(answer.is_err() || answer.unwrap().status() == 503);
    assert!(std::net::TcpListener::bind(addr).is_ok() || tokio::net::TcpStream::connect(addr).await.is_err());
}

#[test]
fn the_flags_default_to_the_default_config_and_the_help_names_every_magic_number() {
    let command = Config::augment_args(Command::new("carrier"));
    command.clone().debug_assert();
    let matches = command.get_matches_from(["carrier"]);
    let parsed = Config::from_arg_matches(&matches).unwrap();
    assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    for (suffix, _) in MAGIC {
        assert!(MAGIC_HELP.contains(&format!("{}-{}", &suffix[..3], &suffix[3..])), "{suffix}");
    }
    for bad in ["--cps=-1", "--answered=2", "--ring-ms=5..1", "--account=AC1:x", "--fault-429=x"] {
        let command = Config::augment_args(Command::new("carrier"));
        assert!(command.try_get_matches_from(["carrier", bad]).is_err(), "{bad}");
    }
}
