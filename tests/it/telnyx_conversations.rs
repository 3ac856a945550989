//! The same conversations where the carrier is told to stream: begun by a command, gone on with after a stream that ended.

use rollcall::{
    calls::{
        CallState, Phase,
        store::{Next, Owner},
    },
    dialing::conversation::HUNG_UP,
    sim::{Callee, Line, Provider, Status, Then},
};
use serde_json::json;

use crate::{
    house::{House, Options, numbers},
    voice_house::{RINGS_UNTIL_ANSWERED, lines_of, script},
};

fn callee(lines: Vec<Line>) -> Vec<Callee> {
    vec![Callee { lines, then: Then::Stays, ..Callee::default() }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_telnyx_talks_to_its_agent_and_is_hung_up() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.telnyx_business(3).await;
    let tools = json!([{"type": "end_call"}]);
    let agent = house.agent(business, json!({"greeting": "Hello {{name}}.", "tools": tools})).await;
    house.sim.set_callees(callee(script(&["I am {tag}.", "Goodbye then."])));
    let run = house.talking(business, agent, &numbers(6)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    for call in house.sim.calls() {
        assert_eq!((call.status, call.conversations.len()), (Status::Completed, 1), "{call:?}");
        let talk = &call.conversations[0];
        let all = talk.heard.iter().map(|heard| heard.text.as_str()).collect::<Vec<_>>().join(" ");
        assert!(all.contains("Hello Ada.") && all.contains(&format!("I heard: I am {}.", talk.tag)), "{all}");
        assert!(talk.foreign.is_empty(), "{talk:?}");
    }
    let log = house.sim.log();
    assert!(log.iter().all(|entry| entry.ignored.is_empty()), "a field that Telnyx does not know");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_over_telnyx_goes_on_where_another_replica_takes_it() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let first = house.media().await;
    let business = house.telnyx_business(1).await;
    let tools = json!([{"type": "end_call"}]);
    let agent = house.agent(business, json!({"greeting": "Hello {{name}}.", "tools": tools})).await;
    let mut lines = script(&["I am {tag}.", "Are you still the same?", "Goodbye then."]);
    lines[1].after_ms = Some(3_000);
    house.sim.set_callees(callee(lines));
    let run = house.talking(business, agent, &numbers(1)).await;
    house
        .until("the first is talking", || async { first.sessions.count() == 1 && house.sim.sessions().len() > 2 })
        .await;
    let second = house.media().await;
    first.begin_stop();
    house.until("the second has it", || async { second.sessions.count() == 1 && first.sessions.count() == 0 }).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let call = &house.sim.calls()[0];
    assert_eq!(call.conversations.len(), 2, "{call:?}");
    let said = house.said(business, run).await;
    let lines = lines_of(&said);
    assert_eq!(said.end_reason, "ended_by_agent", "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("agent: Hello Ada.")).count(), 1, "greeted once: {lines:?}");
    first.close().await;
    second.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_telnyx_whose_calls_program_has_gone_is_told_so_and_hung_up() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.telnyx_business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "trouble": "Please call later."})).await;
    let run = house.talking(business, agent, &[RINGS_UNTIL_ANSWERED.to_owned()]).await;
    house.until("it rings", || async { house.sim.calls().iter().any(|call| call.status == Status::Ringing) }).await;
    media.close().await;
    let sid = house.sim.calls()[0].sid.clone();
    house.sim.answer(&sid).await.unwrap();
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.calls()[0].heard, ["Please call later."]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_none_of_whose_streams_is_ever_connected_hears_so_and_is_over() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    // Nobody listens at that port.
    let media = house.media_at(500, Some("ws://127.0.0.1:1")).await;
    let business = house.telnyx_business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "trouble": "Please call later."})).await;
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    let call = &house.sim.calls()[0];
    assert_eq!(call.heard, ["Please call later."], "{call:?}");
    assert!(call.conversations.is_empty(), "{call:?}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_telnyx_whose_caller_only_seemed_to_have_hung_up_is_ended() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.telnyx_business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello."})).await;
    house.sim.set_callees(callee(Vec::new()));
    let run = house.talking(business, agent, &numbers(1)).await;
    let speaks = || house.sim.sessions().iter().any(|one| one.provider == Provider::Speech && !one.heard.is_empty());
    house.until("it talks", || async { media.sessions.count() == 1 && speaks() }).await;
    let (calls, call_id) = (&house.ctx.calls, house.sim.calls()[0].sid.clone());
    let claim = calls.claim(&call_id, "another", "r").await.unwrap().unwrap();
    let ended = CallState { phase: Phase::Ended, ended: Some(HUNG_UP.into()), ..claim.state };
    let owner = Owner { session: "another".into(), replica: "r".into(), epoch: claim.epoch };
    assert!(calls.save(&ended, &owner, Next::End).await.unwrap());
    // The session that has lost the call closes its stream, and the carrier tells of that.
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.calls()[0].status, Status::Completed);
    media.close().await;
    house.close().await;
}
