//! Lines are shared by all businesses: where they are scarce, each business gets them in turn, however much it has to dial.

use std::{collections::HashMap, time::Duration};

use reqwest::Method;
use rollcall::{
    dialing::gate,
    ids::BusinessId,
    sim,
    slots::{Ask, Learned, Short, Taken, Talks},
};
use serde_json::json;

use crate::{
    house::{House, Options, caller_id, numbers},
    single_calls_go_first,
};

fn ask(business: BusinessId) -> Ask<'static> {
    Ask { business, slot_limit: 50, lines: 3, talks: None, account: "AC", calls_per_second: 10_000.0, most: 8 }
}

impl House {
    /// Ends a test whose calls are known to the gate alone.
    pub(crate) async fn empty(self) {
        let evicted = || async {
            gate::correct(&self.ctx).await.unwrap();
            self.ctx.gate.holders().await.unwrap().is_empty()
        };
        self.until("holders without a row are evicted", evicted).await;
        self.close().await;
    }

    /// How many lines the business gets.
    async fn takes(&self, business: BusinessId) -> usize {
        match self.ctx.gate.take(&ask(business)).await.unwrap() {
            Taken::Some { held, .. } => held.len(),
            Taken::NotReady => panic!("the gate is open"),
        }
    }

    /// Ends one of the calls of a business; whose turn it is then.
    async fn ends_one(&self, business: BusinessId) -> Vec<BusinessId> {
        let holders = self.ctx.gate.holders().await.unwrap();
        let one = holders.iter().find(|holder| holder.business == business).unwrap();
        self.ctx.gate.release(business, "AC", &[one.attempt], Learned::Told).await.unwrap().turns
    }
}

