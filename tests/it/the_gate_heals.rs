//! I2, I3, I8: a gate that is empty, stale or full of ghosts costs seconds, never a limit and never a slot.

use rollcall::{
    dialing::gate::{self, Corrected},
    ids::{AttemptId, BusinessId, Held},
    jobs::claim::claim,
    sim,
    slots::{Ask, Short, Taken},
};

use crate::house::{House, Options, numbers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_gate_lets_nobody_in_until_it_is_rebuilt() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.run(business, &numbers(3)).await;
    let ask = Ask { business, slot_limit: 3, lines: 50, talks: None, account: "AC", calls_per_second: 100.0, most: 5 };
    assert_eq!(house.ctx.gate.take(&ask).await.unwrap(), Taken::NotReady);
    let held = Held { attempt: AttemptId::new(), slot: 2, line: 7 };
    assert_eq!(
        claim(
            &house.ctx.stores.pg,
            (business, rollcall::ids::Carrier::Twilio),
            "w",
            &[held],
            &house.ctx.settings.times
        )
        .await
        .unwrap()
        .len(),
        1
    );
    let done = gate::correct(&house.ctx).await.unwrap();
    assert_eq!(done, Corrected { evicted: 0, added: 1, rebuilt: true });
    let Taken::Some { held: got, short, .. } = house.ctx.gate.take(&ask).await.unwrap() else { panic!("it is open") };
    assert_eq!(got.iter().map(|h| (h.slot, h.line)).collect::<Vec<_>>(), [(1, 1), (3, 2)], "slot 2 is the ledger's");
    assert_eq!(short, Some(Short::Slots));
    rollcall::dialing::send::not_sent(&house.ctx, held.attempt, "the test is over").await;
    house
        .until("the ghosts are evicted", || async {
            gate::correct(&house.ctx).await.unwrap();
            house.ctx.gate.holders().await.unwrap().is_empty()
        })
        .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_young_holder_without_a_row_is_left_alone() {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    let business = house.business(3).await;
    let ask = Ask { business, slot_limit: 3, lines: 50, talks: None, account: "AC", calls_per_second: 100.0, most: 1 };
    house.ctx.gate.take(&ask).await.unwrap();
    assert_eq!(gate::correct(&house.ctx).await.unwrap(), Corrected::default());
    house.until("the ghost is evicted", || async { gate::correct(&house.ctx).await.unwrap().evicted == 1 }).await;
    house.close().await;
}

/// Writes entries that belong to nobody into the slots of a business and into all lines.
pub(crate) async fn written_by_somebody_else(house: &House, business: BusinessId) {
    let mut redis = house.ctx.stores.redis.clone();
    for (key, most) in [(format!("slots:{{{business}}}:held"), 3), ("lines:held".to_owned(), 50)] {
        let key = house.ctx.stores.keys.key(key);
        for number in 1..=most {
            let ghost = format!("ghost {number}");
            redis::cmd("ZADD").arg(&key).arg(number).arg(ghost).query_async::<()>(&mut redis).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_no_holder_has_keep_nobody_from_dialing() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(3).await;
    written_by_somebody_else(&house, business).await;
    let run = house.started(business, &numbers(6)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.ctx.gate.foreign(&[business]).await.unwrap(), []);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_somebody_deleted_come_back_from_the_ledger() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.run(business, &numbers(3)).await;
    house.ctx.gate.open().await.unwrap();
    let ask = Ask { business, slot_limit: 3, lines: 50, talks: None, account: "AC", calls_per_second: 100.0, most: 1 };
    let Taken::Some { held, .. } = house.ctx.gate.take(&ask).await.unwrap() else { panic!("it is open") };
    let by = (business, rollcall::ids::Carrier::Twilio);
    let claimed = claim(&house.ctx.stores.pg, by, "w", &held, &house.ctx.settings.times).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let slots = house.ctx.stores.keys.key(format!("slots:{{{business}}}:held"));
    redis::cmd("DEL").arg(&slots).query_async::<()>(&mut house.ctx.stores.redis.clone()).await.unwrap();
    assert_eq!(gate::forget_foreign(&house.ctx, &[business]).await.unwrap(), 2, "its holder and its line");
    assert_eq!(gate::correct(&house.ctx).await.unwrap().added, 1);
    assert_eq!(house.ctx.gate.foreign(&[business]).await.unwrap(), []);
    let ask = Ask { most: 5, ..ask };
    let Taken::Some { held: others, .. } = house.ctx.gate.take(&ask).await.unwrap() else { panic!("it is open") };
    assert_eq!(others.iter().map(|h| (h.slot, h.line)).collect::<Vec<_>>(), [(2, 2), (3, 3)]);
    rollcall::dialing::send::not_sent(&house.ctx, held[0].attempt, "the test is over").await;
    house
        .until("the others are evicted", || async {
            gate::correct(&house.ctx).await.unwrap();
            house.ctx.gate.holders().await.unwrap().is_empty()
        })
        .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bell_is_due_by_every_clock() {
    let house = House::open(Options::default()).await;
    let (one, other) = (house.business(3).await, house.business(3).await);
    house.ctx.ring(one).await;
    house.ctx.ring(other).await;
    let scheduled = house.ctx.stores.keys.key("dial:scheduled");
    let mut redis = house.ctx.stores.redis.clone();
    let due: Vec<(String, f64)> =
        redis::cmd("ZRANGE").arg(scheduled).arg(0).arg(-1).arg("WITHSCORES").query_async(&mut redis).await.unwrap();
    assert_eq!(due.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0.0, 0.0], "not by the clock of whoever rang");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_emptied_in_mid_run_loses_nothing_and_keeps_the_limit() {
    let sim = sim::Config { talk_ms: sim::Millis::between(20, 60), ..sim::Config::quick() };
    let house = House::open(Options { sim: Some(sim), workers: 2, ..Options::default() }).await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(40)).await;
    for emptied in [5, 15, 25] {
        house.sim.wait(sim::Until::Ended(emptied), std::time::Duration::from_secs(30)).await.unwrap();
        empty_redis(&house).await;
    }
    house.until_run_is(run, "completed").await;
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.total.numbers_called_twice), (40, 0));
    assert!(figures.total.most_live <= 3, "{} calls at once", figures.total.most_live);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_bell_and_a_doubled_bell_change_nothing_but_time() {
    let house = House::open(Options { workers: 2, ..Options::default() }).await;
    let business = house.business(3).await;
    let silent = house.run(business, &numbers(10)).await;
    house.until_run_is(silent, "completed").await;
    let loud = house.run(business, &numbers(30)[10..]).await;
    for _ in 0..20 {
        house.ctx.bells.take_down(business).await.unwrap();
        house.ctx.ring(business).await;
    }
    house.until_run_is(loud, "completed").await;
    assert_eq!(house.sim.figures().total.created, 30);
    house.close().await;
}

/// Removes every key of this installation, as FLUSHALL would.
pub(crate) async fn empty_redis(house: &House) {
    let mut redis = house.ctx.stores.redis.clone();
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(house.ctx.stores.keys.key("*")).query_async(&mut redis).await.unwrap();
    if !keys.is_empty() {
        redis::cmd("DEL").arg(keys).query_async::<()>(&mut redis).await.unwrap();
    }
}
