//! The gate itself counts who talks to an agent, so that no two answers of different times are put together.

use rollcall::{
    dialing::{
        gate,
        next::{self, Owner},
        send,
    },
    ids::{AttemptId, BusinessId, Held},
    sim::{Callee, Then},
    slots::{Ask, Learned, Short, Taken, Talks},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    house::{House, Options, numbers},
    voice_house::script,
};

/// Takes for this business where two conversations may be at once.
async fn takes(house: &House, business: BusinessId, talks: bool, most: usize) -> (Vec<AttemptId>, Option<Short>) {
    let talks = talks.then(|| Talks::of(2));
    let ask = Ask { business, slot_limit: 50, lines: 50, talks, account: "AC", calls_per_second: 10_000.0, most };
    match house.ctx.gate.take(&ask).await.unwrap() {
        Taken::Some { held, short, .. } => (held.iter().map(|one| one.attempt).collect(), short),
        Taken::NotReady => panic!("the gate is open"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_that_talk_have_room_of_their_own_until_they_are_said_to_be_silent_or_end() {
    let house = House::open(Options::default()).await;
    let gate = &house.ctx.gate;
    gate.open().await.unwrap();
    let (one, other) = (BusinessId::new(), BusinessId::new());
    let (talking, short) = takes(&house, one, true, 3).await;
    assert_eq!((talking.len(), short), (2, Some(Short::Talks)));
    assert_eq!(takes(&house, other, true, 1).await, (Vec::new(), Some(Short::Talks)), "the room is the installation's");
    let (silent, short) = takes(&house, other, false, 4).await;
    assert_eq!((silent.len(), short), (4, None), "who does not talk needs none");
    assert_eq!(gate.release(other, "AC", &silent[..3], Learned::Told).await.unwrap().held, 3);
    assert_eq!(takes(&house, other, true, 1).await.0, [], "and leaves none when it ends");
    assert_eq!(
        gate.claimed(&Talks::of(2), &talking[..1], &silent).await.unwrap(),
        silent[..3],
        "who has ended finds no room"
    );
    assert_eq!(takes(&house, other, true, 1).await.0, [], "the fourth has the room of the first");
    assert_eq!(gate.release(one, "AC", &talking[1..], Learned::Told).await.unwrap().held, 1);
    let (next, _) = takes(&house, other, true, 2).await;
    assert_eq!(next.len(), 1);
    assert_eq!(gate.claimed(&Talks::of(2), &[], &next).await.unwrap(), [], "who is counted is counted once");
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_learns_from_the_ledger_who_talks() {
    let house = House::open(Options::default()).await;
    let (talks, says) = (house.business(4).await, house.business(4).await);
    let agent = house.agent(talks, json!({"greeting": "Hello."})).await;
    let runs = [house.talking(talks, agent, &numbers(1)).await, house.run(says, &numbers(2)).await];
    // The first line is taken when the second business claims.
    let open = [house.claim(talks, 1).await, house.claim(says, 2).await].concat();
    assert_eq!(open.iter().map(|one| one.talks.as_deref()).collect::<Vec<_>>(), [Some("cascade"), None]);
    gate::correct(&house.ctx).await.unwrap();
    assert_eq!(takes(&house, says, true, 2).await.0.len(), 1, "one of two talks already");
    for one in open {
        send::not_sent(&house.ctx, one.attempt, "the test is over").await;
    }
    for run in runs {
        house.stop_dialing(run).await;
    }
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_gate_that_somebody_deleted_leave_nobody_counted_as_a_conversation() {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    assert_eq!(takes_by(&house, BusinessId::new(), &[("deepgram", 2)], 2).await.0.len(), 2);
    let deleted = ["gate:holders", "lines:held"].map(|key| house.ctx.stores.keys.key(key));
    let mut redis = house.ctx.stores.redis.clone();
    redis::cmd("DEL").arg(&deleted).query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(takes(&house, BusinessId::new(), true, 1).await, (Vec::new(), Some(Short::Talks)));
    gate::forget_foreign(&house.ctx, &[]).await.unwrap();
    assert_eq!(house.ctx.gate.talking_by(&[("deepgram".to_owned(), 2)]).await.unwrap(), [0]);
    let named = redis::cmd("SMEMBERS").arg(house.ctx.stores.keys.key("lines:talking:accounts")).to_owned();
    let accounts: Vec<String> = named.query_async(&mut redis).await.unwrap();
    assert_eq!(accounts, [] as [&str; 0], "an account that nobody uses is not looked at for ever");
    assert_eq!(takes_by(&house, BusinessId::new(), &[("openai", 2)], 1).await.0.len(), 1);
    gate::forget_foreign(&house.ctx, &[]).await.unwrap();
    let accounts: Vec<String> = named.query_async(&mut redis).await.unwrap();
    assert_eq!(accounts, ["openai"]);
    assert_eq!(takes(&house, BusinessId::new(), true, 1).await.0.len(), 1);
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_agent_is_not_known_yet_is_dialed_as_far_as_there_is_room() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(4).await;
    let media = house.media_for(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "tools": [{"type": "end_call"}]})).await;
    house.sim.set_callees(vec![Callee { lines: script(&["Goodbye now."]), then: Then::Stays, ..Callee::default() }]);
    gate::correct(&house.ctx).await.unwrap();
    let run = house.run(business, &numbers(4)).await;
    assert!(house.ctx.profile(business).await.unwrap().unwrap().talks.is_empty());
    house.talks_in(agent, run).await;
    let owner = Owner::new("by hand", CancellationToken::new());
    next::next(&house.ctx, &owner, business).await.unwrap();
    owner.sends.close();
    owner.sends.wait().await;
    assert_eq!((house.sim.figures().total.created, house.attempts_in("not_sent").await), (1, 3));
    house.start_worker();
    house.until_run_is(run, "completed").await;
    let figures = house.sim.figures();
    assert_eq!((figures.media.opened, figures.media.most_live, figures.media.refused), (4, 1, 0));
    media.close().await;
    house.close().await;
}

/// Takes for a business whose conversations use these accounts, where each may be used by so many.
async fn takes_by(
    house: &House,
    business: BusinessId,
    accounts: &[(&str, i32)],
    most: usize,
) -> (Vec<AttemptId>, Option<Short>) {
    let accounts = accounts.iter().map(|(name, most)| ((*name).to_owned(), *most)).collect();
    let talks = Some(Talks { most: 20, accounts });
    let ask = Ask { business, slot_limit: 50, lines: 50, talks, account: "AC", calls_per_second: 10_000.0, most };
    match house.ctx.gate.take(&ask).await.unwrap() {
        Taken::Some { held, short, .. } => (held.iter().map(|one| one.attempt).collect(), short),
        Taken::NotReady => panic!("the gate is open"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_of_a_voice_provider_has_no_more_conversations_than_it_allows_whosever_they_are() {
    let house = House::open(Options::default()).await;
    let gate = &house.ctx.gate;
    gate.open().await.unwrap();
    let (one, other) = (BusinessId::new(), BusinessId::new());
    let (hears, speaks) = (("deepgram", 5), ("elevenlabs", 2));
    let (first, short) = takes_by(&house, one, &[hears, speaks], 3).await;
    assert_eq!((first.len(), short), (2, Some(Short::Talks)));
    assert_eq!(takes_by(&house, other, &[hears, speaks], 1).await, (Vec::new(), Some(Short::Talks)));
    let own = ("elevenlabs:own", 1);
    let (with_own, short) = takes_by(&house, other, &[hears, own], 2).await;
    assert_eq!((with_own.len(), short), (1, Some(Short::Talks)), "an account of its own has room of its own");
    let used =
        |accounts: &[(&str, i32)]| accounts.iter().map(|(name, most)| ((*name).to_owned(), *most)).collect::<Vec<_>>();
    let all = used(&[hears, speaks, own]);
    assert_eq!(gate.talking_by(&all).await.unwrap(), [3, 2, 1]);
    // A claim says that the first talks by another pipeline, and the second to nobody.
    let realtime = Talks { most: 20, accounts: used(&[("openai", 1)]) };
    assert_eq!(gate.claimed(&realtime, &first[1..], &first[..1]).await.unwrap(), []);
    assert_eq!(gate.talking_by(&all).await.unwrap(), [1, 0, 1]);
    assert_eq!(gate.claimed(&realtime, &[], &with_own).await.unwrap(), with_own, "that account has no room left");
    assert_eq!(gate.release(other, "AC", &with_own, Learned::Told).await.unwrap().held, 1);
    assert_eq!(gate.release(one, "AC", &first, Learned::Told).await.unwrap().held, 2);
    assert_eq!(gate.talking_by(&used(&[hears, speaks, own, ("openai", 1)])).await.unwrap(), [0; 4]);
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_added_while_somebody_takes_it_is_counted_by_no_account_that_it_does_not_use() {
    let house = House::open(Options::default()).await;
    let gate = &house.ctx.gate;
    gate.open().await.unwrap();
    let business = BusinessId::new();
    let (taken, _) = takes_by(&house, business, &[("deepgram", 3), ("openai", 3)], 2).await;
    // The sweep has read the holders before these were taken, and the ledger after their claim.
    let realtime = Talks { most: 20, accounts: vec![("openai".to_owned(), 3)] };
    for (place, (attempt, talks)) in (1..).zip(taken.iter().zip([Some(&realtime), None])) {
        let held = Held { attempt: *attempt, slot: place, line: place };
        assert!(gate.hold(business, held, talks).await.unwrap());
    }
    let all = [("deepgram".to_owned(), 3), ("openai".to_owned(), 3)];
    assert_eq!(gate.talking_by(&all).await.unwrap(), [0, 1]);
    assert_eq!(gate.release(business, "AC", &taken, Learned::Told).await.unwrap().held, 2);
    assert_eq!(gate.talking_by(&all).await.unwrap(), [0, 0]);
    house.empty().await;
}
