//! I1, I2, I5: replicas need not know each other. Two apis, three workers, every bell and every callback doubled.

use std::time::Duration;

use rollcall::sim::{self, CallbackFault, Faults, Millis, Rule, Until};

use crate::{
    house::{House, Options, numbers},
    processes::Door,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_everything_call_every_number_once() {
    let sim = sim::Config {
        accept_delay_ms: Millis::between(5, 30),
        talk_ms: Millis::between(10, 60),
        ..sim::Config::quick()
    };
    let mut house = House::open(Options { sim: Some(sim), ..Options::default() }).await;
    house
        .sim
        .set_faults(Faults { callback: vec![Rule::share(CallbackFault::Doubled, 1.0)], ..Faults::default() })
        .unwrap();
    let door = Door::open().await;
    house.call_back_at(door.addr);
    let apis = [house.api(None).await, house.api(None).await];
    door.leads_to(&[&apis[0], &apis[1]]).await;
    let workers = [house.worker().await, house.worker().await, house.worker().await];
    let (a, b) = (house.business(2).await, house.business(3).await);
    let runs = [house.started(a, &numbers(30)).await, house.started(b, &numbers(30)).await];
    for calls in 1..=60 {
        house.sim.wait(Until::Created(calls), Duration::from_secs(60)).await.unwrap();
        for business in [a, b] {
            // A bell that is taken down is rung anew: so there are two.
            house.ctx.bells.take_down(business).await.unwrap();
            house.ctx.ring(business).await;
        }
    }
    for run in runs {
        house.until_run_is(run, "completed").await;
    }
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.total.numbers_called_twice), (60, 0));
    let mut most: Vec<u64> = figures.accounts.values().map(|account| account.most_live).collect();
    most.sort_unstable();
    assert!(most[0] <= 2 && most[1] <= 3, "{most:?} calls at once");
    house.tallies_equal_the_jobs().await;
    house.sim.wait(Until::Idle, Duration::from_secs(60)).await.unwrap();
    for api in apis {
        assert!(api.log().contains("slot freed"), "the carrier called both apis");
        api.drain().await;
    }
    for worker in workers {
        worker.drain().await;
    }
    house.close().await;
}
