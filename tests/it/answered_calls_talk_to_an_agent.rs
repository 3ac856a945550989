//! An answered call talks to an agent, alone with it, and nothing is left of it when it is over.

use std::time::Duration;

use rollcall::sim::{Answer, Call, Callee, Provider, ProviderFault, ProviderRule, Status, Then, Until};
use serde_json::{Value, json};

use crate::{
    house::{House, Options, numbers},
    voice_house::{RINGS_UNTIL_ANSWERED, SOON, lines_of, script},
};

async fn house() -> House {
    House::open(Options { workers: 1, ..Options::default() }).await
}

/// All that the first callee heard, its pieces put together by blanks.
fn heard(house: &House) -> String {
    let calls = house.sim.calls();
    let all = calls[0].conversations.iter().flat_map(|talk| talk.heard.iter().map(|heard| heard.text.clone()));
    all.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_greets_answers_uses_a_tool_and_hangs_up_once() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house
        .agent(
            business,
            json!({"greeting": "Hello {{name}}, how are you?", "tools": [{"type": "end_call"},
            {"type": "record_outcome", "fields": [{"name": "mood", "type": "string", "required": true}]}]}),
        )
        .await;
    house.sim.set_callees(vec![Callee {
        lines: script(&["I am fine, says {tag}.", "Goodbye then."]),
        then: Then::Stays,
        ..Callee::default()
    }]);
    let call = Call { name: "record_outcome".into(), arguments: json!({"mood": "fine"}) };
    house.sim.set_answers(vec![Answer {
        hears: Some("fine".into()),
        turn: None,
        says: "Good, {words}".into(),
        calls: Some(call),
        ..Answer::default()
    }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let call = &house.sim.calls()[0];
    assert_eq!((call.status, call.notes.as_slice()), (Status::Completed, [].as_slice()), "{call:?}");
    assert_eq!(house.updates_of(call), 1, "hung up once");
    let said = house.said(business, run).await;
    assert_eq!(said.end_reason, "ended_by_agent", "{said:?}");
    assert_eq!(said.outcome, Some(json!({"mood": "fine"})));
    let lines = lines_of(&said);
    assert_eq!(lines[0], "agent: Hello Ada, how are you?");
    assert_eq!(lines[1], "caller: I am fine, says tag-000000.");
    assert_eq!(lines[2], "tool: record_outcome");
    assert!(lines.last().unwrap().contains("Goodbye then."), "{lines:?}");
    assert!(heard(&house).contains("Good, I am fine, says tag-000000."), "{:?}", heard(&house));
    assert!(said.turns.as_array().unwrap().iter().any(|turn| turn["whole_ms"].is_u64()), "{}", said.turns);
    assert!(said.usage["chat_input_tokens"].as_f64().unwrap() > 0.0, "{}", said.usage);
    assert_eq!(house.jobs(run).await, [("completed".to_owned(), Some("answered".to_owned()), None)]);
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_hears_and_speaks_talks_and_hangs_up() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house
        .agent(business, json!({"pipeline": "realtime", "greeting": "Hello.", "tools": [{"type": "end_call"}]}))
        .await;
    house.sim.set_callees(vec![Callee {
        lines: script(&["This is {tag}.", "Goodbye now."]),
        then: Then::Stays,
        ..Callee::default()
    }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert_eq!(said.end_reason, "ended_by_agent", "{said:?}");
    let heard = heard(&house);
    assert!(heard.contains("I heard: This is tag-000000."), "{heard}");
    assert!(lines_of(&said).contains(&"caller: This is tag-000000.".to_owned()), "{said:?}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_breaks_in_is_heard_at_once_and_only_what_was_heard_is_remembered() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let greeting = "Hello {{name}}, I would like to tell you about a very long story that begins a long time ago. \
                    There was a king who had three sons, and each of them had three horses, and each horse had a name. \
                    The first horse of the first son was called Lightning, because it was so very slow at everything. \
                    The second horse was called Thunder, and nobody knows today who gave it that name, or why.";
    let agent = house.agent(business, json!({"greeting": greeting})).await;
    let mut lines = script(&["Stop, says {tag}.", "Thank you."]);
    lines[0].interrupts_after = Some(30);
    house.sim.set_callees(vec![Callee { lines, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let call = &house.sim.calls()[0];
    let talk = &call.conversations[0];
    assert!(talk.interruptions == 1 && talk.clears >= 1, "{talk:?}");
    let said = house.said(business, run).await;
    assert_eq!(said.end_reason, "hung_up");
    let first = &said.transcript[0];
    let text = first["text"].as_str().unwrap();
    assert_eq!(first["cut"], true, "{said:?}");
    assert!(greeting.replace("{{name}}", "Ada").starts_with(text) && text.len() < 250, "{text}");
    assert_eq!(house.updates_of(call), 0, "the caller hung up");
    let spoken = said.usage["speech_characters"].as_f64().unwrap();
    assert!(spoken > greeting.len() as f64, "what was cut is billed as well: {}", said.usage);
    let clear = house.sim.figures().media.clear_ms;
    assert_eq!(clear.count, 1, "{clear:?}");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_ever_hears_a_word_of_another() {
    const CALLS: usize = 200;
    let house = House::open(Options {
        workers: 1,
        args: vec!["--max-concurrent-calls", "100", "--deepgram-at-once", "200", "--elevenlabs-at-once", "200"],
        ..Options::default()
    })
    .await;
    let (one, other) = (house.media().await, house.media().await);
    let business = house.business(60).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    house.sim.set_callees(vec![Callee {
        lines: script(&["I am {tag}, who is there?", "Goodbye from {tag}."]),
        then: Then::Stays,
        ..Callee::default()
    }]);
    let run = house.talking(business, agent, &numbers(CALLS)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let figures = house.sim.figures().media;
    assert_eq!((figures.opened, figures.foreign, figures.live), (CALLS as u64, 0, 0));
    for call in house.sim.calls() {
        let talk = &call.conversations[0];
        let all = talk.heard.iter().map(|heard| heard.text.as_str()).collect::<Vec<_>>().join(" ");
        assert!(all.contains(&format!("I heard: I am {}, who is there?", talk.tag)), "{}: {all}", talk.tag);
    }
    let rows =
        sqlx::query_scalar!("SELECT transcript FROM conversation").fetch_all(&house.ctx.stores.pg).await.unwrap();
    assert_eq!(rows.len(), CALLS);
    for row in rows {
        let tags: std::collections::HashSet<String> =
            row.to_string().match_indices("tag-").map(|(at, _)| row.to_string()[at..at + 10].to_owned()).collect();
        assert_eq!(tags.len(), 1, "{row}");
    }
    assert!(house.sim.calls().iter().all(|call| house.updates_of(call) == 1), "each is hung up once");
    one.close().await;
    other.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_ends_the_call_as_the_agent_says_and_leaves_nothing_open() {
    for (provider, kind, trouble) in [
        (Provider::Transcription, ProviderFault::Refuse, true),
        (Provider::Chat, ProviderFault::Silent, true),
        (Provider::Speech, ProviderFault::Refuse, false),
    ] {
        let house = house().await;
        let media = house.media().await;
        let business = house.business(1).await;
        let agent = house
            .agent(
                business,
                json!({"greeting": "Hello.", "trouble": "I am sorry, good bye.", "limits": {"answer_ms": 1500}}),
            )
            .await;
        house.sim.set_callees(vec![Callee {
            lines: script(&["Who is there?"]),
            then: Then::Stays,
            ..Callee::default()
        }]);
        let mut rule = ProviderRule::next(provider, kind, 50);
        rule.status = Some(401);
        house.sim.set_provider_faults(vec![rule]).unwrap();
        let run = house.talking(business, agent, &numbers(1)).await;
        house.until_run_is(run, "completed").await;
        house.silent().await;
        let said = house.said(business, run).await;
        assert_eq!(said.end_reason, "trouble", "{provider:?}: {said:?}");
        assert_eq!(heard(&house).contains("I am sorry"), trouble, "{provider:?}: {:?}", heard(&house));
        assert_eq!(house.updates_of(&house.sim.calls()[0]), 1);
        // Who heard nothing was not reached: guards count it, and it may be tried again.
        let ended = if provider == Provider::Speech { ("unreached", "abandoned") } else { ("completed", "answered") };
        let (state, disposition, _) = house.jobs(run).await.remove(0);
        assert_eq!((state.as_str(), disposition.as_deref()), (ended.0, Some(ended.1)), "{provider:?}");
        media.close().await;
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_that_misbehave_are_lived_with() {
    let faults = [
        (Provider::Transcription, ProviderFault::Duplicate),
        (Provider::Transcription, ProviderFault::InvalidJson),
        (Provider::Transcription, ProviderFault::Huge),
        (Provider::Transcription, ProviderFault::UnknownType),
        (Provider::Transcription, ProviderFault::ForeignId),
        (Provider::Chat, ProviderFault::Split),
        (Provider::Speech, ProviderFault::ForeignId),
        (Provider::Speech, ProviderFault::UnknownType),
        (Provider::Speech, ProviderFault::Burst),
        (Provider::Transcription, ProviderFault::Close),
    ];
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    house.sim.set_callees(vec![Callee {
        lines: script(&["I am {tag}.", "Goodbye now."]),
        then: Then::Stays,
        ..Callee::default()
    }]);
    for (i, (provider, kind)) in faults.into_iter().enumerate() {
        let mut rule = ProviderRule::next(provider, kind, 1);
        rule.ms = Some(rollcall::sim::Millis::exactly(300));
        house.sim.set_provider_faults(vec![rule]).unwrap();
        let run = house.talking(business, agent, &numbers(faults.len())[i..=i]).await;
        house.until_run_is(run, "completed").await;
        let said = house.said(business, run).await;
        assert_eq!(said.end_reason, "ended_by_agent", "{provider:?} {kind:?}: {said:?}");
        assert!(!said.transcript.to_string().contains("tag-999999"), "of another session: {said:?}");
        house.silent().await;
    }
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_says_when_it_is_to_be_asked_again_is_asked_then_where_the_answer_has_time_for_it() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    house.sim.set_callees(vec![Callee { lines: script(&["Goodbye."]), then: Then::Stays, ..Callee::default() }]);
    for (i, (secs, waits)) in [(1, 1_000..2_500), (3_600, 0..1_000)].into_iter().enumerate() {
        let mut rule = ProviderRule::next(Provider::Chat, ProviderFault::Refuse, 1);
        (rule.status, rule.retry_after_secs) = (Some(429), Some(secs));
        house.sim.set_provider_faults(vec![rule]).unwrap();
        let run = house.talking(business, agent, &numbers(2)[i..=i]).await;
        house.until_run_is(run, "completed").await;
        let said = house.said(business, run).await;
        assert_eq!(said.end_reason, "ended_by_agent", "{secs} s: {said:?}");
        let model_ms = said.turns.as_array().unwrap().iter().find_map(|turn| turn["model_ms"].as_u64()).unwrap();
        assert!(waits.contains(&model_ms), "{secs} s: {}", said.turns);
        house.silent().await;
    }
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_on_where_another_replica_takes_it() {
    let house = house().await;
    let first = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello {{name}}.", "tools": [{"type": "end_call"}]})).await;
    let mut lines = script(&["I am {tag}.", "Are you still the same?", "Goodbye then."]);
    lines[1].after_ms = Some(3_000);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house
        .until("the first is talking", || async { first.sessions.count() == 1 && house.sim.sessions().len() > 2 })
        .await;
    let second = house.media().await;
    assert_ne!(first.name(), second.name());
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
    let turns: Vec<_> = said.turns.as_array().unwrap().iter().map(|turn| turn["turn"].as_u64().unwrap()).collect();
    assert!(turns.is_sorted_by(|one, next| one < next), "each turn has a number of its own: {turns:?}");
    assert_eq!(house.updates_of(call), 1, "hung up once");
    first.close().await;
    second.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_call_in_the_middle_of_the_agents_words_goes_on_with_them() {
    let house = house().await;
    let first = house.media().await;
    let business = house.business(1).await;
    let greeting = "There was a king who had three sons, and this is their story. ".repeat(25);
    let agent = house.agent(business, json!({"greeting": greeting, "turns": {"silence_secs": 120}})).await;
    house.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    let speaks = || house.sim.sessions().iter().any(|one| one.provider == Provider::Speech && !one.heard.is_empty());
    house.until("it talks", || async { first.sessions.count() == 1 && speaks() }).await;
    let second = house.media().await;
    first.begin_stop();
    let answers = || house.sim.sessions().iter().any(|one| one.provider == Provider::Chat && !one.said.is_empty());
    house.until("the model goes on", || async { second.sessions.count() == 1 && answers() }).await;
    house.sim.end(&house.sim.calls()[0].sid, Status::Completed).unwrap();
    house.until_run_is(run, "completed").await;
    first.close().await;
    second.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_says_nothing_is_asked_and_then_left() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let turns = json!({"silence_secs": 1, "silence_prompts": ["Are you there?"]});
    let agent = house.agent(business, json!({"greeting": "Hello.", "turns": turns, "goodbye": "Good bye."})).await;
    house.sim.set_callees(vec![Callee { lines: Vec::new(), then: Then::Stays, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert_eq!(said.end_reason, "silence");
    assert_eq!(lines_of(&said), ["agent: Hello.", "agent: Are you there?", "agent: Good bye."]);
    assert!(heard(&house).ends_with("Good bye."), "it is heard before the end: {:?}", heard(&house));
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_calls_program_has_gone_is_told_so_and_counted() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "trouble": "Please call later."})).await;
    let run = house.talking(business, agent, &[RINGS_UNTIL_ANSWERED.to_owned()]).await;
    house.until("it rings", || async { house.sim.calls().iter().any(|call| call.status == Status::Ringing) }).await;
    media.close().await;
    let sid = house.sim.calls()[0].sid.clone();
    house.sim.answer(&sid).await.unwrap();
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.calls()[0].heard, ["Please call later."]);
    let key = house.ctx.stores.keys.key("metrics:calls_rejected_max_concurrent");
    let counted: i64 = redis::cmd("GET").arg(key).query_async(&mut house.ctx.stores.redis.clone()).await.unwrap();
    assert_eq!(counted, 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_that_ends_a_call_ends_its_conversation() {
    let house = house().await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello."})).await;
    house.sim.set_callees(vec![Callee { lines: script(&["One."]), then: Then::Stays, ..Callee::default() }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until("it talks", || async { media.sessions.count() == 1 && house.sim.sessions().len() >= 3 }).await;
    let sid = house.sim.calls()[0].sid.clone();
    let begin = std::time::Instant::now();
    house.sim.end(&sid, Status::Completed).unwrap();
    house.sim.wait(Until::Sessions(0), SOON).await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1_500), "{:?}", begin.elapsed());
    house.until_run_is(run, "completed").await;
    house.until("the conversation is over", || async { media.sessions.count() == 0 }).await;
    let said = house.said(business, run).await;
    assert_eq!((said.end_reason.as_str(), &said.transcript[0]["who"]), ("hung_up", &Value::from("agent")));
    media.close().await;
    house.close().await;
}
