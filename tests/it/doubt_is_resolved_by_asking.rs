//! I1, I3, I6, I8: what the carrier did not clearly answer is asked for; nothing is dialed again before it has said so.

use rollcall::sim::{self, ApiFault, CallbackFault, CreateFault, Faults, Rule};

use crate::{
    api_harness::answer,
    by_hand::{AUTH_TOKEN, client},
    house::{House, OPERATOR_KEY, Options, caller_id, numbers},
};

async fn run_with(create: Vec<Rule<CreateFault>>, callback: Vec<Rule<CallbackFault>>, count: usize) -> House {
    let house = House::open(Options { workers: 2, ..Options::default() }).await;
    house.sim.set_faults(Faults { create, callback, ..Faults::default() }).unwrap();
    let business = house.business(3).await;
    let run = house.started(business, &numbers(count)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, i64::try_from(count).unwrap());
    let figures = house.sim.figures();
    assert_eq!((figures.total.created_twice, figures.total.numbers_called_twice), (0, 0));
    assert!(figures.total.most_live <= 3, "{} calls at once", figures.total.most_live);
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_accepted_and_not_confirmed_is_found_and_not_made_again() {
    for kind in [
        CreateFault::Http500AfterAccept,
        CreateFault::ResetAfterAccept,
        CreateFault::GarbageAfterAccept,
        CreateFault::TimeoutAfterAccept,
    ] {
        let house = run_with(vec![Rule::next(kind, 2)], vec![], 8).await;
        assert_eq!(house.sim.figures().total.created, 8, "{kind:?}");
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_doubt_is_found_though_its_callbacks_are_lost() {
    let house =
        run_with(vec![Rule::next(CreateFault::ResetAfterAccept, 2)], vec![Rule::share(CallbackFault::Lost, 1.0)], 6)
            .await;
    assert_eq!(house.sim.figures().total.created, 6);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_never_placed_is_dialed_once_more_after_two_empty_looks() {
    let house = run_with(vec![Rule::next(CreateFault::Http500BeforeAccept, 2)], vec![], 6).await;
    assert_eq!(house.sim.figures().total.created, 6);
    assert_eq!(house.attempts_in("not_placed").await, 2);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_though_every_callback_is_lost() {
    let house = run_with(vec![], vec![Rule::share(CallbackFault::Lost, 1.0)], 12).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_doubled_reordered_and_late_change_nothing_but_time() {
    let late = Rule { ms: Some(sim::Millis::between(10, 300)), ..Rule::share(CallbackFault::Delayed, 0.3) };
    let faults = vec![Rule::share(CallbackFault::Doubled, 0.3), Rule::share(CallbackFault::Reordered, 0.3), late];
    run_with(vec![], faults, 40).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_callback_before_the_answer_to_the_post_is_final() {
    run_with(vec![Rule::share(CreateFault::FinalCallbackFirst, 1.0)], vec![], 12).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_not_charged_and_not_lost() {
    let house = run_with(vec![Rule::next(CreateFault::Http429, 4)], vec![], 10).await;
    assert_eq!(house.attempts_in("refused").await, 4);
    let charged = sqlx::query_scalar!(r#"SELECT max(attempt_count)::int AS "most!" FROM job"#)
        .fetch_one(&house.ctx.stores.pg)
        .await
        .unwrap();
    assert_eq!(charged, 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_carrier_cannot_be_asked_the_slot_stays_held_and_nothing_is_dialed_again() {
    let house = House::open(Options { workers: 2, ..Options::default() }).await;
    house
        .sim
        .set_faults(Faults {
            create: vec![Rule::next(CreateFault::Http500BeforeAccept, 1)],
            list: vec![Rule::share(ApiFault::Unavailable, 1.0)],
            fetch: vec![Rule::share(ApiFault::Unavailable, 1.0)],
            ..Faults::default()
        })
        .unwrap();
    let business = house.business(1).await;
    let run = house.started(business, &numbers(2)).await;
    house.until("one attempt is in doubt", || async { house.attempts_in("unknown").await == 1 }).await;
    let looks = sim::Until::Requests(2);
    let waited = house.sim.wait(looks, std::time::Duration::from_secs(6)).await;
    assert!(waited.is_err(), "a second POST while the first is in doubt");
    assert_eq!((house.attempts_in("unknown").await, house.open_attempts().await), (1, 1));
    house.sim.set_faults(Faults::default()).unwrap();
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.figures().total.created, 2);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_fail_no_job_and_block_the_account_at_the_first_answer() {
    let account = format!("AC{}", "a".repeat(32));
    let sim = sim::Config {
        accounts: vec![sim::Account { sid: account.clone(), auth_token: "right token".into() }],
        ..sim::Config::quick()
    };
    let house = House::open(Options { sim: Some(sim), workers: 2, ..Options::default() }).await;
    let business = house.business_with(rollcall::ids::BusinessId::new(), 3, &account, "wrong token", 1_000.0).await;
    let run = house.started(business, &numbers(10_000)).await;
    house
        .until("the account is blocked", || async {
            sqlx::query_scalar!(r#"SELECT health = 'refused' AS "refused!" FROM carrier_account"#)
                .fetch_one(&house.ctx.stores.pg)
                .await
                .unwrap()
        })
        .await;
    house.until("nothing is in flight", || async { house.open_attempts().await == 0 }).await;
    assert_eq!(house.jobs_in(run, "queued").await, 10_000);
    let requests = house.sim.figures().total.requests;
    assert!(requests <= 3, "{requests} POSTs with wrong credentials");
    let (secret, key) = house
        .ctx
        .vault
        .seal(business, rollcall::ids::Carrier::Twilio, &secrecy::SecretString::from("right token"))
        .unwrap();
    sqlx::query!("UPDATE carrier_account SET secret = $1, sealing_key = $2", secret, key)
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
    house.until("calls are made again", || async { house.jobs_in(run, "completed").await > 0 }).await;
    house.stop_dialing(run).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_another_system_made_meanwhile_is_not_taken_for_the_one_in_doubt() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let create = vec![Rule::next(CreateFault::ResetBeforeAccept, 1)];
    house.sim.set_faults(Faults { create, ..Faults::default() }).unwrap();
    let business = house.business(1).await;
    let account = format!("AC{}", business.0.simple());
    let number = numbers(1).remove(0);
    // Another client of the same account calls the same number from the same caller id, by its own document.
    let form = [
        ("To", number.as_str()),
        ("From", &caller_id(business)),
        ("Twiml", "<Response><Pause/></Response>"),
        ("StatusCallback", "http://127.0.0.1:9/theirs"),
    ];
    let url = format!("{}/2010-04-01/Accounts/{account}/Calls.json", house.sim.base_url());
    let run = house.started(business, std::slice::from_ref(&number)).await;
    house.until("it is in doubt", || async { house.attempts_in("unknown").await == 1 }).await;
    let made = client().post(url).basic_auth(&account, Some(AUTH_TOKEN)).form(&form).send().await.unwrap();
    assert_eq!(made.status(), 201);
    house.until_run_is(run, "completed").await;
    assert_eq!(
        (house.attempts_in("not_placed").await, house.sim.figures().total.created),
        (1, 2),
        "theirs, and then ours"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_younger_than_what_is_remembered_is_dialed_with_at_once() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    let numbers = numbers(2);
    // The worker knows the business now.
    let run = house.started(business, &numbers[..1]).await;
    house.until_run_is(run, "completed").await;
    let body = serde_json::json!({"account_sid": format!("AC{}", "b".repeat(32)), "auth_token": "b".repeat(32), "caller_ids": [caller_id(business)],
        "calls_per_second": 100.0, "api_base_url": house.sim.base_url()});
    let url = format!("http://{}/v1/businesses/{business}/carriers/twilio", house.addr);
    let put = answer(client().put(url).bearer_auth(OPERATOR_KEY).json(&body)).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let run = house.started(business, &numbers[1..]).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.attempts_in("not_sent").await, 0, "nothing was held up");
    house.close().await;
}
