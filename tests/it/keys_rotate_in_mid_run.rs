//! Keys are replaced while calls run: no dial fails, and what was signed or sealed under either key counts.

use clap::Parser;
use rollcall::{businesses::resealing, config::Settings, context::Context, ids::BusinessId, sim, worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    api_harness::answer,
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, SEALING_KEY, numbers},
};

/// The sealing key after the change.
const NEW_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// Calls that last for a moment, so that some are on the line whenever a key changes.
fn talking() -> sim::Config {
    sim::Config {
        shares: sim::Shares::all(sim::Outcome::Answered),
        talk_ms: sim::Millis::between(20, 80),
        ..sim::Config::quick()
    }
}

/// Waits until so many calls of the run are over.
async fn over(house: &House, calls: u64) {
    house.sim.wait(sim::Until::Ended(calls), std::time::Duration::from_secs(60)).await.unwrap();
}

/// No dial failed, no callback was turned away, every account is well. A worker that stops gives back what it had claimed and
/// not sent: such attempts are no dials, and are allowed where `drained`.
async fn nothing_failed(house: &House, drained: bool) {
    for state in ["refused", "not_sent", "not_placed"] {
        assert!(house.attempts_in(state).await == 0 || drained && state == "not_sent", "{state}");
    }
    let figures = house.sim.figures();
    assert_eq!((figures.total.callbacks_failed, figures.total.refused.len()), (0, 0));
    // New credentials are unchecked until a dial after the second for which a worker remembers the old ones.
    let unwell =
        sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM carrier_account WHERE health IN ('refused', 'down')"#);
    assert_eq!(unwell.fetch_one(&house.ctx.stores.pg).await.unwrap(), 0);
}

async fn change(house: &House, business: BusinessId, carrier: &str, body: Value) {
    let url = format!("http://{}/v1/businesses/{business}/carriers/{carrier}", house.addr);
    let changed = answer(client().patch(url).bearer_auth(OPERATOR_KEY).json(&body)).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sealing_key_is_replaced_in_mid_run_and_no_dial_fails() {
    let args = vec!["--rollcall-sealing-keys-also", NEW_KEY];
    let mut house = House::open(Options { sim: Some(talking()), workers: 1, args, ..Options::default() }).await;
    let (telnyx, twilio) = (house.telnyx_business(3).await, house.business(3).await);
    let (first, second) = (house.started(telnyx, &numbers(40)).await, house.started(twilio, &numbers(40)).await);
    over(&house, 10).await;
    // The next generation of workers seals and signs with the new key, and reads both.
    let mut args = house.args.clone();
    let at = args.iter().position(|arg| arg == SEALING_KEY).unwrap();
    NEW_KEY.clone_into(&mut args[at]);
    args.extend(["--rollcall-sealing-keys-also".to_owned(), SEALING_KEY.to_owned()]);
    let ctx = Context::open(Settings::try_parse_from(&args).unwrap(), "test").await.unwrap();
    let stop = CancellationToken::new();
    let next = tokio::spawn({
        let (ctx, stop) = (ctx.clone(), stop.clone());
        async move { worker::run(ctx, &format!("next-{}", uuid::Uuid::now_v7()), stop).await }
    });
    over(&house, 20).await;
    let done = resealing::reseal(&ctx.stores.pg, &ctx.vault, |_, _| {}).await.unwrap();
    assert_eq!((done.sealed_anew, done.as_they_were, done.shut), (2, 0, 0));
    over(&house, 30).await;
    nothing_failed(&house, false).await;
    house.stop_workers().await;
    house.until_run_is(first, "completed").await;
    house.until_run_is(second, "completed").await;
    nothing_failed(&house, true).await;
    let again = resealing::reseal(&ctx.stores.pg, &ctx.vault, |_, _| {}).await.unwrap();
    assert_eq!((again.sealed_anew, again.as_they_were, again.shut), (0, 2, 0));
    stop.cancel();
    next.await.unwrap().unwrap();
    house.close().await;
    ctx.stores.pg.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_seals_every_credential_anew_and_says_what_it_could_not_open() {
    let mut house = House::open(Options::default()).await;
    let (telnyx, twilio) = (house.telnyx_business(1).await, house.business(1).await);
    let at = house.args.iter().position(|arg| arg == SEALING_KEY).unwrap();
    NEW_KEY.clone_into(&mut house.args[at]);
    // The old key is not given: nothing can be opened, and nothing is changed.
    let shut = house.ops(&["secrets", "rotate", "--json"]).await;
    assert_eq!(shut.code, 3, "{}", shut.err);
    assert_eq!(shut.json()["accounts"], json!({"sealed_anew": 0, "as_they_were": 0, "shut": 2}));
    house.args.extend(["--rollcall-sealing-keys-also".to_owned(), SEALING_KEY.to_owned()]);
    let done = house.ops(&["secrets", "rotate", "--json"]).await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.json()["accounts"], json!({"sealed_anew": 2, "as_they_were": 0, "shut": 0}));
    let again = house.ops(&["secrets", "rotate"]).await;
    assert!(again.code == 0 && again.out.contains("2 were so before"), "{}{}", again.out, again.err);
    // The new key alone opens them now.
    let args = house.args[..house.args.len() - 2].to_vec();
    let ctx = Context::open(Settings::try_parse_from(&args).unwrap(), "test").await.unwrap();
    for business in [telnyx, twilio] {
        let reference = ctx.profile(business).await.unwrap().unwrap().accounts[0].reference.clone();
        assert!(ctx.account(business, &reference).await.unwrap().is_some());
    }
    ctx.stores.pg.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_no_key_opens_is_left_and_said() {
    let house = House::open(Options::default()).await;
    let business = house.business(1).await;
    let mut args = house.args.clone();
    let at = args.iter().position(|arg| arg == SEALING_KEY).unwrap();
    NEW_KEY.clone_into(&mut args[at]);
    let stranger = Context::open(Settings::try_parse_from(&args).unwrap(), "test").await.unwrap();
    let done = resealing::reseal(&stranger.stores.pg, &stranger.vault, |_, _| {}).await.unwrap();
    assert_eq!((done.sealed_anew, done.shut), (0, 1));
    let profile = house.ctx.profile(business).await.unwrap().unwrap();
    assert!(house.ctx.account(business, &profile.accounts[0].reference).await.unwrap().is_some(), "it still opens");
    stranger.stores.pg.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carriers_credentials_are_replaced_in_mid_run_and_no_dial_fails() {
    let house = House::open(Options { sim: Some(talking()), workers: 1, ..Options::default() }).await;
    let (telnyx, twilio) = (house.telnyx_business(3).await, house.business(3).await);
    let (first, second) = (house.started(telnyx, &numbers(40)).await, house.started(twilio, &numbers(40)).await);
    over(&house, 10).await;
    // Twilio signs with the new token from the first request that carries it on.
    change(&house, twilio, "twilio", json!({"auth_token": "another-token-of-the-account"})).await;
    // Telnyx signs with the new key later than we know of it.
    let seed = [7; 32];
    let old = house.sim.telnyx_public_key();
    house.sim.set_telnyx_seed(seed);
    let new = house.sim.telnyx_public_key();
    house.sim.set_telnyx_seed(crate::telnyx_house::SEED);
    assert_ne!(old, new);
    change(&house, telnyx, "telnyx", json!({"api_key": "KEY-the-next", "public_key": new})).await;
    over(&house, 40).await;
    house.sim.set_telnyx_seed(seed);
    house.until_run_is(first, "completed").await;
    house.until_run_is(second, "completed").await;
    nothing_failed(&house, false).await;
    house.close().await;
}
