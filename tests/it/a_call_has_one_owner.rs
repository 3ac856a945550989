//! Whoever has the newest stream of a call has the call, and everybody else can neither renew nor write.

use futures::future::join_all;
use rollcall::{
    calls::{
        CallState, Memory, Phase, Text, Ticket,
        state::VERSION,
        store::{Next, Owner, Renewed},
    },
    ids::{AgentId, AttemptId, BusinessId, Carrier},
};
use serde_json::json;

use crate::house::{House, Options};

pub(crate) fn state() -> CallState {
    CallState {
        v: VERSION,
        business: BusinessId::new(),
        attempt: AttemptId::new(),
        run: None,
        job: None,
        direction: "outbound".into(),
        carrier: Some(Carrier::Twilio),
        account: "AC1".into(),
        call_id: format!("CA{}", uuid::Uuid::new_v4().simple()),
        from: "+12055550100".into(),
        to: "+12015550100".into(),
        answered_by: None,
        on_machine: None,
        variables: serde_json::Map::new(),
        zones: Vec::new(),
        agent: AgentId::new(),
        agent_version: 1,
        definition: Text::of(&json!({"name": "A", "prompt": "B"})).unwrap(),
        call_time_limit_secs: 600,
        phase: Phase::Answered,
        ended: None,
        memory: Memory::default(),
    }
}

pub(crate) fn ticket(state: &CallState) -> Ticket {
    Ticket {
        business: state.business,
        attempt: state.attempt,
        carrier: state.carrier,
        account: state.account.clone(),
        call_id: state.call_id.clone(),
        media_url: "ws://127.0.0.1:1/media/twilio".into(),
        frames: None,
    }
}

fn owner(session: &str, epoch: u64) -> Owner {
    Owner { session: session.into(), replica: "r".into(), epoch }
}

#[tokio::test]
async fn the_newest_claim_has_the_call_and_an_older_one_writes_nothing() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let state = state();
    calls.open(&state, &ticket(&state)).await.unwrap();
    assert_eq!(calls.waiting().await.unwrap(), 1);
    let sessions: Vec<String> = (0..50).map(|i| format!("s{i}")).collect();
    let claims = join_all(sessions.iter().map(|session| calls.claim(&state.call_id, session, "r"))).await;
    let mut epochs: Vec<(u64, &String)> =
        claims.into_iter().map(|claim| claim.unwrap().unwrap().epoch).zip(&sessions).collect();
    epochs.sort_unstable();
    assert_eq!(epochs.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    let owners: Vec<Owner> = epochs.iter().map(|(epoch, session)| owner(session, *epoch)).collect();
    let asked: Vec<_> = owners.iter().map(|owner| (state.call_id.as_str(), owner)).collect();
    let held = calls.renew(&asked).await.unwrap();
    let all = held.iter().filter(|held| **held == Renewed::Held).count();
    assert_eq!((all, held[49]), (1, Renewed::Held));
    for old in &owners[..49] {
        assert!(!calls.save(&state, old, Next::End).await.unwrap());
    }
    assert!(calls.save(&state, &owners[49], Next::GoOn).await.unwrap());
    assert_eq!(calls.waiting().await.unwrap(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_lease_that_ran_out_does_not_let_its_owner_back_in_front_of_the_next() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let state = state();
    calls.open(&state, &ticket(&state)).await.unwrap();
    let first = calls.claim(&state.call_id, "a", "r").await.unwrap().unwrap();
    let lease = house.ctx.stores.keys.key(format_args!("calls:lease:{}", state.call_id));
    let mut redis = house.ctx.stores.redis.clone();
    let _: () = redis::cmd("DEL").arg(&lease).query_async(&mut redis).await.unwrap();
    let second = calls.claim(&state.call_id, "b", "r").await.unwrap().unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 2));
    let _: () = redis::cmd("DEL").arg(&lease).query_async(&mut redis).await.unwrap();
    assert!(!calls.save(&state, &owner("a", 1), Next::GoOn).await.unwrap(), "the epoch is kept with the state");
    assert!(calls.save(&state, &owner("b", 2), Next::GoOn).await.unwrap());
    // An empty Redis is filled again by who has the call.
    let _: () = redis::cmd("DEL")
        .arg(&lease)
        .arg(house.ctx.stores.keys.key(format_args!("calls:epoch:{}", state.call_id)))
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(calls.renew(&[(&state.call_id, &owner("b", 2))]).await.unwrap(), [Renewed::Held]);
    assert_eq!(calls.renew(&[(&state.call_id, &owner("a", 1))]).await.unwrap(), [Renewed::Lost]);
    let kept = house.ctx.stores.keys.key(format_args!("calls:state:{}", state.call_id));
    let _: () = redis::cmd("DEL").arg(kept).query_async(&mut redis).await.unwrap();
    assert_eq!(calls.renew(&[(&state.call_id, &owner("b", 2))]).await.unwrap(), [Renewed::WithoutState]);
    assert!(calls.save(&state, &owner("b", 2), Next::GoOn).await.unwrap());
    house.close().await;
}

