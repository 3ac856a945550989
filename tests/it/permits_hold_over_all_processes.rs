//! A provider's limit for an account is kept by all calls programs together, and nobody waits for it but who says so.

use std::time::Duration;

use rollcall::{
    ids::AttemptId,
    models::{Login, Permits, Provider},
};

use crate::house::{House, Options};

fn login(key: &str, most: usize) -> Login {
    Login::new(Provider::Deepgram, "http://127.0.0.1/".parse().unwrap(), key.into(), most)
}

fn call() -> AttemptId {
    AttemptId(uuid::Uuid::now_v7())
}

/// How many calls hold a permit of this account, as Redis has it.
async fn held(house: &House, login: &Login) -> u64 {
    let key = house.ctx.stores.keys.key(format_args!("calls:permits:deepgram:{}", login.account()));
    redis::cmd("ZCARD").arg(key).query_async(&mut house.ctx.stores.redis.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_per_account_over_all_processes_and_a_dropped_permit_is_free() {
    let house = House::open(Options::default()).await;
    let (here, there) = (Permits::new(&house.ctx.stores), Permits::new(&house.ctx.stores));
    let (one, other) = (login("one", 2), login("other", 2));
    let first = here.take(&one, call()).await.unwrap();
    let second = there.take(&one, call()).await.unwrap();
    assert!(here.take(&one, call()).await.is_err() && there.take(&one, call()).await.is_err());
    assert!(there.take(&other, call()).await.is_ok(), "another account");
    first.answered(Duration::from_millis(70));
    let status = here.status();
    let seen = status.iter().find(|seen| seen.account == one.account()).unwrap();
    assert_eq!((seen.in_flight, seen.permits, seen.refused, seen.p99_ms), (1, 2, 1, Some(70)));
    drop(first);
    house.until("it is free", || async { held(&house, &one).await == 1 }).await;
    assert!(there.take(&one, call()).await.is_ok());
    drop(second);
    house.until("nothing is held", || async { held(&house, &one).await == 0 }).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_taken_over_keeps_its_permit_and_who_had_it_before_cannot_free_it() {
    let house = House::open(Options::default()).await;
    let (here, there) = (Permits::new(&house.ctx.stores), Permits::new(&house.ctx.stores));
    let (account, moving) = (login("full", 1), call());
    let before = here.take(&account, moving).await.unwrap();
    let after = there.take(&account, moving).await.unwrap();
    drop(before);
    // It says that it holds nothing, after what it said of the one it dropped.
    here.renew().await;
    assert!(there.take(&account, call()).await.is_err());
    let third = Permits::new(&house.ctx.stores);
    assert!(third.take(&account, call()).await.is_err());
    drop(after);
    house.until("it is free", || async { held(&house, &account).await == 0 }).await;
    assert!(third.take(&account, call()).await.is_ok());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgot_them_is_told_again_and_a_silent_process_loses_its_own() {
    let house = House::open(Options::default()).await;
    let (here, there) = (Permits::new(&house.ctx.stores), Permits::new(&house.ctx.stores));
    let account = login("forgotten", 1);
    let kept = here.take(&account, call()).await.unwrap();
    let key = house.ctx.stores.keys.key(format_args!("calls:permits:deepgram:{}", account.account()));
    let holders = house.ctx.stores.keys.key(format_args!("calls:permits:holders:deepgram:{}", account.account()));
    let mut redis = house.ctx.stores.redis.clone();
    let () = redis::cmd("DEL").arg(&key).arg(&holders).query_async(&mut redis).await.unwrap();
    here.renew().await;
    assert!(there.take(&account, call()).await.is_err(), "it is held again");
    // As if it had said nothing for longer than a permit lives.
    let calls: Vec<String> = redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    let () = redis::cmd("ZADD").arg(&key).arg(1).arg(&calls[0]).query_async(&mut redis).await.unwrap();
    assert!(there.take(&account, call()).await.is_ok());
    drop(kept);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_permit_is_given_the_next_that_comes_free_and_no_longer_than_it_said() {
    let house = House::open(Options::default()).await;
    let (here, there) = (Permits::new(&house.ctx.stores), Permits::new(&house.ctx.stores));
    let account = login("waited for", 1);
    let kept = here.take(&account, call()).await.unwrap();
    assert!(there.take_within(&account, call(), Duration::from_millis(100)).await.is_err());
    let (given, ()) = tokio::join!(there.take_within(&account, call(), Duration::from_secs(30)), async { drop(kept) });
    assert!(given.is_ok());
    assert_eq!(there.status()[0].refused, 1, "one that was waited for in vain");
    drop(given);
    house.close().await;
}
