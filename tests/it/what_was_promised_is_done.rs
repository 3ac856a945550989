//! What an agent has promised to a caller is done, whatever else comes of the call, and what was said in it is kept.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rollcall::{
    businesses::suppressions::{self, Entry, List, Terms},
    calls::{
        CallState, Memory, Phase, Spoken, Who, conversation,
        store::{Next, Owner},
    },
    dialing::conversation::{HUNG_UP, end_orphans},
    sim::{Answer, Call, Callee, Provider, Then},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    a_call_has_one_owner::{state, ticket},
    house::{House, Options, numbers},
    voice_house::script,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tools_of_an_answer_are_used_before_the_one_that_ends_the_call() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let fields = json!([{"name": "mood", "type": "string", "required": true}]);
    let tools = json!([{"type": "end_call"}, {"type": "suppress_number"}, {"type": "agree_time"},
        {"type": "record_outcome", "fields": fields}]);
    let agent = house.agent(business, json!({"greeting": "Hello.", "goodbye": "Good bye.", "tools": tools})).await;
    let lines = script(&["Take {tag} off your list."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let call = |name: &str, arguments| Call { name: name.into(), arguments };
    house.sim.set_answers(vec![Answer {
        hears: Some("off your list".into()),
        calls: Some(call("suppress_number", json!({}))),
        also: vec![
            call("end_call", json!({})),
            call("record_outcome", json!({"mood": "cross"})),
            call("agree_time", json!({"at": "2001-01-01T10:00:00Z"})),
        ],
        ..Answer::default()
    }]);
    let run = house.talking(business, agent, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let said = house.said(business, run).await;
    assert_eq!(said.end_reason, "ended_by_agent", "{said:?}");
    assert_eq!(said.outcome, Some(json!({"mood": "cross", "suppressed": true})), "a time that is past was not agreed");
    let pg = &house.ctx.stores.pg;
    let kept = suppressions::get(pg, List::Business(business), &numbers(1)[0]).await.unwrap();
    assert!(kept.is_some(), "the number is on the list");
    media.close().await;
    house.close().await;
}

/// Somebody whom callers are put through to.
const PERSON: &str = "+12125550188";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_put_through_to_a_number_that_may_not_be_called_any_more() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let pg = &house.ctx.stores.pg;
    let tools = json!([{"type": "end_call"}, {"type": "transfer", "to": PERSON}]);
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": tools})).await;
    let lines = script(&["I want a person.", "Goodbye then."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let calls = Some(Call { name: "transfer_call".into(), arguments: json!({}) });
    house.sim.set_answers(vec![Answer { hears: Some("want a person".into()), calls, ..Answer::default() }]);
    let ends = async |number: usize| {
        let run = house.talking(business, agent, &numbers(5)[number..=number]).await;
        house.until_run_is(run, "completed").await;
        house.silent().await;
        house.said(business, run).await
    };
    let entry = Entry { number: PERSON.to_owned(), terms: Terms::default() };
    for list in [List::Business(business), List::Installation] {
        suppressions::put(&mut pg.acquire().await.unwrap(), list, std::slice::from_ref(&entry), "api").await.unwrap();
        let said = ends(0).await;
        let told = said.transcript.as_array().unwrap().iter().find(|one| one["who"] == "tool").unwrap();
        assert_eq!(said.end_reason, "ended_by_agent", "the call goes on: {said:?}");
        assert!(told["tool"]["output"]["error"].is_string(), "the model is told: {said:?}");
        sqlx::query!("DELETE FROM suppression").execute(pg).await.unwrap();
    }
    sqlx::query!("UPDATE business SET allowed_countries = '{DE}'").execute(pg).await.unwrap();
    assert_eq!(ends(1).await.end_reason, "ended_by_agent");
    sqlx::query!("UPDATE business SET allowed_countries = NULL").execute(pg).await.unwrap();
    sqlx::query!("UPDATE carrier_account SET caller_ids = array_append(caller_ids, $1)", PERSON)
        .execute(pg)
        .await
        .unwrap();
    assert_eq!(ends(2).await.end_reason, "ended_by_agent");
    assert_eq!(house.sim.figures().total.redirected, 0, "nobody was dialed");
    sqlx::query!("UPDATE carrier_account SET caller_ids = array_remove(caller_ids, $1)", PERSON)
        .execute(pg)
        .await
        .unwrap();
    assert_eq!(ends(3).await.end_reason, "transferred");
    assert_eq!(house.sim.figures().total.redirected, 1);
    media.close().await;
    house.close().await;
}

/// Lets the time pass after which this call is looked for.
async fn overdue(house: &House, call_id: &str) {
    let key = house.ctx.stores.keys.key("calls:watched");
    let mut redis = house.ctx.stores.redis.clone();
    let _: () = redis::cmd("ZADD").arg(key).arg(1).arg(call_id).query_async(&mut redis).await.unwrap();
}

#[tokio::test]
async fn after_a_time_in_which_nobody_could_look_no_call_is_taken_for_one_that_nobody_has() {
    let house = House::open(Options::default()).await;
    let (calls, state) = (&house.ctx.calls, state());
    calls.open(&state, &ticket(&state)).await.unwrap();
    overdue(&house, &state.call_id).await;
    assert_eq!(calls.orphans().await.unwrap(), [] as [&str; 0], "its session could not renew, or may not have");
    assert_eq!(calls.orphans().await.unwrap(), [] as [&str; 0], "it has its time anew");
    overdue(&house, &state.call_id).await;
    assert_eq!(calls.orphans().await.unwrap(), std::slice::from_ref(&state.call_id));
    calls.forget(&state.call_id).await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn what_was_said_is_kept_by_another_where_the_one_who_ended_the_call_could_not() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let mut state = state();
    calls.open(&state, &ticket(&state)).await.unwrap();
    let epoch = calls.claim(&state.call_id, "a", "r").await.unwrap().unwrap().epoch;
    let spoken = Spoken { who: Who::Caller, text: "Yes.".into(), at_ms: 1, cut: false, tool: None };
    let memory = Memory { said: vec![spoken], started_at_ms: 1_000, ..Memory::default() };
    state = CallState { phase: Phase::Ended, ended: Some(HUNG_UP.into()), memory, ..state };
    let owner = Owner { session: "a".into(), replica: "r".into(), epoch };
    assert!(calls.save(&state, &owner, Next::End).await.unwrap());
    calls.orphans().await.unwrap();
    overdue(&house, &state.call_id).await;
    assert_eq!(end_orphans(&house.ctx).await.unwrap(), 1);
    let pg = &house.ctx.stores.pg;
    let kept = conversation::of(pg, state.business, state.attempt).await.unwrap().unwrap();
    assert_eq!((kept.end_reason.as_str(), &kept.transcript[0]["text"]), (HUNG_UP, &json!("Yes.")));
    overdue(&house, "another").await;
    assert_eq!(calls.orphans().await.unwrap(), ["another"], "it is forgotten");
    calls.forget("another").await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_customers_service_was_asked_for_is_not_forgotten_where_the_caller_goes_on_speaking() {
    let args = vec!["--voice-tools-private", "true"];
    let house = House::open(Options { workers: 1, args, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let (asked, may_answer) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let service = {
        let (asked, may_answer) = (asked.clone(), may_answer.clone());
        axum::Router::new().fallback(move || async move {
            asked.fetch_add(1, Ordering::Relaxed);
            may_answer.cancelled().await;
            r#"{"booked": "17"}"#
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/book", listener.local_addr().unwrap());
    let served = tokio::spawn(async move { axum::serve(listener, service).await });
    let tools = json!([{"type": "http", "name": "book", "description": "Books.", "url": url, "time_limit_ms": 20_000}]);
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": tools})).await;
    let lines = script(&["Book it.", "Is it done?"]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    house.sim.set_answers(vec![
        Answer {
            hears: Some("Book it".into()),
            says: "I book it now.".into(),
            calls: Some(Call { name: "book".into(), arguments: json!({}) }),
            ..Answer::default()
        },
        Answer { hears: Some("Is it done".into()), says: "In a moment.".into(), ..Answer::default() },
    ]);
    let run = house.talking(business, agent, &numbers(1)).await;
    let words = || {
        let answers = house.sim.sessions().into_iter().filter(|session| session.provider == Provider::Chat);
        answers.flat_map(|session| session.said).collect::<String>()
    };
    house.until("the caller was answered meanwhile", || async { words().contains("In a moment") }).await;
    may_answer.cancel();
    house.act(business, run, "cancel").await;
    house.until_run_is(run, "cancelled").await;
    house.silent().await;
    let said = house.said(business, run).await;
    let told: Vec<_> = said.transcript.as_array().unwrap().iter().filter(|one| one["who"] == "tool").collect();
    assert_eq!((told.len(), asked.load(Ordering::Relaxed)), (1, 1), "{said:?}");
    assert!(told[0]["tool"]["output"].to_string().contains("17"), "{said:?}");
    served.abort();
    media.close().await;
    house.close().await;
}
