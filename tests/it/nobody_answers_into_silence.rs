//! Room for a conversation is found before the dial: without it nobody is called, and the run says why.

use rollcall::{
    dialing::{
        call, gate,
        next::{self, Owner},
        why,
    },
    error::Slug,
    ids::AttemptId,
    sim::{Answer, Callee, Status, Then},
    stores::tenant,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
    voice_house::{RINGS_UNTIL_ANSWERED, script},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_calls_are_made_than_there_is_room_for_conversations() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(8).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    house.sim.set_callees(vec![Callee {
        lines: script(&["I am {tag}.", "Goodbye now."]),
        then: Then::Stays,
        ..Callee::default()
    }]);
    let run = house.talking(business, agent, &numbers(12)).await;
    let codes = async || {
        let why =
            why::of_run((&house.ctx.stores, &house.ctx.gate, &house.ctx.settings), &house.ctx.stores.pg, business, run)
                .await
                .unwrap();
        why.blockers.iter().map(|blocker| blocker.code).collect::<Vec<_>>()
    };
    gate::correct(&house.ctx).await.unwrap();
    let owner = Owner::new("by hand", CancellationToken::new());
    next::next(&house.ctx, &owner, business).await.unwrap();
    assert_eq!(codes().await, ["no_session_capacity", "no_worker"]);
    assert_eq!(house.sim.figures().total.requests, 0, "nobody was dialed");
    let single =
        serde_json::from_value(json!({"to": "+12125550111", "agent_id": agent, "variables": {"name": "Ada"}})).unwrap();
    let refused = tenant::request(async {
        tenant::bind(business);
        call::place(&house.ctx, business, AttemptId::new(), single).await.unwrap_err()
    })
    .await;
    assert_eq!((refused.slug(), house.open_attempts().await), (Slug::AtCapacity, 0));
    house.start_worker();
    house.start_worker();
    let media = house.media_for(3).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.media.opened, figures.media.refused), (12, 12, 0));
    assert!((2..=3).contains(&figures.total.most_live), "{} calls at once", figures.total.most_live);
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_say_a_message_need_no_room_for_conversations() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media_for(1).await;
    let (talks, says) = (house.business(4).await, house.business(4).await);
    let agent = house.agent(talks, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    let lines = script(&["Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let talking = house.talking(talks, agent, &numbers(4)).await;
    let saying = house.started(says, &numbers(40)).await;
    house.until_run_is(saying, "completed").await;
    house.until_run_is(talking, "completed").await;
    let figures = house.sim.figures();
    assert_eq!((figures.media.opened, figures.media.most_live, figures.media.refused), (4, 1, 0));
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_calls_are_made_than_the_voice_providers_allow_conversations_at_once() {
    let cases =
        [("cascade", "--deepgram-at-once"), ("cascade", "--elevenlabs-at-once"), ("realtime", "--openai-at-once")];
    for (pipeline, setting) in cases {
        let house = House::open(Options { workers: 2, args: vec![setting, "2"], ..Options::default() }).await;
        let business = house.business(6).await;
        let media = house.media().await;
        let tools = json!([{"type": "end_call"}]);
        let agent = house.agent(business, json!({"pipeline": pipeline, "greeting": "Hello.", "tools": tools})).await;
        let lines = script(&["I am {tag}.", "Goodbye now."]);
        house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
        let run = house.talking(business, agent, &numbers(6)).await;
        house.until_run_is(run, "completed").await;
        house.silent().await;
        let figures = house.sim.figures();
        assert_eq!((figures.total.created, figures.media.opened), (6, 6), "{setting}");
        assert!(figures.total.most_live <= 2, "{setting}: {} calls at once", figures.total.most_live);
        let refused: u64 = house.ctx.permits.status().iter().map(|account| account.refused).sum();
        assert_eq!((refused, ends(&house).await), (0, vec!["ended_by_agent".to_owned(); 6]), "{setting}");
        media.close().await;
        house.close().await;
    }
}

/// How all conversations ended.
async fn ends(house: &House) -> Vec<String> {
    let ends = sqlx::query_scalar!("SELECT end_reason FROM conversation ORDER BY attempt_id");
    house.until("all is kept", || async { ends_kept(house).await }).await;
    ends.fetch_all(&house.ctx.stores.pg).await.unwrap()
}

async fn ends_kept(house: &House) -> bool {
    let kept = sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM conversation) = (SELECT count(*) FROM attempt WHERE state = 'ended') AS "all!""#
    );
    kept.fetch_one(&house.ctx.stores.pg).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_in_use_keeps_others_from_being_dialed_and_is_named() {
    let house =
        House::open(Options { workers: 1, args: vec!["--elevenlabs-at-once", "1"], ..Options::default() }).await;
    let (business, owner) = (house.business(3).await, house.business(3).await);
    let media = house.media().await;
    let talks = json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]});
    let (agent, owners) = (house.agent(business, talks.clone()).await, house.agent(owner, talks).await);
    let run = house.talking(business, agent, &[vec![RINGS_UNTIL_ANSWERED.to_owned()], numbers(3)].concat()).await;
    house.until("one rings", || async { house.open_attempts().await == 1 }).await;
    let why = || {
        Box::pin(why::of_run(
            (&house.ctx.stores, &house.ctx.gate, &house.ctx.settings),
            &house.ctx.stores.pg,
            business,
            run,
        ))
    };
    let names = |why: &why::Why| {
        let room = why.blockers.iter().find(|blocker| blocker.code == "no_session_capacity");
        room.is_some_and(|room| room.detail.contains("elevenlabs"))
    };
    house.until("the run says why", || async { names(&why().await.unwrap()) }).await;
    assert!(!why().await.unwrap().dialing);
    let single = json!({"to": "+12125550111", "agent_id": agent, "variables": {"name": "Ada"}});
    let single = serde_json::from_value(single).unwrap();
    let refused = tenant::request(async {
        tenant::bind(business);
        call::place(&house.ctx, business, AttemptId::new(), single).await.unwrap_err()
    })
    .await;
    assert_eq!((refused.slug(), house.open_attempts().await), (Slug::AtCapacity, 1));
    // A business with an account of its own does not wait for the installation's.
    let url = format!("http://{}/v1/businesses/{owner}/voice/elevenlabs", house.addr);
    let own = client().put(url).json(&json!({"api_key": "its-own-key", "most_at_once": 2}));
    assert_eq!(own.bearer_auth(OPERATOR_KEY).send().await.unwrap().status(), 200);
    let lines = script(&["Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let theirs = house.talking(owner, owners, &numbers(4)).await;
    house.until_run_is(theirs, "completed").await;
    let media_figures = house.sim.figures().media;
    assert_eq!((media_figures.opened, house.jobs_in(run, "queued").await), (4, 3));
    assert!(media_figures.most_live <= 2, "{} of them at once", media_figures.most_live);
    let ringing = house.sim.calls().into_iter().find(|call| call.to == RINGS_UNTIL_ANSWERED).unwrap();
    house.sim.end(&ringing.sid, Status::NoAnswer).unwrap();
    house.stop_dialing(run).await;
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_to_be_answered_while_the_models_are_busy_waits_a_moment_and_is_answered() {
    let house = House::open(Options { workers: 1, args: vec!["--openai-at-once", "1"], ..Options::default() }).await;
    let business = house.business(6).await;
    let media = house.media().await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    let lines = script(&["I am {tag}.", "Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    house.sim.set_answers(vec![Answer {
        hears: Some("I am".into()),
        says: "That is good to hear, and it takes a while to say all of it. ".repeat(20),
        ..Answer::default()
    }]);
    let run = house.talking(business, agent, &numbers(6)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    assert_eq!((house.sim.figures().media.opened, ends(&house).await), (6, vec!["ended_by_agent".to_owned(); 6]));
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_business_whose_runs_talk_by_both_pipelines_keeps_to_each_of_their_accounts() {
    let args = vec!["--elevenlabs-at-once", "2", "--openai-at-once", "3"];
    let house = House::open(Options { workers: 1, args, ..Options::default() }).await;
    let business = house.business(8).await;
    let media = house.media().await;
    let lines = script(&["I am {tag}.", "Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let all = numbers(12);
    let mut runs = Vec::new();
    for (pipeline, some) in ["cascade", "realtime"].into_iter().zip(all.chunks(6)) {
        let tools = json!([{"type": "end_call"}]);
        let agent = house.agent(business, json!({"pipeline": pipeline, "greeting": "Hello.", "tools": tools})).await;
        runs.push(house.talking(business, agent, some).await);
    }
    for run in runs {
        house.until_run_is(run, "completed").await;
    }
    house.silent().await;
    assert_eq!((house.sim.figures().media.opened, ends(&house).await), (12, vec!["ended_by_agent".to_owned(); 12]));
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_that_hold_a_model_leave_one_permit_to_those_that_ask_it_for_answers() {
    let house = House::open(Options { workers: 1, args: vec!["--openai-at-once", "2"], ..Options::default() }).await;
    let (holds, asks) = (house.business(2).await, house.business(1).await);
    let media = house.media().await;
    let talks = |pipeline| json!({"pipeline": pipeline, "greeting": "Hello.", "tools": [{"type": "end_call"}]});
    let (holder, asker) = (house.agent(holds, talks("realtime")).await, house.agent(asks, talks("cascade")).await);
    house.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    let long = house.talking(holds, holder, &numbers(2)).await;
    house.until("one talks", || async { house.sim.figures().media.opened == 1 }).await;
    let lines = script(&["I am {tag}.", "Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let short = house.talking(asks, asker, &numbers(1)).await;
    house.until_run_is(short, "completed").await;
    assert_eq!(house.said(asks, short).await.end_reason, "ended_by_agent");
    assert_eq!(house.jobs_in(long, "queued").await, 1, "the last permit is taken by no conversation");
    house.stop_dialing(long).await;
    media.close().await;
    house.close().await;
}