async fn three_at_a_full_gate() -> (House, [BusinessId; 3]) {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    let [first, second, third] = std::array::from_fn(|_| BusinessId::new());
    assert_eq!(house.takes(first).await, 3);
    assert_eq!((house.takes(second).await, house.takes(third).await), (0, 0));
    (house, [first, second, third])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_comes_free_is_for_whoever_has_waited_longest() {
    let (house, [first, second, third]) = three_at_a_full_gate().await;
    // The first wants more than it got, so it waits too, before the others.
    assert_eq!(house.ends_one(first).await, [first]);
    assert_eq!(house.ends_one(first).await, [second]);
    assert_eq!((house.takes(third).await, house.takes(third).await), (0, 0), "both lines are kept for others");
    assert_eq!((house.takes(second).await, house.takes(first).await), (1, 1));
    assert_eq!(house.ends_one(first).await, [third], "it has lost no place by asking");
    assert_eq!(house.takes(second).await, 0);
    assert_eq!(house.takes(third).await, 1);
    assert_eq!(house.ends_one(third).await, [second], "whoever has had its turn waits behind the others");
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_nothing_to_dial_hands_its_turn_on() {
    let (house, [first, second, third]) = three_at_a_full_gate().await;
    assert_eq!(house.ctx.gate.nothing_due(first, "AC", &[]).await.unwrap().turns, []);
    assert_eq!(house.ends_one(first).await, [second]);
    assert_eq!(house.ctx.gate.nothing_due(second, "AC", &[]).await.unwrap().turns, [third]);
    // It took the line before it saw that nothing is due.
    let Taken::Some { held, waited, .. } = house.ctx.gate.take(&ask(third)).await.unwrap() else {
        panic!("it is open")
    };
    assert!(held.len() == 1 && waited.is_some(), "{held:?} after {waited:?}");
    assert_eq!(house.takes(second).await, 0);
    let freed = house.ctx.gate.nothing_due(third, "AC", &[held[0].attempt]).await.unwrap();
    assert_eq!((freed.held, freed.turns), (1, vec![second]), "it does not come round to itself");
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_its_business_cannot_use_goes_round_once() {
    let (house, [first, second, third]) = three_at_a_full_gate().await;
    assert_eq!(house.ctx.gate.nothing_due(first, "AC", &[]).await.unwrap().turns, []);
    assert_eq!(house.ends_one(first).await, [second]);
    let no_room = |business| Ask { talks: Some(Talks::of(0)), ..ask(business) };
    let Taken::Some { held, short, turns, .. } = house.ctx.gate.take(&no_room(second)).await.unwrap() else { panic!() };
    assert_eq!((held.len(), short, turns), (0, Some(Short::Talks), vec![third]));
    let Taken::Some { turns, .. } = house.ctx.gate.take(&no_room(third)).await.unwrap() else { panic!() };
    assert_eq!(turns, [], "the second has had this one");
    assert_eq!(house.ends_one(first).await, [], "they lack room, not lines");
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_goes_ahead_of_lists_takes_a_line_that_is_kept_for_one() {
    let (house, [first, second, third]) = three_at_a_full_gate().await;
    assert_eq!(house.ends_one(first).await, [first]);
    let ahead = rollcall::ids::AttemptId::new();
    let Taken::Some { held, .. } = house.ctx.gate.take_ahead(&ask(third), ahead).await.unwrap() else { panic!() };
    assert_eq!(held.len(), 1);
    assert_eq!((house.takes(first).await, house.takes(second).await), (0, 0));
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_businesses_at_two_lines_advance_together() {
    let sim = sim::Config { talk_ms: sim::Millis::between(50, 80), ..sim::Config::quick() };
    let house = House::open(Options { sim: Some(sim), ..Options::default() }).await;
    sqlx::query!("UPDATE installation SET max_lines = 2").execute(&house.ctx.stores.pg).await.unwrap();
    // The first has most to do and most slots, and began first.
    let (mut house, sizes) = (house, [(20, 60), (5, 12), (5, 12)]);
    let mut froms = Vec::new();
    for (i, (slots, leads)) in sizes.into_iter().enumerate() {
        let business = house.business(slots).await;
        let of_its_own: Vec<String> = numbers(300)[i * 100..].iter().take(leads).cloned().collect();
        house.run(business, &of_its_own).await;
        froms.push(caller_id(business));
    }
    house.start_worker();
    house.sim.wait(sim::Until::Ended(84), Duration::from_secs(60)).await.unwrap();
    let mut made = HashMap::<String, usize>::new();
    for call in house.sim.calls() {
        *made.entry(call.from.clone()).or_default() += 1;
        let of = |i: usize| made.get(&froms[i]).copied().unwrap_or(0);
        if of(1) >= 2 && of(2) >= 2 && of(1) < 12 && of(2) < 12 {
            let (least, most) = (of(0).min(of(1)).min(of(2)), of(0).max(of(1)).max(of(2)));
            assert!(most - least <= 8, "calls so far: {} {} {}", of(0), of(1), of(2));
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_says_that_the_account_has_had_its_calls_of_this_second() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = BusinessId::new();
    let account = format!("AC{}", business.0.simple());
    house.business_with(business, 9, &account, "secret token of the account", 0.02).await;
    let run = house.started(business, &numbers(3)).await;
    house.sim.wait(sim::Until::Ended(1), Duration::from_secs(30)).await.unwrap();
    let (status, why) =
        single_calls_go_first::ask(&house, business, Method::GET, &format!("/v1/runs/{run}/why"), None).await;
    let pace = why["blockers"].as_array().unwrap().iter().find(|blocker| blocker["code"] == "pace");
    let pace = pace.unwrap_or_else(|| panic!("{status} {why}"));
    assert_eq!((&pace["count"], &why["dialing"]), (&json!(2), &json!(true)), "{why}");
    assert!(pace["next_at"].as_str() > why["at"].as_str(), "{why}");
    assert_eq!(why["next_possible_at"], pace["next_at"], "{why}");
    house.stop_dialing(run).await;
    house.close().await;
}
