//! I2: never more live calls than the limit, whoever races and whatever the gate says.

use std::collections::HashSet;

use rollcall::{
    config::Times,
    ids::{AttemptId, BusinessId, Held},
    jobs::claim::claim,
    slots::{Ask, Learned, Taken},
};

use crate::house::{House, Options, numbers};

fn ask(business: BusinessId, limit: i32, most: usize) -> Ask<'static> {
    Ask { business, slot_limit: limit, lines: 50, talks: None, account: "AC", calls_per_second: 10_000.0, most }
}

async fn open(house: &House) {
    house.ctx.gate.open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_askers_three_are_let_in() {
    let house = House::open(Options::default()).await;
    open(&house).await;
    let business = BusinessId::new();
    let asked = (0..64).map(|_| {
        let gate = house.ctx.gate.clone();
        tokio::spawn(async move { gate.take(&ask(business, 3, 1)).await.unwrap() })
    });
    let mut held = Vec::new();
    for one in asked.collect::<Vec<_>>() {
        let Taken::Some { held: some, .. } = one.await.unwrap() else { panic!("the gate is open") };
        held.extend(some);
    }
    assert_eq!(held.len(), 3);
    assert_eq!(held.iter().map(|h| h.slot).collect::<HashSet<_>>(), HashSet::from([1, 2, 3]));
    let ids: Vec<_> = held.iter().map(|h| h.attempt).collect();
    assert_eq!(house.ctx.gate.release(business, "AC", &ids, Learned::NoCall).await.unwrap().held, 3);
    assert_eq!(
        house.ctx.gate.release(business, "AC", &ids, Learned::NoCall).await.unwrap().held,
        0,
        "a second release changes nothing"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_came_and_went_the_lowest_free_numbers_are_handed_out() {
    let house = House::open(Options::default()).await;
    open(&house).await;
    let businesses = [BusinessId::new(), BusinessId::new(), BusinessId::new()];
    let mut held: Vec<(BusinessId, Held)> = Vec::new();
    for round in 0..60_usize {
        let (business, most) = (businesses[round % 3], 1 + round * 7 % 11);
        let taken: HashSet<i32> = held.iter().filter(|(of, _)| *of == business).map(|(_, h)| h.slot).collect();
        let lines: HashSet<i32> = held.iter().map(|(_, h)| h.line).collect();
        let lowest = |used: HashSet<i32>| (1..).filter(move |n| !used.contains(n));
        let ask = Ask { lines: 200, ..ask(business, 20, most) };
        let Taken::Some { held: got, .. } = house.ctx.gate.take(&ask).await.unwrap() else {
            panic!("the gate is open")
        };
        assert_eq!(got.len(), most.min(20 - taken.len()), "round {round}");
        let numbers: Vec<_> = got.iter().map(|h| (h.slot, h.line)).collect();
        assert_eq!(numbers, lowest(taken).zip(lowest(lines)).take(got.len()).collect::<Vec<_>>(), "round {round}");
        held.extend(got.into_iter().map(|h| (business, h)));
        // Of all that are held, some in the middle go; at last all.
        let goes = |h: &Held| round == 59 || (h.line * 31 + i32::try_from(round).unwrap()) % 5 == 0;
        for (business, h) in held.extract_if(.., |(_, h)| goes(h)) {
            assert_eq!(house.ctx.gate.release(business, "AC", &[h.attempt], Learned::NoCall).await.unwrap().held, 1);
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_claim_keeps_the_limit_though_the_gate_lets_everyone_in() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.run(business, &numbers(64)).await;
    let times = house.ctx.settings.times.clone();
    let claims = (0..64).map(|i| {
        let (pg, times) = (house.ctx.stores.pg.clone(), times.clone());
        // Every asker believes that it alone holds this slot and a line of its own.
        let held = Held { attempt: AttemptId::new(), slot: 1 + i % 5, line: 1 + i % 50 };
        tokio::spawn(
            async move { claim(&pg, (business, rollcall::ids::Carrier::Twilio), "racer", &[held], &times).await },
        )
    });
    let mut claimed = 0;
    for one in claims.collect::<Vec<_>>() {
        // A claim that waited too long for the business's lock has claimed nothing.
        claimed += one.await.unwrap().map_or(0, |c| c.len());
    }
    assert!(claimed <= 3, "{claimed} claimed");
    assert_eq!(house.open_attempts().await, i64::try_from(claimed).unwrap());
    end_all(&house).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_lowered_below_the_live_calls_lets_no_new_one_in_until_they_end() {
    let house = House::open(Options::default()).await;
    let business = house.business(5).await;
    house.run(business, &numbers(64)).await;
    let times = house.ctx.settings.times.clone();
    let live = claim_slots(&house, business, &[1, 2, 3, 4, 5], &times).await;
    assert_eq!(live.len(), 5);
    set_limit(&house, business, 3).await;
    end(&house, &[live[0], live[1]]).await;
    // Slots 1 and 2 are free and within the limit, but three calls are live: 3, 4 and 5.
    assert!(claim_slots(&house, business, &[1, 2], &times).await.is_empty());
    end(&house, &[live[2]]).await;
    assert_eq!(claim_slots(&house, business, &[1, 2], &times).await.len(), 1);
    set_limit(&house, business, 5).await;
    assert_eq!(claim_slots(&house, business, &[2, 3], &times).await.len(), 2);
    end_all(&house).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_lines_lowered_holds_over_all_businesses() {
    let house = House::open(Options::default()).await;
    let (a, b) = (house.business(5).await, house.business(5).await);
    house.run(a, &numbers(20)).await;
    house.run(b, &numbers(20)).await;
    let times = house.ctx.settings.times.clone();
    let pg = &house.ctx.stores.pg;
    let lines = |business, lines: &'static [i32]| {
        let held: Vec<Held> = lines
            .iter()
            .enumerate()
            .map(|(i, &line)| Held { attempt: AttemptId::new(), slot: i32::try_from(i).unwrap() + 1, line })
            .collect();
        let times = times.clone();
        async move {
            claim(pg, (business, rollcall::ids::Carrier::Twilio), "w", &held, &times)
                .await
                .unwrap()
                .iter()
                .map(|c| c.attempt)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(lines(a, &[4, 5, 6]).await.len(), 3);
    sqlx::query!("UPDATE installation SET max_lines = 4").execute(pg).await.unwrap();
    assert_eq!(lines(b, &[1, 2, 3]).await.len(), 1, "three are live, one more is allowed");
    assert!(lines(b, &[2, 3]).await.is_empty());
    end_all(&house).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_holds_at_the_carrier_while_it_changes_in_mid_run() {
    let sim =
        rollcall::sim::Config { talk_ms: rollcall::sim::Millis::between(5, 20), ..rollcall::sim::Config::quick() };
    let house = House::open(Options { sim: Some(sim), workers: 4, ..Options::default() }).await;
    let business = house.business(5).await;
    let run = house.started(business, &numbers(150)).await;
    for limit in [3, 5, 3, 5] {
        let wanted = house.sim.figures().total.ended + 25;
        house.sim.wait(rollcall::sim::Until::Ended(wanted), std::time::Duration::from_secs(30)).await.unwrap();
        set_limit(&house, business, limit).await;
    }
    house.until_run_is(run, "completed").await;
    let figures = house.sim.figures();
    assert!(figures.total.most_live <= 5, "{} calls at once", figures.total.most_live);
    assert_eq!((figures.total.created, figures.total.numbers_called_twice), (150, 0));
    house.close().await;
}

async fn claim_slots(house: &House, business: BusinessId, slots: &[i32], times: &Times) -> Vec<AttemptId> {
    let held: Vec<Held> = slots.iter().map(|&slot| Held { attempt: AttemptId::new(), slot, line: 10 + slot }).collect();
    let claimed =
        claim(&house.ctx.stores.pg, (business, rollcall::ids::Carrier::Twilio), "w", &held, times).await.unwrap();
    claimed.iter().map(|c| c.attempt).collect()
}

async fn set_limit(house: &House, business: BusinessId, limit: i32) {
    sqlx::query!("UPDATE business SET max_concurrent_calls = $2 WHERE business_id = $1", business.0, limit)
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
}

async fn end(house: &House, attempts: &[AttemptId]) {
    for attempt in attempts {
        rollcall::dialing::send::not_sent(&house.ctx, *attempt, "the test is over").await;
    }
}

async fn end_all(house: &House) {
    let open = sqlx::query_scalar!(r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt WHERE open"#)
        .fetch_all(&house.ctx.stores.pg)
        .await
        .unwrap();
    end(house, &open).await;
}
