//! What an engineer sees of the processes: who is alive, who has died, and since when a round was made by nobody.

use std::time::Duration;

use rollcall::{
    config::Role,
    heartbeats::{self, Beat, Seen, State},
};

use crate::{
    house::{House, Options},
    processes::Process,
};

/// A worker that said so a moment ago, as `now_ms` by Redis' clock.
pub(crate) fn beat(name: &str, now_ms: u64) -> Beat {
    Beat {
        role: Role::Worker,
        name: name.to_owned(),
        host: "here".to_owned(),
        pid: 1,
        version: "0.1.0".to_owned(),
        started_at: now_ms / 1_000,
        beat_at: now_ms / 1_000,
        beat_at_ms: now_ms,
        interval_ms: 30_000,
        draining: false,
        queues: vec!["calls".to_owned()],
        in_flight: 3,
        media_url: None,
        most_sessions: None,
        cpu_percent: None,
        memory_bytes: None,
        sweep_age_ms: None,
        reconcile_age_ms: None,
        machine: None,
        models: None,
    }
}

async fn workers(house: &House) -> Vec<Seen> {
    heartbeats::workers(&house.ctx.stores).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_shows_as_stale_and_one_that_drains_is_gone() {
    let house = House::open(Options { args: vec!["--worker-heartbeat-interval", "1"], ..Options::default() }).await;
    let (killed, drained) = (house.worker().await, house.worker().await);
    let states = async || workers(&house).await.iter().map(|worker| worker.state).collect::<Vec<_>>();
    house.until("both are ready", || async { states().await == [State::Ready, State::Ready] }).await;
    let seen = workers(&house).await;
    assert!(seen.iter().all(|worker| worker.beat.pid > 1 && worker.beat.role == Role::Worker), "{seen:?}");
    assert!(seen.iter().all(|worker| worker.beat.memory_bytes.is_some() && worker.beat.machine.is_some()), "{seen:?}");

    let alive = async || heartbeats::any_worker(&house.ctx.stores).await.unwrap();
    drained.drain().await;
    assert_eq!(states().await, [State::Ready]);
    assert!(alive().await);
    killed.kill().await;
    house.until("the killed one is stale", || async { states().await == [State::Stale] }).await;
    assert!(!alive().await);
    assert!(workers(&house).await[0].age_ms >= 2_000);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_beats_and_only_workers_count_as_workers() {
    let house = House::open(Options::default()).await;
    let api: Process = house.api(None).await;
    let roles = async || {
        let all = heartbeats::processes(&house.ctx.stores).await.unwrap();
        all.iter().map(|process| process.beat.role).collect::<Vec<_>>()
    };
    house.until("the api beats", || async { roles().await == [Role::Api] }).await;
    assert!(workers(&house).await.is_empty());
    let worker = house.worker().await;
    house.until("the worker beats", || async { roles().await == [Role::Worker, Role::Api] }).await;
    house.close_with([api, worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_a_round_rises_while_nobody_makes_it() {
    let mut house = House::open(Options { workers: 1, ..Options::default() }).await;
    let rounds = async || heartbeats::last_rounds(&house.ctx.stores).await.unwrap();
    house
        .until("both kinds have ended once", || async {
            let ages = rounds().await;
            ages.sweep.is_some() && ages.reconcile.is_some()
        })
        .await;
    let busy = rounds().await;
    house.stop_workers().await;
    let rounds = async || heartbeats::last_rounds(&house.ctx.stores).await.unwrap();
    let aged = |age: Option<Duration>| age.is_some_and(|age| age > Duration::from_millis(2_500));
    house
        .until("both are old", || async {
            let ages = rounds().await;
            aged(ages.sweep) && aged(ages.reconcile)
        })
        .await;
    assert!(!aged(busy.sweep) && !aged(busy.reconcile), "{busy:?}");
    house.start_worker();
    let rounds = async || heartbeats::last_rounds(&house.ctx.stores).await.unwrap();
    house.until("a new worker makes them", || async { !aged(rounds().await.sweep) }).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_versions_worker_counts_as_alive_and_what_is_no_heartbeat_as_none() {
    let house = House::open(Options::default()).await;
    let (keys, mut redis) = (&house.ctx.stores.keys, house.ctx.stores.redis.clone());
    for (name, command) in [("text", "SET"), ("number", "SET"), ("list", "RPUSH")] {
        let value = if name == "number" { "1" } else { "{\"name\":" };
        let key = keys.key(format_args!("workers:{name}"));
        redis::cmd(command).arg(key).arg(value).query_async::<i64>(&mut redis).await.ok();
    }
    assert!(workers(&house).await.is_empty());
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
    house.ctx.heartbeats.write(&beat("w1", now * 1_000)).await.unwrap();
    let seen = workers(&house).await;
    assert_eq!(seen.iter().map(|worker| worker.beat.name.as_str()).collect::<Vec<_>>(), ["w1"]);

    let () = redis::cmd("DEL")
        .arg(keys.key("workers:w1"))
        .arg(keys.key("workers_dead_at"))
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(!heartbeats::any_worker(&house.ctx.stores).await.unwrap());
    let earlier = r#"{"name":"w0","host":"h","pid":1,"version":"0.0.9","started_at":10,"beat_at":20,"in_flight":3}"#;
    let () = redis::cmd("SET").arg(keys.key("workers:w0")).arg(earlier).query_async(&mut redis).await.unwrap();
    assert!(heartbeats::any_worker(&house.ctx.stores).await.unwrap());
    house.close().await;
}
