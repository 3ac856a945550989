//! What is made of the model's events, and what it is asked.

use super::*;
use crate::calls::{AT_WORK, Spoken, Who};

fn realtime() -> Realtime {
    let (session, turns) = (json!({"type": "realtime"}), Turns::default());
    let mut realtime = Realtime::new("k".into(), "gpt-realtime", session, turns, &Memory::default());
    realtime.hello();
    assert_eq!(realtime.heard(r#"{"type":"session.updated"}"#), []);
    realtime
}

fn heard(realtime: &mut Realtime, value: &Value) -> Vec<Told> {
    realtime.heard(&value.to_string())
}

fn delta(response: &str, item: &str, bytes: usize) -> Value {
    json!({"type": "response.output_audio.delta", "response_id": response, "item_id": item,
        "delta": STANDARD.encode(vec![1; bytes])})
}

#[test]
fn a_response_of_its_own_takes_the_next_turn_and_one_that_was_asked_for_keeps_its() {
    let mut realtime = realtime();
    let created =
        |id: &str, metadata: Value| json!({"type": "response.created", "response": {"id": id, "metadata": metadata}});
    assert_eq!(heard(&mut realtime, &created("r1", Value::Null)), [Told::Event(Event::Began { turn: 1 })]);
    heard(&mut realtime, &done("r1"));
    realtime.order(Order::Say { turn: 7, text: "Hi".into() });
    let told = heard(&mut realtime, &created("r2", json!({"turn": "7"})));
    assert!(matches!(told.as_slice(), [Told::Answered(_)]));
    let sound = heard(&mut realtime, &delta("r2", "i", 160));
    assert!(matches!(sound.as_slice(), [Told::Sound(Sound::Audio { turn: 7, .. })]));
}

#[test]
fn what_was_heard_is_never_more_than_there_is() {
    let mut realtime = realtime();
    heard(&mut realtime, &json!({"type": "response.created", "response": {"id": "r1"}}));
    heard(&mut realtime, &delta("r1", "i1", 8_000));
    let out = realtime.order(Order::Stop { turn: 1, heard_ms: 60_000, heard: String::new() });
    let Some(Out::Word(Message::Text(truncate))) = out.last() else { panic!("{out:?}") };
    let truncate: Value = serde_json::from_str(truncate).unwrap();
    assert_eq!((&truncate["item_id"], &truncate["audio_end_ms"]), (&json!("i1"), &json!(999)));
    assert_eq!(heard(&mut realtime, &delta("r1", "i1", 160)), [], "nothing more of it");
}

#[test]
fn what_is_not_known_is_nothing() {
    for text in ["", "{", "[]", r#"{"type":"new.event"}"#, r#"{"type":"response.done"}"#, r#"{"type":"error"}"#] {
        assert_eq!(realtime().heard(text), [], "{text}");
    }
}

fn sent(out: &[Out]) -> Vec<Value> {
    let value = |out: &Out| match out {
        Out::Sound(Message::Text(text)) | Out::Word(Message::Text(text)) => serde_json::from_str(text).unwrap(),
        other => panic!("{other:?}"),
    };
    out.iter().map(value).collect()
}

fn replies(told: &[Told]) -> Vec<Value> {
    let out = told.iter().filter_map(|told| match told {
        Told::Reply(out) => Some(out.clone()),
        _ => None,
    });
    sent(&out.collect::<Vec<_>>())
}

fn created(id: &str, turn: u32) -> Value {
    json!({"type": "response.created", "response": {"id": id, "metadata": {"turn": turn.to_string()}}})
}

fn done(id: &str) -> Value {
    json!({"type": "response.done", "response": {"id": id, "status": "completed", "output": []}})
}

#[test]
fn one_response_is_asked_for_at_a_time_and_again_where_it_was_refused() {
    let mut realtime = realtime();
    heard(&mut realtime, &json!({"type": "response.created", "response": {"id": "r1"}}));
    let said = realtime.order(Order::Say { turn: 2, text: "Good bye.".into() });
    assert_eq!(sent(&said), [] as [Value; 0], "a response is being made");
    let asked = replies(&heard(&mut realtime, &done("r1")));
    assert_eq!(
        (&asked[0]["type"], &asked[0]["response"]["metadata"]["turn"]),
        (&json!("response.create"), &json!("2"))
    );
    let refused = json!({"type": "error", "error": {"code": ACTIVE, "event_id": asked[0]["event_id"]}});
    heard(&mut realtime, &json!({"type": "response.created", "response": {"id": "r2"}}));
    assert_eq!(heard(&mut realtime, &refused), []);
    let again = replies(&heard(&mut realtime, &done("r2")));
    assert_eq!(again, asked);
    heard(&mut realtime, &refused);
    assert_eq!(
        sent(&realtime.keep_alive(Duration::ZERO).into_iter().collect::<Vec<_>>()),
        asked,
        "of one that we do not know"
    );
}

#[test]
fn a_session_that_is_refused_has_failed_and_before_it_is_set_up_nothing_is_heard_or_asked() {
    let mut realtime = Realtime::new("k".into(), "m", json!({}), Turns::default(), &Memory::default());
    assert_eq!(sent(&realtime.hello())[0]["event_id"], UPDATE);
    assert_eq!(realtime.order(Order::Hear(Bytes::from_static(&[1; 800]))), []);
    assert_eq!(realtime.order(Order::Say { turn: 1, text: "Hello.".into() }), []);
    let told = heard(&mut realtime, &json!({"type": "session.updated"}));
    let kinds: Vec<Value> = replies(&told).iter().map(|reply| reply["type"].clone()).collect();
    assert_eq!(kinds, ["input_audio_buffer.append", "response.create"]);
    let told = heard(&mut realtime, &json!({"type": "error", "error": {"code": "invalid_value", "event_id": UPDATE}}));
    assert!(matches!(told.as_slice(), [Told::Event(Event::Failed { .. })]), "{told:?}");
}

#[test]
fn what_was_heard_of_a_turn_is_counted_from_the_beginning_of_each_item() {
    let mut realtime = realtime();
    heard(&mut realtime, &json!({"type": "response.created", "response": {"id": "r1"}}));
    heard(&mut realtime, &delta("r1", "i1", 8_000));
    heard(&mut realtime, &delta("r1", "i2", 8_000));
    let out = sent(&realtime.order(Order::Stop { turn: 1, heard_ms: 1_400, heard: "One".into() }));
    let ends: Vec<_> = out.iter().skip(1).map(|out| (out["item_id"].clone(), out["audio_end_ms"].clone())).collect();
    assert_eq!(ends, [(json!("i2"), json!(400))]);
}

#[test]
fn on_the_next_connection_the_model_is_told_what_was_heard_and_asked_the_same_again() {
    let mut realtime = realtime();
    realtime.order(Order::Words("[pressed 5]".into()));
    realtime.order(Order::Answer { turn: 1 });
    heard(&mut realtime, &created("r1", 1));
    heard(&mut realtime, &delta("r1", "i1", 8_000));
    let transcript =
        json!({"type": "response.output_audio_transcript.done", "response_id": "r1", "transcript": "One two."});
    heard(&mut realtime, &transcript);
    heard(&mut realtime, &done("r1"));
    realtime.order(Order::Stop { turn: 1, heard_ms: 500, heard: "One".into() });
    realtime.order(Order::Say { turn: 2, text: "Exactly this.".into() });
    heard(&mut realtime, &created("r2", 2));
    assert_eq!(realtime.lost(), [], "not a sound of it was heard");
    let hello = sent(&realtime.hello());
    let said: Vec<&Value> = hello.iter().skip(1).map(|item| &item["item"]["content"][0]["text"]).collect();
    assert_eq!(said, ["[pressed 5]", "One"]);
    let asked = replies(&heard(&mut realtime, &json!({"type": "session.updated"})));
    assert!(asked[0]["response"]["instructions"].as_str().unwrap().ends_with("Exactly this."), "{asked:?}");
    heard(&mut realtime, &created("r3", 2));
    heard(&mut realtime, &delta("r3", "i3", 160));
    let ends = [Told::Event(Event::Answered { turn: 2, tools: false }), Told::Sound(Sound::BrokeOff { turn: 2 })];
    assert_eq!(realtime.lost(), ends);
}

#[test]
fn a_response_that_failed_before_a_sound_is_asked_for_once_more_and_then_ends_the_call() {
    let mut realtime = realtime();
    let failed = |id: &str| {
        json!({"type": "response.done", "response": {"id": id, "status": "failed",
        "status_details": {"error": {"code": "server_error"}}}})
    };
    let created = |id: &str| json!({"type": "response.created", "response": {"id": id, "metadata": {"turn": "7"}}});
    realtime.order(Order::Say { turn: 7, text: "Hi".into() });
    heard(&mut realtime, &created("r1"));
    let told = heard(&mut realtime, &failed("r1"));
    let [Told::Reply(again)] = told.as_slice() else { panic!("{told:?}") };
    let again = &sent(std::slice::from_ref(again))[0];
    assert_eq!((&again["type"], &again["response"]["metadata"]["turn"]), (&json!("response.create"), &json!("7")));
    assert!(again["response"]["instructions"].as_str().unwrap().ends_with("Hi"), "{again}");
    heard(&mut realtime, &created("r2"));
    let told = heard(&mut realtime, &failed("r2"));
    assert!(told.iter().any(|told| matches!(told, Told::Event(Event::Failed { .. }))), "{told:?}");
}

#[test]
fn words_of_the_caller_that_come_after_the_answer_stand_before_it() {
    let mut realtime = realtime();
    let began = Instant::now();
    let stopped = |item: &str| json!({"type": "input_audio_buffer.speech_stopped", "item_id": item});
    assert_eq!(heard(&mut realtime, &stopped("u1")), [Told::Event(Event::SpeechStopped)]);
    let over = Instant::now();
    heard(&mut realtime, &created("r1", 1));
    heard(&mut realtime, &delta("r1", "i1", 160));
    let answer =
        json!({"type": "response.output_audio_transcript.done", "response_id": "r1", "transcript": "It is open."});
    heard(&mut realtime, &answer);
    heard(&mut realtime, &done("r1"));
    heard(&mut realtime, &stopped("u2"));
    let words = |item: &str, text: &str| json!({"type": "conversation.item.input_audio_transcription.completed", "item_id": item, "transcript": text});
    let told = heard(&mut realtime, &words("u1", "Is it open? "));
    let [Told::Event(Event::Transcribed { text, spoken })] = told.as_slice() else { panic!("{told:?}") };
    assert!(text == "Is it open?" && (began..=over).contains(spoken));
    realtime.lost();
    let hello = sent(&realtime.hello());
    let said: Vec<&Value> = hello.iter().skip(1).map(|item| &item["item"]["content"][0]["text"]).collect();
    assert_eq!(said, ["Is it open?", "It is open."], "and nothing of what was never written down");
}

/// The tool that is used in tests, as the model tells of it.
fn called(response: &str) -> Value {
    json!({"type": "response.function_call_arguments.done", "response_id": response, "call_id": "call_1",
        "name": "book", "arguments": "{\"at\":\"noon\"}"})
}

/// The items of a new connection: of each its type, and its words, its call or its output.
fn items(realtime: &mut Realtime) -> Vec<(String, Value)> {
    let kind = |item: &Value| item["type"].as_str().unwrap().to_owned();
    let told = |item: &Value| match kind(item).as_str() {
        "function_call" => json!([item["call_id"], item["name"], item["arguments"]]),
        "function_call_output" => json!([item["call_id"], item["output"]]),
        _ => item["content"][0]["text"].clone(),
    };
    sent(&realtime.hello()).iter().skip(1).map(|sent| (kind(&sent["item"]), told(&sent["item"]))).collect()
}

#[test]
fn on_the_next_connection_the_model_knows_its_tools_and_what_they_came_to_in_their_places() {
    let mut realtime = realtime();
    realtime.order(Order::Words("Book noon.".into()));
    realtime.order(Order::Answer { turn: 1 });
    heard(&mut realtime, &created("r1", 1));
    heard(&mut realtime, &called("r1"));
    heard(&mut realtime, &done("r1"));
    realtime.lost();
    let call = ("function_call".to_owned(), json!(["call_1", "book", "{\"at\":\"noon\"}"]));
    let words = |text: &str| ("message".to_owned(), json!(text));
    assert_eq!(items(&mut realtime), [words("Book noon."), call.clone()], "it is at work");
    let output = sent(&realtime.order(Order::Tool { id: "call_1".into(), output: "{\"ok\":true}".into() }));
    assert_eq!((&output[0]["item"]["call_id"], output.len()), (&json!("call_1"), 1));
    realtime.order(Order::Words("Thanks.".into()));
    realtime.lost();
    let came = ("function_call_output".to_owned(), json!(["call_1", "{\"ok\":true}"]));
    assert_eq!(items(&mut realtime), [words("Book noon."), call, came, words("Thanks.")]);
}

#[test]
fn a_response_that_is_lost_behind_its_tool_waits_for_that_and_does_not_ask_for_it_again() {
    for bytes in [0, 160] {
        let mut realtime = realtime();
        realtime.order(Order::Answer { turn: 1 });
        heard(&mut realtime, &created("r1", 1));
        if bytes > 0 {
            heard(&mut realtime, &delta("r1", "i1", bytes));
        }
        heard(&mut realtime, &called("r1"));
        let waits = [Told::Event(Event::Answered { turn: 1, tools: true }), Told::Sound(Sound::Waits { turn: 1 })];
        assert_eq!(realtime.lost(), waits);
        let told = heard(&mut realtime, &json!({"type": "session.updated"}));
        assert_eq!(replies(&told), [] as [Value; 0], "the session asks when the tool has come to its end");
    }
}

#[test]
fn a_session_that_is_built_elsewhere_knows_which_tools_were_used_and_what_they_came_to() {
    let mut memory = Memory::default();
    let said = |who, text: &str, tool| Spoken { who, text: text.to_owned(), at_ms: 0, cut: false, tool };
    let used = |id: &str, output: Value| json!({"id": id, "name": "book", "arguments": "{}", "output": output});
    memory.add(said(Who::Caller, "Book noon.", None));
    memory.add(said(Who::Tool, "book", Some(used("call_1", json!({"ok": true})))));
    memory.add(said(Who::Agent, "It is booked.", None));
    memory.add(said(Who::Tool, "book", Some(used("call_2", json!({"status": AT_WORK})))));
    let mut realtime = Realtime::new("k".into(), "m", json!({}), Turns::default(), &memory);
    let call = |id: &str| ("function_call".to_owned(), json!([id, "book", "{}"]));
    let came = |id: &str, output: Value| ("function_call_output".to_owned(), json!([id, output.to_string()]));
    let words = |text: &str| ("message".to_owned(), json!(text));
    let all = [
        words("Book noon."),
        call("call_1"),
        came("call_1", json!({"ok": true})),
        words("It is booked."),
        call("call_2"),
        came("call_2", json!({"status": AT_WORK})),
    ];
    assert_eq!(items(&mut realtime), all);
}
