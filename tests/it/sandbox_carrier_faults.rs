//! The sandbox carrier's faults: each does what its name says and leaves a trace in the figures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use std::{error::Error, io, time::Duration};

use rollcall::sim::{
    ApiFault, CallbackFault, Config, CreateFault, FaultShares, Faults, Forged, Millis, Rule, Status, Undrivable, Until,
};

use crate::sandbox_carrier_desk::{Desk, PATIENCE, TO, next_create};

/// Long enough for an answer that comes, short enough for one that never does.
const BRIEF: Duration = Duration::from_millis(300);

async fn desk_with(faults: Faults) -> Desk {
    let desk = Desk::quick().await;
    desk.sim.set_faults(faults).unwrap();
    desk
}

fn is_reset(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(inner) = cause {
        if inner.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            return true;
        }
        cause = inner.source();
    }
    false
}

#[tokio::test]
async fn refusals_before_acceptance_make_no_call() {
    for (kind, http, code) in [
        (CreateFault::Http429, 429, 20429),
        (CreateFault::Http500BeforeAccept, 500, 20500),
        (CreateFault::Unauthorized, 401, 20003),
    ] {
        let desk = desk_with(next_create(kind, 1)).await;
        let (status, body) = desk.dial(&desk.form(TO, "t1")).await;
        assert_eq!((status, body["code"].as_u64()), (http, Some(code)));
        let total = desk.sim.figures().total;
        assert_eq!((total.requests, total.created, total.refused[&code.to_string()]), (1, 0, 1));
        desk.call(TO, "t1").await;
        assert_eq!(desk.sim.figures().total.requested_twice, 1);
    }
}

#[tokio::test]
async fn any_code_can_be_refused_with_for_one_number_only() {
    let rule = Rule { code: Some(21210), to: Some(TO.to_owned()), ..Rule::share(CreateFault::Refuse, 1.0) };
    let desk = desk_with(Faults { create: vec![rule], ..Faults::default() }).await;
    let (status, body) = desk.dial(&desk.form(TO, "t1")).await;
    assert_eq!((status, body["code"].as_u64()), (400, Some(21210)));
    desk.call("+14155552672", "t2").await;
}

#[tokio::test]
async fn a_500_and_garbage_after_acceptance_leave_a_call_behind() {
    let desk = desk_with(next_create(CreateFault::Http500AfterAccept, 1)).await;
    let (status, body) = desk.dial(&desk.form("+12125550190", "t1")).await;
    assert_eq!((status, body["code"].as_u64()), (500, Some(20500)));
    desk.sim.set_faults(next_create(CreateFault::GarbageAfterAccept, 1)).unwrap();
    let request = desk.client.post(desk.url("Calls.json")).basic_auth(crate::sandbox_carrier_desk::ACCOUNT, Some("x"));
    let response = request.form(&desk.form("+13125550190", "t2")).send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert!(response.json::<serde_json::Value>().await.is_err());
    desk.idle().await;
    let ends: Vec<Status> = desk.sim.calls().iter().map(|call| call.status).collect();
    assert_eq!(ends, [Status::Completed, Status::Completed]);
}

#[tokio::test]
async fn a_reset_after_acceptance_is_a_true_reset_and_the_call_goes_on() {
    let desk = desk_with(next_create(CreateFault::ResetAfterAccept, 1)).await;
    let error = desk.call_in_vain("+12125550190", "t1", PATIENCE).await;
    assert!(is_reset(&error), "{error:?}");
    desk.idle().await;
    assert_eq!(desk.sim.calls()[0].status, Status::Completed);
    desk.sim.set_faults(next_create(CreateFault::ResetBeforeAccept, 1)).unwrap();
    assert!(is_reset(&desk.call_in_vain("+13125550190", "t2", PATIENCE).await));
    assert_eq!(desk.sim.calls().len(), 1);
}

#[tokio::test]
async fn silence_after_acceptance_lasts_until_the_client_gives_up_and_the_call_goes_on() {
    let desk = desk_with(next_create(CreateFault::TimeoutAfterAccept, 1)).await;
    assert!(desk.call_in_vain("+12125550190", "t1", BRIEF).await.is_timeout());
    desk.idle().await;
    assert_eq!(desk.sim.figures().total.ended, 1);
    desk.sim.set_faults(next_create(CreateFault::TimeoutBeforeAccept, 1)).unwrap();
    assert!(desk.call_in_vain("+12125550190", "t2", BRIEF).await.is_timeout());
    assert_eq!(desk.sim.figures().total.created, 1);
}

