//! A model that is not OpenAI's own, that refuses, or that says in the middle of a stream that it has failed, is understood.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, http::header};
use rollcall::sim::{Callee, Then};
use serde_json::{Value, json};

use crate::{
    api_harness::answer,
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
    voice_house::script,
};

/// A piece of a stream.
fn piece(delta: Value, finish: Option<&str>) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

fn words(text: &str) -> String {
    piece(json!({"content": text}), None)
}

fn tool(name: &str, arguments: &str) -> String {
    let call = json!({"index": 0, "id": format!("id-{name}"), "type": "function", "function": {"name": name, "arguments": arguments}});
    piece(json!({"tool_calls": [call]}), None) + &piece(json!({}), Some("tool_calls"))
}

/// A house whose callee says these lines to an agent whose model gives these answers; what was heard, and what the model was asked.
async fn talked(lines: &[&str], answers: Vec<String>) -> (String, String, Vec<Value>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let left = Arc::new(Mutex::new(VecDeque::from(answers)));
    let model = {
        let asked = asked.clone();
        Router::new().fallback(move |Json(body): Json<Value>| async move {
            asked.lock().unwrap().push(body);
            let next = left.lock().unwrap().pop_front().unwrap_or_default();
            ([(header::CONTENT_TYPE, "text/event-stream")], next)
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let served = tokio::spawn(async move { axum::serve(listener, model).await });
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let url = format!("http://{}/v1/businesses/{business}/voice/openai", house.addr);
    let account = json!({"api_key": "of-another-model", "base_url": base_url});
    let put = answer(client().put(url).bearer_auth(OPERATOR_KEY).json(&account)).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let fields = json!([{"name": "mood", "type": "string", "required": true}]);
    let tools = json!([{"type": "end_call"}, {"type": "record_outcome", "fields": fields}]);
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": tools})).await;
    house.sim.set_callees(vec![Callee { lines: script(lines), then: Then::Stays, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let end = house.said(business, run).await.end_reason;
    let call = house.sim.calls().remove(0);
    let heard: Vec<String> =
        call.conversations.iter().flat_map(|talk| talk.heard.iter().map(|one| one.text.clone())).collect();
    media.close().await;
    house.close().await;
    served.abort();
    let asked = asked.lock().unwrap().clone();
    (end, heard.join(" "), asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_a_stream_without_its_last_word_are_used_and_what_was_said_before_them_stands_before_them() {
    let first = words("One moment.") + &tool("record_outcome", r#"{"mood": "glad"}"#);
    let last = words("Good bye.") + &tool("end_call", "{}");
    let (end, heard, asked) = talked(&["I am glad."], vec![first, last]).await;
    assert_eq!((end.as_str(), asked.len()), ("ended_by_agent", 2), "{heard}");
    assert!(heard.contains("One moment.") && heard.contains("Good bye."), "{heard}");
    let messages = asked[1]["messages"].as_array().unwrap();
    let used = messages.iter().find(|message| message["tool_calls"].is_array()).unwrap();
    assert_eq!(used["content"], "One moment.", "{messages:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_spoken_and_what_fails_without_a_word_is_asked_for_once_more() {
    let done = "data: [DONE]\n\n";
    let refusal = piece(json!({"refusal": "I cannot help with that."}), None) + &piece(json!({}), Some("stop")) + done;
    let failed = format!("data: {}\n\n{done}", json!({"error": {"message": "overloaded"}}));
    let last = words("Good bye.") + &tool("end_call", "{}") + done;
    let (end, heard, asked) = talked(&["Tell me a secret.", "Good bye then."], vec![refusal, failed, last]).await;
    assert_eq!((end.as_str(), asked.len()), ("ended_by_agent", 3), "{heard}");
    assert!(heard.contains("I cannot help with that.") && heard.contains("Good bye."), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_holds_back_is_asked_for_once_more_and_then_ends_the_call_in_words() {
    let held = piece(json!({}), Some("content_filter")) + "data: [DONE]\n\n";
    let last = words("Good bye.") + &tool("end_call", "{}");
    let (end, heard, asked) = talked(&["Tell me a secret."], vec![held.clone(), last]).await;
    assert_eq!((end.as_str(), asked.len()), ("ended_by_agent", 2), "{heard}");
    assert!(heard.contains("Good bye."), "{heard}");
    let (end, _, asked) = talked(&["Tell me a secret."], vec![held.clone(), held]).await;
    assert_eq!((end.as_str(), asked.len()), ("trouble", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_behind_a_byte_order_mark_is_spoken() {
    let marked = format!("\u{feff}{}", words("Good bye.") + &tool("end_call", "{}"));
    let (end, heard, asked) = talked(&["Good bye then."], vec![marked]).await;
    assert_eq!((end.as_str(), asked.len()), ("ended_by_agent", 1), "{heard}");
    assert!(heard.contains("Good bye."), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_longer_than_any_answer_is_a_failure_at_once() {
    let flood = format!("data: {}\n\n", "x".repeat(3 << 20)) + &words("Too late.") + &tool("end_call", "{}");
    let last = words("Good bye.") + &tool("end_call", "{}");
    let (end, heard, asked) = talked(&["Good bye then."], vec![flood, last]).await;
    assert_eq!((end.as_str(), asked.len()), ("ended_by_agent", 2), "{heard}");
    assert!(heard.contains("Good bye.") && !heard.contains("Too late."), "{heard}");
}
