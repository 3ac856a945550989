//! What is kept of a turn is true of it: how long the caller waited, and what was said before a tool and after it.

use rollcall::sim::{Answer, Call, Callee, Line, Then};
use serde_json::{Value, json};

use crate::{
    house::{House, Options, numbers},
    voice_house::lines_of,
    voice_house::script,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_of_keys_is_measured_from_the_keys_and_not_from_the_last_voice() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Press a key.", "turns": {"silence_secs": 30}})).await;
    let keys = Line { dtmf: "5".to_owned(), after_ms: Some(5_000), ..Line::default() };
    house.sim.set_callees(vec![Callee { lines: vec![keys], then: Then::HangsUp, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert!(lines_of(&said).contains(&"caller: [pressed 5]".to_owned()), "{said:?}");
    let turns = said.turns.as_array().unwrap();
    let answer = turns.iter().find(|turn| turn["kind"] == "answer").unwrap();
    assert!(answer["transcription_ms"].as_u64().unwrap() < 3_500, "{answer}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_says_before_a_tool_and_after_it_does_not_run_together() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let fields = json!([{"name": "mood", "type": "string", "required": true}]);
    let tools = json!([{"type": "end_call"}, {"type": "record_outcome", "fields": fields}]);
    let agent = house.agent(business, json!({"pipeline": "realtime", "greeting": "Hello.", "tools": tools})).await;
    let lines = script(&["I am fine.", "Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let call = Call { name: "record_outcome".into(), arguments: json!({"mood": "fine"}) };
    house.sim.set_answers(vec![Answer {
        hears: Some("fine".into()),
        says: "One moment.".into(),
        calls: Some(call),
        ..Answer::default()
    }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert_eq!(said.outcome, Some::<Value>(json!({"mood": "fine"})));
    let lines = lines_of(&said);
    assert!(lines.iter().any(|line| line.starts_with("agent: One moment. It is done")), "{lines:?}");
    media.close().await;
    house.close().await;
}