#[tokio::test]
async fn a_ticket_lets_one_stream_in_and_redis_does_not_hold_it() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let state = state();
    let text = calls.open(&state, &ticket(&state)).await.unwrap().ticket;
    assert_eq!(text.len(), 43);
    let mut redis = house.ctx.stores.redis.clone();
    let pattern = format!("{}calls:token:*", house.ctx.stores.keys.prefix());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    assert!(keys.len() == 1 && !keys[0].contains(&text), "{keys:?}");
    assert_eq!(calls.take("A").await.unwrap(), None);
    assert_eq!(calls.take(&text).await.unwrap(), Some(ticket(&state)));
    assert_eq!(calls.take(&text).await.unwrap(), None, "used");
    house.close().await;
}

#[tokio::test]
async fn an_end_is_not_undone_by_what_was_on_its_way() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let mut state = state();
    calls.open(&state, &ticket(&state)).await.unwrap();
    let claim = calls.claim(&state.call_id, "a", "r").await.unwrap().unwrap();
    let one = owner("a", claim.epoch);
    let live = state.clone();
    state.phase = Phase::Ended;
    assert!(calls.save(&state, &one, Next::End).await.unwrap());
    assert_eq!(calls.renew(&[(&state.call_id, &one)]).await.unwrap(), [Renewed::Lost]);
    assert!(!calls.save(&live, &one, Next::GoOn).await.unwrap());
    assert_eq!(calls.read(&state.call_id).await.unwrap(), Some(state.clone()));
    let lease = house.ctx.stores.keys.key(format_args!("calls:lease:{}", state.call_id));
    let mut redis = house.ctx.stores.redis.clone();
    assert!(!redis::cmd("EXISTS").arg(lease).query_async::<bool>(&mut redis).await.unwrap());
    house.close().await;
}

#[tokio::test]
async fn a_state_that_a_session_has_written_is_not_put_back_by_a_second_answer() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let mut state = state();
    calls.open(&state, &ticket(&state)).await.unwrap();
    let claim = calls.claim(&state.call_id, "a", "r").await.unwrap().unwrap();
    state.phase = Phase::Ended;
    assert!(calls.save(&state, &owner("a", claim.epoch), Next::End).await.unwrap());
    let again = CallState { phase: Phase::Answered, ..state.clone() };
    let held = calls.open(&again, &ticket(&state)).await.unwrap().held;
    assert_eq!(held.phase, Phase::Ended);
    calls.forget(&state.call_id).await.unwrap();
    assert_eq!(calls.waiting().await.unwrap(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_stream_after_one_that_no_session_came_of_gives_the_call_no_more_time() {
    let house = House::open(Options::default()).await;
    let calls = &house.ctx.calls;
    let state = state();
    let watched = house.ctx.stores.keys.key("calls:watched");
    let looked_for = async || {
        let mut redis = house.ctx.stores.redis.clone();
        redis::cmd("ZSCORE").arg(&watched).arg(&state.call_id).query_async::<f64>(&mut redis).await.unwrap()
    };
    let early = async || {
        let mut redis = house.ctx.stores.redis.clone();
        redis::cmd("ZADD").arg(&watched).arg(1).arg(&state.call_id).query_async::<()>(&mut redis).await.unwrap();
    };
    assert_eq!(calls.open(&state, &ticket(&state)).await.unwrap().tickets, 1);
    assert!(looked_for().await > 1.0);
    early().await;
    assert_eq!(calls.open(&state, &ticket(&state)).await.unwrap().tickets, 2);
    assert!(looked_for().await <= 1.0, "it is looked for when it was to be");
    // A session that broke off has had the call: the next one may take as long as the first.
    calls.claim(&state.call_id, "a", "r").await.unwrap().unwrap();
    early().await;
    assert_eq!(calls.open(&state, &ticket(&state)).await.unwrap().tickets, 3);
    assert!(looked_for().await > 1.0);
    calls.forget(&state.call_id).await.unwrap();
    house.close().await;
}
