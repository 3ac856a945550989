//! Room for a conversation is found before the dial: without it nobody is called, and the run says why.

use rollcall::{
    dialing::{
        call, gate,
        next::{self, Owner},
        why,
    },
    error::Slug,
    ids::AttemptId,
    sim::{Callee, Then},
    stores::tenant,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    house::{House, Options, numbers},
    voice_house::script,
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
        let why = why::of_run((&house.ctx.stores, &house.ctx.gate), &house.ctx.stores.pg, business, run).await.unwrap();
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
