//! What an agent says last is heard to its end, and a provider that stops in the middle does not leave the caller in silence.

use rollcall::sim::{Answer, Call, Callee, Provider, ProviderFault, ProviderRule, Then};
use serde_json::json;

use crate::{
    house::{House, Options, numbers},
    voice_house::{lines_of, script},
};

async fn house() -> House {
    House::open(Options { workers: 1, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_of_the_caller_does_not_take_over_the_last_words() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let tools = json!([{"type": "end_call"}]);
    let agent = house.agent(business, json!({"pipeline": "realtime", "greeting": "Hello.", "tools": tools})).await;
    let mut lines = script(&["Goodbye now.", "Oh, wait."]);
    lines[1].interrupts_after = Some(20);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let last = "I thank you for the time that you have taken to talk with me about all of this. ".repeat(5);
    house.sim.set_answers(vec![Answer {
        hears: Some("goodbye".into()),
        says: last.trim().to_owned(),
        calls: Some(Call { name: "end_call".into(), arguments: json!({}) }),
        ..Answer::default()
    }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert_eq!(house.sim.calls()[0].conversations[0].interruptions, 1);
    assert_eq!(said.end_reason, "ended_by_agent", "{said:?}");
    assert!(lines_of(&said).contains(&format!("agent: {}", last.trim())), "{said:?}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_waits_for_the_answer_that_is_being_made_and_is_said() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let definition =
        json!({"pipeline": "realtime", "greeting": "Hello.", "goodbye": "Good bye.", "limits": {"call_secs": 5}});
    let agent = house.agent(business, definition).await;
    house.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    house.sim.set_provider_faults(vec![ProviderRule::next(Provider::Realtime, ProviderFault::Trickle, 1)]).unwrap();
    let says = |turn, says: String| Answer { turn: Some(turn), says, ..Answer::default() };
    house
        .sim
        .set_answers(vec![says(1, "There was a king who had three sons. ".repeat(40)), says(2, "Good bye.".into())]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert_eq!(said.end_reason, "time_limit", "{said:?}");
    assert_eq!(lines_of(&said).last().unwrap(), "agent: Good bye.", "{said:?}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_that_stalls_after_its_first_sound_is_given_up() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "limits": {"answer_ms": 1000}})).await;
    house.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    house.sim.set_provider_faults(vec![ProviderRule::next(Provider::Speech, ProviderFault::Stall, 1)]).unwrap();
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    assert_eq!(house.said(business, run).await.end_reason, "trouble");
    assert_eq!(house.updates_of(&house.sim.calls()[0]), 1, "hung up once");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guess_that_comes_to_nothing_does_not_leave_the_caller_without_an_answer() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    let lines = script(&["Who is there?", "Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let mumbles = ProviderRule::next(Provider::Transcription, ProviderFault::Mumble, 1);
    house.sim.set_provider_faults(vec![mumbles]).unwrap();
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert!(lines_of(&said).contains(&"agent: I heard: Who is there?".to_owned()), "{said:?}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_in_which_nothing_happens_ends_at_its_time_limit() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let definition = json!({"turns": {"silence_secs": 120}, "limits": {"call_secs": 5}});
    let agent = house.agent(business, definition).await;
    house.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    assert_eq!(house.said(business, run).await.end_reason, "time_limit");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_words_without_an_end_are_ended() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let turns = json!({"silence_secs": 1, "silence_prompts": []});
    let definition = json!({"goodbye": "Good bye.", "turns": turns, "limits": {"answer_ms": 1000}});
    let agent = house.agent(business, definition).await;
    house.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    house.sim.set_provider_faults(vec![ProviderRule::next(Provider::Speech, ProviderFault::Endless, 1)]).unwrap();
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    let lines = lines_of(&said);
    assert_eq!((said.end_reason.as_str(), lines.len()), ("silence", 1), "{said:?}");
    assert!(lines[0].starts_with("agent: Good bye."), "it was heard: {lines:?}");
    assert_eq!(house.updates_of(&house.sim.calls()[0]), 1, "hung up once");
    media.close().await;
    house.close().await;
}
