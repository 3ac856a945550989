//! What is kept of a turn is true of it.

use rollcall::sim::{Answer, Call, Callee, Then};
use serde_json::{Value, json};

use crate::{
    house::{House, Options, numbers},
    voice_house::lines_of,
    voice_house::script,
};

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
