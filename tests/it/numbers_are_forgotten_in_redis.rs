//! A number that is forgotten is forgotten in Redis, too, with all that was said, and nobody who comes late writes it there again.

use rollcall::{
    calls::store::{Next, Owner, Renewed},
    sim::{Callee, Then},
};
use serde_json::json;

use crate::{
    a_call_has_one_owner::{state, ticket},
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
    voice_house::script,
};

/// What only this person's calls say.
const MARK: &str = "canary-of-one-person";

/// The keys of this installation in Redis that say this, in their names or in what they hold.
async fn keys_that_say(house: &House, text: &str) -> Vec<String> {
    let (mut redis, all) = (house.ctx.stores.redis.clone(), house.ctx.stores.keys.key("*"));
    let keys: Vec<String> = redis::cmd("KEYS").arg(all).query_async(&mut redis).await.unwrap();
    let mut found = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await.unwrap();
        let mut read = redis::cmd(match kind.as_str() {
            "string" => "GET",
            "hash" => "HGETALL",
            "set" => "SMEMBERS",
            "list" => "LRANGE",
            "zset" => "ZRANGE",
            "stream" => "XRANGE",
            _ => continue,
        });
        read.arg(&key);
        match kind.as_str() {
            "list" | "zset" => drop(read.arg(0).arg(-1)),
            "stream" => drop(read.arg("-").arg("+")),
            _ => {}
        }
        let held: redis::Value = read.query_async(&mut redis).await.unwrap();
        // Bytes that are text are printed as that.
        if key.contains(text) || format!("{held:?}").contains(text) {
            found.push(key);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_redis_knows_an_erased_number_or_what_was_said() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let talks = json!({"greeting": format!("Hello {MARK}."), "tools": [{"type": "end_call"}]});
    let agent = house.agent(business, talks).await;
    let lines = script(&["I am {tag}.", "Goodbye now."]);
    house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let number = &numbers(1)[0];
    let run = house.talking(business, agent, std::slice::from_ref(number)).await;
    house.until_run_is(run, "completed").await;
    house.silent().await;
    house.said(business, run).await;
    let request = client().delete(format!("http://{}/v1/numbers/{number}", house.addr));
    let request = request.bearer_auth(OPERATOR_KEY).header("Rollcall-Business", business.to_string());
    let erased = crate::api_harness::answer(request).await;
    assert_eq!((erased.status.as_u16(), &erased.body["transcripts"]), (200, &json!(1)), "{}", erased.body);
    for text in [number.as_str(), MARK] {
        assert_eq!(keys_that_say(&house, text).await, [""; 0]);
    }
    media.close().await;
    house.close().await;
}

#[tokio::test]
async fn a_session_that_outlives_the_erasure_of_its_call_writes_nothing() {
    let house = House::open(Options::default()).await;
    let (calls, state) = (&house.ctx.calls, state());
    calls.open(&state, &ticket(&state)).await.unwrap();
    let claim = calls.claim(&state.call_id, "s", "r").await.unwrap().unwrap();
    let owner = Owner { session: "s".into(), replica: "r".into(), epoch: claim.epoch };
    assert!(calls.save(&state, &owner, Next::GoOn).await.unwrap());
    calls.erase(&state.call_id).await.unwrap();
    for next in [Next::GoOn, Next::HandOver, Next::End] {
        assert!(!calls.save(&state, &owner, next).await.unwrap(), "{next:?}");
    }
    assert_eq!(calls.renew(&[(&state.call_id, &owner)]).await.unwrap(), [Renewed::Lost]);
    assert_eq!((calls.read(&state.call_id).await.unwrap(), calls.waiting().await.unwrap()), (None, 0));
    assert_eq!(keys_that_say(&house, &state.to).await, [""; 0]);
    house.empty().await;
}
