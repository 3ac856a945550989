//! I8: tasks that the queue library cannot read cost a moment, and each is read once.

use rollcall::sim;

use crate::house::{House, Options, numbers};

const POISON: usize = 9;

/// Tasks without data, with data that is no JSON, and with JSON that is no bell, before everything else in the queue.
async fn poison(house: &House, config: &apalis_redis::Config) {
    let mut redis = house.ctx.stores.redis.clone();
    for n in 0..POISON {
        let id = format!("poison:{n}");
        let mut pipe = redis::pipe();
        if n % 3 > 0 {
            let data = if n % 3 == 1 { "{ this is no JSON" } else { r#"{"business": 7}"# };
            pipe.hset(config.job_data_hash(), &id, data).ignore();
        }
        pipe.lpush(config.active_jobs_list(), id).ignore();
        pipe.query_async::<()>(&mut redis).await.unwrap();
    }
}

/// Poisoned tasks that are still to be taken, taken, or kept.
async fn left(house: &House, config: &apalis_redis::Config) -> Vec<String> {
    let mut redis = house.ctx.stores.redis.clone();
    let mut ids: Vec<String> =
        redis::cmd("LRANGE").arg(config.active_jobs_list()).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    let sets: Vec<String> =
        redis::cmd("KEYS").arg(format!("{}:*", config.inflight_jobs_set())).query_async(&mut redis).await.unwrap();
    for set in sets {
        ids.extend(redis::cmd("SMEMBERS").arg(set).query_async::<Vec<String>>(&mut redis).await.unwrap());
    }
    let kept: Vec<String> = redis::cmd("HKEYS").arg(config.job_data_hash()).query_async(&mut redis).await.unwrap();
    ids.into_iter().chain(kept).filter(|id| id.starts_with("poison:")).collect()
}

/// What the library keeps of each queue worker that ever was, and how long it still does, s; -1 is for ever.
async fn descriptions(house: &House, config: &apalis_redis::Config) -> Vec<(String, i64)> {
    let mut redis = house.ctx.stores.redis.clone();
    let pattern = format!("{}:metadata:*", config.workers_set());
    let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    let mut asked = redis::pipe();
    for name in &names {
        asked.ttl(name);
    }
    let left: Vec<i64> = asked.query_async(&mut redis).await.unwrap();
    names.into_iter().zip(left).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_cannot_be_read_are_read_once_and_calls_go_on() {
    let sim = sim::Config { talk_ms: sim::Millis::between(10, 60), ..sim::Config::quick() };
    let house = House::open(Options { sim: Some(sim), workers: 2, ..Options::default() }).await;
    let business = house.business(3).await;
    let config = apalis_redis::Config::default().queue(house.ctx.stores.keys.key("dial"));
    poison(&house, &config).await;
    let run = house.started(business, &numbers(12)).await;
    house.until_run_is(run, "completed").await;
    house.until("nothing of them is left", || async { left(&house, &config).await.is_empty() }).await;
    let of_workers = descriptions(&house, &config).await;
    assert!(of_workers.len() > 2, "a worker ended of them and another came: {of_workers:?}");
    assert!(of_workers.iter().all(|(_, left)| *left > 0), "a description that stays for ever: {of_workers:?}");
    house.close().await;
}
