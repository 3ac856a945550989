//! Choice and failover: a definite refusal moves the next attempts to the next carrier; what is in doubt moves nothing.

use rollcall::{
    businesses::health,
    dialing::why,
    ids::{BusinessId, Carrier, RunId},
    sim::{self, ApiFault, CreateFault, Faults, Rule, Until},
};

use serde_json::json;

use crate::{
    house::{House, Options, numbers},
    single_calls_go_first::ask,
    telnyx_house::connection,
};

async fn house() -> (House, BusinessId) {
    house_with(sim::Config { shares: sim::Shares::all(sim::Outcome::Answered), ..sim::Config::quick() }).await
}

/// A business with an account at each carrier, Telnyx first.
async fn house_with(config: sim::Config) -> (House, BusinessId) {
    let house = House::open(Options { sim: Some(config), workers: 1, ..Options::default() }).await;
    let business = house.business(2).await;
    house.telnyx_account(business).await;
    house.carriers(business, &["telnyx", "twilio"]).await;
    (house, business)
}

/// How many calls each carrier took: Telnyx, Twilio.
fn taken(house: &House, business: BusinessId) -> (u64, u64) {
    let accounts = house.sim.figures().accounts;
    let of = |account: &str| accounts.get(account).map_or(0, |scope| scope.created);
    (of(&connection(business)), of(&format!("AC{}", business.0.simple())))
}