#[tokio::test]
async fn a_client_that_dies_while_it_waits_has_called_all_the_same() {
    let desk = Desk::new(Config { accept_delay_ms: Millis::exactly(600), ..Config::quick() }).await;
    assert!(desk.call_in_vain("+12125550190", "t1", Duration::from_millis(50)).await.is_timeout());
    desk.sim.wait(Until::Ended(1), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn the_final_callback_can_come_before_the_answer_to_the_create() {
    let config = Config { ring_ms: Millis::exactly(50_000), ..Config::quick() };
    let desk = Desk::new(config).await;
    desk.sim.set_faults(next_create(CreateFault::FinalCallbackFirst, 1)).unwrap();
    desk.call("+12125550190", "t1").await;
    assert!(desk.statuses("t1").contains(&"completed".to_owned()), "told before this line was reached");
}

#[tokio::test]
async fn callbacks_are_lost_doubled_delayed_and_overtaken_on_demand() {
    let rule = |kind: CallbackFault, status: Status| Rule {
        status: Some(status.word().to_owned()),
        ms: Some(Millis::exactly(200)),
        times: Some(3),
        ..Rule::share(kind, 1.0)
    };
    let desk = desk_with(Faults {
        callback: vec![
            rule(CallbackFault::Delayed, Status::Initiated),
            rule(CallbackFault::Lost, Status::Ringing),
            rule(CallbackFault::Reordered, Status::InProgress),
            rule(CallbackFault::Doubled, Status::Completed),
        ],
        ..Faults::default()
    })
    .await;
    desk.call("+12125550190", "t1").await;
    desk.idle().await;
    let mut told = desk.statuses("t1");
    let late = told.iter().position(|status| status == "initiated").unwrap();
    assert!(late > 0, "overtaken by what came after it");
    told.remove(late);
    assert_eq!(told, ["completed", "completed", "completed", "in-progress"]);
    let tokens: Vec<_> =
        desk.received("/status/t1").iter().map(|r| r.headers["i-twilio-idempotency-token"].clone()).collect();
    assert!(tokens.iter().filter(|token| **token == tokens[0]).count() == 3);
    let total = desk.sim.figures().total;
    assert_eq!((total.callbacks_sent, total.callbacks_lost), (5, 1));
}

#[tokio::test]
async fn a_callback_is_tried_again_as_the_fragment_of_its_url_says() {
    let desk = Desk::quick().await;
    for (token, fragment, tries) in [("plain", "", 1), ("all", "#rc=3&rp=all", 3), ("few", "#rc=1&rp=4xx,5xx", 2)] {
        desk.spoil(&format!("/status/{token}"), 503, 2);
        let mut form = desk.form("+12125550191", token);
        form.retain(|(name, _)| !name.starts_with("StatusCallback"));
        form.push(("StatusCallback", format!("{}/status/{token}{fragment}", desk.hooks)));
        desk.dial(&form).await;
        desk.idle().await;
        let received = desk.received(&format!("/status/{token}"));
        assert_eq!(received.len(), tries, "{token}");
        let first = received[0].headers["i-twilio-idempotency-token"].clone();
        assert!(received.iter().all(|request| request.headers["i-twilio-idempotency-token"] == first));
    }
    assert_eq!(desk.sim.figures().total.callbacks_failed, 2, "the last of `few` was a 503 too");
}

#[tokio::test]
async fn a_server_that_is_not_there_gets_one_retry() {
    let desk = Desk::quick().await;
    let mut form = desk.form("+12125550191", "t1");
    form.retain(|(name, _)| !name.starts_with("StatusCallback"));
    // Port 9 discards where anything listens at all; here nothing does.
    form.push(("StatusCallback", "http://127.0.0.1:9/status/t1".to_owned()));
    desk.dial(&form).await;
    desk.idle().await;
    let callback = &desk.sim.calls()[0].callbacks[0];
    assert_eq!((callback.tries, callback.answer), (2, None));
}

#[tokio::test]
async fn listing_fetching_and_hanging_up_can_be_down_while_calling_works() {
    let desk = Desk::quick().await;
    let sid = desk.call("+12125550194", "t1").await;
    let (fetch, events) = (format!("Calls/{sid}.json"), format!("Calls/{sid}/Events.json"));
    let down = || vec![Rule::share(ApiFault::Unavailable, 1.0)];
    desk.sim.set_faults(Faults { list: down(), ..Faults::default() }).unwrap();
    assert_eq!((desk.get("Calls.json").await.0, desk.get(&fetch).await.0), (503, 200));
    desk.sim.set_faults(Faults { fetch: down(), update: down(), ..Faults::default() }).unwrap();
    assert_eq!((desk.get("Calls.json").await.0, desk.get(&fetch).await.0, desk.get(&events).await.0), (200, 503, 503));
    assert_eq!(desk.post(&fetch, &[("Status", "completed")]).await.0, 503);
    desk.call("+12125550191", "t2").await;
    assert!(!desk.sim.calls()[0].status.is_final());
}

#[tokio::test]
async fn faults_are_set_read_and_ended_over_http_and_nonsense_is_refused() {
    let desk = Desk::quick().await;
    let url = format!("{}/_faults", desk.sim.base_url());
    let rules = serde_json::json!({ "create": [
        { "kind": "http_500_before_accept", "next": 1 },
        { "kind": "slow", "share": 0.0, "next": 1, "ms": "0..1" },
    ] });
    assert_eq!(desk.client.put(&url).json(&rules).send().await.unwrap().status(), 200);
    assert_eq!(desk.dial(&desk.form(TO, "t1")).await.0, 500);
    assert_eq!(desk.dial(&desk.form(TO, "t2")).await.0, 201);
    assert_eq!(desk.sim.faults(), Faults::default(), "both are used up");
    for nonsense in [
        serde_json::json!({ "create": [{ "kind": "http_429", "share": 1.5 }] }),
        serde_json::json!({ "create": [{ "kind": "http_429" }] }),
        serde_json::json!({ "create": [{ "kind": "refuse", "share": 1 }] }),
        serde_json::json!({ "create": [{ "kind": "slow", "next": 1, "ms": "9..1" }] }),
        serde_json::json!({ "creates": [] }),
        serde_json::json!({ "list": [{ "kind": "unavailable", "share": 1, "to": "+1" }] }),
    ] {
        let answer = desk.client.put(&url).json(&nonsense).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{nonsense}");
    }
    let set = desk.client.put(&url).json(&serde_json::json!({ "callback": [{ "kind": "lost", "share": 1 }] }));
    set.send().await.unwrap();
    assert_eq!(desk.client.delete(&url).send().await.unwrap().status(), 204);
    assert_eq!(desk.sim.faults(), Faults::default());
}

#[tokio::test]
async fn shares_given_at_the_start_strike_about_their_share() {
    let faults = FaultShares { http_429: 0.3, http_500_before: 0.3, ..FaultShares::default() };
    let desk = Desk::new(Config { faults, ..Config::quick() }).await;
    for n in 0..200 {
        desk.dial(&desk.form("+12125550191", &n.to_string())).await;
    }
    let refused = desk.sim.figures().total.refused;
    assert!((30..90).contains(&refused["20429"]) && (30..90).contains(&refused["20500"]), "{refused:?}");
}

#[tokio::test]
async fn a_callback_can_be_forged_or_sent_again_with_a_right_signature() {
    let desk = Desk::quick().await;
    let sid = desk.call("+12125550196", "t1").await;
    desk.sim.wait(Until::Reached(sid.clone(), Status::Ringing), PATIENCE).await.unwrap();
    let forged = Forged { status: Status::Completed, sequence: Some(9) };
    assert_eq!(desk.sim.callback(&sid, forged).await.unwrap().answer, Some(204));
    let told = desk.received("/status/t1");
    assert!(told.iter().any(|r| r.form["SequenceNumber"] == "9" && r.form["CallStatus"] == "completed"));
    assert_eq!(desk.sim.calls()[0].status, Status::Ringing, "the call itself goes on");
    let unknown = desk.sim.end("CA0", Status::Busy);
    assert_eq!(unknown, Err(Undrivable::Unknown));
    desk.sim.end(&sid, Status::Busy).unwrap();
    assert_eq!(desk.sim.end(&sid, Status::Busy), Err(Undrivable::State));
}