async fn carriers_of_run(house: &House, run: RunId, carriers: &[&str]) {
    let carriers: Vec<String> = carriers.iter().map(|carrier| (*carrier).to_owned()).collect();
    sqlx::query!("UPDATE run SET carriers = $2 WHERE run_id = $1", run.0, &carriers)
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_run_dials_through_the_first_carrier_of_its_own_order() {
    let (house, business) = house().await;
    let first = house.run(business, &numbers(4)).await;
    let second = house.run(business, &numbers(10)[4..]).await;
    carriers_of_run(&house, second, &["twilio", "telnyx"]).await;
    house.ctx.ring(business).await;
    house.until_run_is(first, "completed").await;
    house.until_run_is(second, "completed").await;
    assert_eq!(taken(&house, business), (4, 6));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_carrier_refuses_the_account_the_next_one_dials() {
    let key = |account: &str, key: &str| sim::Account { sid: account.into(), auth_token: key.into() };
    let business = BusinessId::new();
    let account = format!("AC{}", business.0.simple());
    // Telnyx does not know the key of this business.
    let accounts = vec![key(&account, "secret token of the account"), key(&connection(business), "another key")];
    let config = sim::Config { accounts, shares: sim::Shares::all(sim::Outcome::Answered), ..sim::Config::quick() };
    let house = House::open(Options { sim: Some(config), workers: 1, ..Options::default() }).await;
    house.business_with(business, 2, &account, "secret token of the account", 10_000.0).await;
    house.telnyx_account(business).await;
    house.carriers(business, &["telnyx", "twilio"]).await;
    let run = house.started(business, &numbers(12)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!((house.jobs_in(run, "completed").await, taken(&house, business)), (12, (0, 12)));
    let told =
        why::of_run((&house.ctx.stores, &house.ctx.gate, &house.ctx.settings), &house.ctx.stores.pg, business, run)
            .await
            .unwrap();
    let refused: Vec<_> = told.blockers.iter().filter(|blocker| blocker.code == "account_refused").collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].detail.contains("telnyx"), "{}", refused[0].detail);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_at_one_carrier_sends_the_job_to_the_next() {
    let (house, business) = house().await;
    let full = Rule { code: Some(90041), http_status: Some(403), ..Rule::next(CreateFault::Refuse, 1) };
    house.sim.set_faults(Faults { create: vec![full], ..Faults::default() }).unwrap();
    let run = house.started(business, &numbers(1)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!((house.jobs_in(run, "completed").await, taken(&house, business)), (1, (0, 1)));
    let charged = sqlx::query_scalar!(r#"SELECT attempt_count AS "n!" FROM job WHERE run_id = $1"#, run.0);
    assert_eq!(charged.fetch_one(&house.ctx.stores.pg).await.unwrap(), 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_doubt_at_one_carrier_is_not_dialed_at_the_next() {
    let (house, business) = house().await;
    house
        .sim
        .set_faults(Faults {
            // The dial and its double.
            create: vec![Rule::next(CreateFault::Http500BeforeAccept, 2)],
            list: vec![Rule::share(ApiFault::Unavailable, 1.0)],
            ..Faults::default()
        })
        .unwrap();
    let run = house.started(business, &numbers(1)).await;
    house.until("the attempt is in doubt", || async { house.attempts_in("unknown").await == 1 }).await;
    let more = house.sim.wait(Until::Requests(3), std::time::Duration::from_secs(4)).await;
    assert!(more.is_err(), "a dial while the first is in doubt");
    // People are told that the carrier does not answer.
    let troubles = async || health::troubles(&house.ctx.stores.pg).await.unwrap().accounts;
    let unreadable = troubles().await;
    assert_eq!(unreadable.len(), 1, "{unreadable:?}");
    assert!(unreadable[0].carrier == Carrier::Telnyx && unreadable[0].unreadable_since.is_some(), "{unreadable:?}");
    let told =
        why::of_run((&house.ctx.stores, &house.ctx.gate, &house.ctx.settings), &house.ctx.stores.pg, business, run)
            .await
            .unwrap();
    let down: Vec<_> = told.blockers.iter().filter(|blocker| blocker.code == "carrier_down").collect();
    assert!(down.len() == 1 && down[0].detail.starts_with("telnyx cannot be asked"), "{down:?}");
    house.sim.set_faults(Faults::default()).unwrap();
    house.until_run_is(run, "completed").await;
    house.until("it is asked again", || async { troubles().await.is_empty() }).await;
    assert_eq!(house.attempts_in("not_placed").await, 1);
    assert_eq!(house.sim.figures().total.created, 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_goes_past_a_carrier_that_refuses_the_account() {
    let (house, business) = house().await;
    // Its hold is over: without another one it would be tried.
    sqlx::query!(
        "UPDATE carrier_account SET health = 'refused' WHERE business_id = $1 AND carrier = 'telnyx'",
        business.0
    )
    .execute(&house.ctx.stores.pg)
    .await
    .unwrap();
    house.ctx.profiles.forget(business);
    house.until("the gate is open", || async { house.ctx.gate.is_ready().await.unwrap() }).await;
    let new = json!({"to": "+12125550190", "message": {"text": "Hi"}});
    let (status, made) = ask(&house, business, reqwest::Method::POST, "/v1/calls", Some(new)).await;
    assert_eq!((status, &made["carrier"]), (201, &json!("twilio")), "{made}");
    house.until("it is over", || async { house.open_attempts().await == 0 }).await;
    assert_eq!(taken(&house, business), (0, 1));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_goes_through_the_carrier_that_it_names() {
    let (house, business) = house().await;
    for carrier in ["twilio", "telnyx"] {
        let to = if carrier == "twilio" { "+12125550190" } else { "+13125550190" };
        let new = serde_json::from_value(serde_json::json!({"to": to, "carrier": carrier, "message": {"text": "Hi"}}))
            .unwrap();
        let new: rollcall::dialing::call::NewCall = new;
        let placed = async || {
            // A worker that looks at the business holds its slots for a moment.
            let id = rollcall::ids::AttemptId::new();
            // What the REST door does with the business of a key.
            let request = rollcall::stores::tenant::request(async {
                rollcall::stores::tenant::bind(business);
                rollcall::dialing::call::place(&house.ctx, business, id, new.clone()).await.ok()
            });
            request.await
        };
        house
            .until(&format!("a call through {carrier}"), || async {
                placed().await.is_some_and(|call| call.carrier.as_str() == carrier)
            })
            .await;
    }
    house.until("both are over", || async { house.open_attempts().await == 0 }).await;
    assert_eq!(taken(&house, business), (1, 1));
    house.close().await;
}
