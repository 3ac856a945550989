//! I1, I6, I8: what a refusal or a carrier's queue does to one job, and what only a person may decide.

use rollcall::{
    attempts::{
        events,
        ledger::Said,
        queued,
        state::{AttemptState, Disposition, Source},
    },
    dialing::by_person::{self, Word},
    ids::{BusinessId, RunId},
    sim::{ApiFault, CreateFault, Faults, Rule, Status},
};

use crate::{
    by_hand::{AUTH_TOKEN, client},
    house::{House, Options, caller_id, numbers},
};

/// Rings until the test says otherwise.
const HELD: &str = "+12125550196";
/// Stays in the carrier's queue.
pub(crate) const STAYS_QUEUED: &str = "+12125550198";

fn refuse(code: u32, http_status: u16) -> Rule<CreateFault> {
    Rule { code: Some(code), http_status: Some(http_status), ..Rule::share(CreateFault::Refuse, 1.0) }
}

async fn with_faults(faults: Faults, slots: i32) -> (House, BusinessId) {
    let house =
        House::open(Options { workers: 2, args: vec!["--carrier-queue-limit-secs", "1"], ..Options::default() }).await;
    house.sim.set_faults(faults).unwrap();
    let business = house.business(slots).await;
    (house, business)
}

/// Attempts charged and attempts made, summed over the run's jobs.
async fn dials(house: &House, run: RunId) -> (i64, i64) {
    let sums = sqlx::query!(
        r#"SELECT sum(attempt_count) AS "charged!", sum(dials) AS "made!" FROM job WHERE run_id = $1"#,
        run.0
    );
    let sums = sums.fetch_one(&house.ctx.stores.pg).await.unwrap();
    (sums.charged, sums.made)
}

async fn leaves_the_carriers_queue(faults: Faults) {
    let (house, business) = with_faults(faults, 1).await;
    let run = house.started(business, &[STAYS_QUEUED.to_owned()]).await;
    house.until("it waits in the carrier's queue", || async { house.attempts_in("placed").await == 1 }).await;
    // So that it is not dialed again at once.
    house.act(business, run, "pause").await;
    house.until("its job is back", || async { house.jobs_in(run, "queued").await == 1 }).await;
    let call = house.only_call(STAYS_QUEUED);
    assert_eq!((call.status, call.heard.len()), (Status::Canceled, 0));
    assert_eq!(dials(&house, run).await, (0, 1), "charged, made");
    assert_eq!(house.jobs(run).await, [("queued".to_owned(), None, None)]);
    house.act(business, run, "cancel").await;
    house.until_run_is(run, "cancelled").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_too_long_in_the_carriers_queue_is_cancelled_there_and_its_job_comes_back_uncharged() {
    leaves_the_carriers_queue(Faults::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_leaves_the_carriers_queue_though_the_first_cancel_is_not_taken() {
    leaves_the_carriers_queue(Faults { update: vec![Rule::next(ApiFault::Unavailable, 1)], ..Faults::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_stays_in_the_carriers_queue_is_dialed_again_ever_more_rarely_and_not_for_ever() {
    let (house, business) = with_faults(Faults::default(), 2).await;
    let pg = &house.ctx.stores.pg;
    // Whoever was not rung counts against no limit of the number.
    sqlx::query!("UPDATE business SET cap_lifetime = 1 WHERE business_id = $1", business.0).execute(pg).await.unwrap();
    let run = house.started(business, &[STAYS_QUEUED.to_owned()]).await;
    house.until_run_is(run, "completed").await;
    let unreached = ("unreached".to_owned(), Some("failed".to_owned()), Some("attempts_used".to_owned()));
    assert_eq!(house.jobs(run).await, [unreached]);
    assert_eq!(dials(&house, run).await, (1, 6), "charged, made: what was cancelled in the queue is not charged");
    let in_a_row = sqlx::query_scalar!("SELECT turned_away FROM carrier_account WHERE business_id = $1", business.0);
    assert_eq!(in_a_row.fetch_one(pg).await.unwrap(), 5, "the account is left alone for longer each time");
    assert!(house.sim.calls_to(STAYS_QUEUED).iter().all(|call| call.status == Status::Canceled));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_caller_id_pauses_the_run_and_fails_no_job() {
    let (house, business) = with_faults(Faults { create: vec![refuse(21210, 400)], ..Faults::default() }, 3).await;
    let run = house.started(business, &numbers(20)).await;
    house.until_run_is(run, "paused").await;
    house.until("nothing is in flight", || async { house.open_attempts().await == 0 }).await;
    let reason = sqlx::query_scalar!("SELECT pause_reason FROM run WHERE run_id = $1", run.0);
    assert_eq!(reason.fetch_one(&house.ctx.stores.pg).await.unwrap().as_deref(), Some("caller_id_refused"));
    assert_eq!(house.jobs_in(run, "queued").await, 20);
    let (charged, made) = dials(&house, run).await;
    assert!(charged == 0 && (1..=9).contains(&made), "{charged} charged, {made} made");
    assert_eq!(house.sim.figures().total.created, 0);
    house.sim.set_faults(Faults::default()).unwrap();
    house.act(business, run, "resume").await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, 20);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_one_lead_ends_that_lead_at_its_first_dial_and_no_other() {
    let leads = numbers(6);
    let to = |i: usize, rule: Rule<CreateFault>| Rule { to: Some(leads[i].clone()), ..rule };
    // A code that nobody knows, a request that was wrong, a number that is none, one that is blocked, a country that is.
    let create = vec![
        to(0, refuse(29_999, 400)),
        to(1, refuse(21205, 400)),
        to(2, refuse(21211, 400)),
        to(3, refuse(21216, 400)),
        to(4, refuse(21215, 400)),
    ];
    let (house, business) = with_faults(Faults { create, ..Faults::default() }, 2).await;
    let run = house.started(business, &leads).await;
    house.until_run_is(run, "completed").await;
    let failed = |reason: &str| ("failed".to_owned(), Some("refused".to_owned()), Some(reason.to_owned()));
    let answered = ("completed".to_owned(), Some("answered".to_owned()), None);
    let reasons = ["refused", "refused", "invalid_at_carrier", "invalid_at_carrier", "blocked_at_carrier"];
    let expected: Vec<_> = reasons.into_iter().map(failed).chain([answered]).collect();
    assert_eq!(house.jobs(run).await, expected);
    assert_eq!(dials(&house, run).await, (6, 6));
    assert_eq!(house.sim.figures().total.requests, 6, "a refused lead was tried again");
    house.close().await;
}

/// A call that somebody else makes with our account, from our caller id.
async fn called_by_somebody_else(house: &House, business: BusinessId) -> String {
    let account = format!("AC{}", business.0.simple());
    let url = format!("{}/2010-04-01/Accounts/{account}/Calls.json", house.sim.base_url());
    let form = [("To", HELD), ("From", &*caller_id(business)), ("Twiml", "<Response><Hangup/></Response>")];
    let http = client();
    let made: serde_json::Value =
        http.post(url).basic_auth(account, Some(AUTH_TOKEN)).form(&form).send().await.unwrap().json().await.unwrap();
    made["sid"].as_str().unwrap().to_owned()
}

/// Waits until the attempt in doubt was looked for so often again.
async fn looked_for(house: &House, times: usize) {
    for _ in 0..times {
        let next = || async {
            sqlx::query_scalar!("SELECT next_look_at FROM attempt").fetch_one(&house.ctx.stores.pg).await.unwrap()
        };
        let before = next().await;
        house.until("another look", || async { next().await != before }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_calls_that_could_be_one_attempt_wait_for_a_person_and_nothing_is_dialed_again() {
    let (house, business) = with_faults(Faults::default(), 2).await;
    let others = [called_by_somebody_else(&house, business).await, called_by_somebody_else(&house, business).await];
    house
        .sim
        .set_faults(Faults { create: vec![Rule::next(CreateFault::Http500BeforeAccept, 1)], ..Faults::default() })
        .unwrap();
    let run = house.started(business, &[HELD.to_owned()]).await;
    let asks_for_a_person = || async {
        sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE needs_person"#)
            .fetch_one(&house.ctx.stores.pg)
            .await
            .unwrap()
            == 1
    };
    house.until("it asks for a person", asks_for_a_person).await;
    // Also when one of the two is over: it may have been ours.
    house.sim.end(&others[0], Status::NoAnswer).unwrap();
    looked_for(&house, 6).await;
    assert!(asks_for_a_person().await);
    assert_eq!(
        (house.attempts_in("unknown").await, house.open_attempts().await, house.jobs_in(run, "dialing").await),
        (1, 1, 1)
    );
    assert_eq!(house.ctx.gate.holders().await.unwrap().len(), 1, "its slot is held");
    assert_eq!(house.sim.log().len(), 3, "something was dialed again");
    let attempt = house.ctx.gate.holders().await.unwrap()[0].attempt;
    // A person's word is checked: a call that the carrier does not have, or one to another number, is not taken.
    let word = |call_id: &str| Word::Placed { call_id: call_id.to_owned() };
    assert!(by_person::settle(&house.ctx, attempt, &word(&format!("CA{}", "0".repeat(32)))).await.is_err());
    let refused = by_person::settle(&house.ctx, attempt, &Word::NotPlaced).await.unwrap_err().to_string();
    assert!(refused.contains(&others[1]), "one of them is live: {refused}");
    by_person::settle(&house.ctx, attempt, &word(&others[1])).await.unwrap();
    assert_eq!((house.attempts_in("unknown").await, house.open_attempts().await), (0, 1));
    assert!(by_person::settle(&house.ctx, attempt, &Word::NotPlaced).await.is_err(), "it is in doubt no longer");
    house.sim.end(&others[1], Status::NoAnswer).unwrap();
    house.until_run_is(run, "completed").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_calls_the_one_with_our_token_is_ours_and_until_it_can_be_read_nothing_moves() {
    let (house, business) = with_faults(Faults::default(), 2).await;
    let theirs = called_by_somebody_else(&house, business).await;
    let faults = Faults {
        create: vec![Rule::next(CreateFault::Http500AfterAccept, 1)],
        callback: vec![Rule::share(rollcall::sim::CallbackFault::Lost, 1.0)],
        fetch: vec![Rule::share(ApiFault::Unavailable, 1.0)],
        ..Faults::default()
    };
    house.sim.set_faults(faults).unwrap();
    let run = house.started(business, &[HELD.to_owned()]).await;
    house.until("it is in doubt", || async { house.attempts_in("unknown").await == 1 }).await;
    looked_for(&house, 3).await;
    assert_eq!((house.attempts_in("unknown").await, house.open_attempts().await), (1, 1));
    house.sim.set_faults(Faults::default()).unwrap();
    house.until("it is found", || async { house.attempts_in("unknown").await == 0 }).await;
    let bound = sqlx::query_scalar!("SELECT carrier_call_id FROM attempt")
        .fetch_one(&house.ctx.stores.pg)
        .await
        .unwrap()
        .unwrap();
    let ours = house.sim.calls_to(HELD).into_iter().find(|call| call.token.is_some()).unwrap();
    assert!(bound == ours.sid && bound != theirs, "a stranger's call was taken for ours");
    house.sim.end(&ours.sid, Status::Busy).unwrap();
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.log().len(), 2, "something was dialed again");
    assert_eq!(house.jobs(run).await[0].1.as_deref(), Some("busy"));
    house.close().await;
}

#[tokio::test]
async fn a_call_that_left_the_queue_while_it_was_being_cancelled_there_counts_as_a_call() {
    let house = House::open(Options::default()).await;
    let pg = &house.ctx.stores.pg;
    let business = house.business(1).await;
    let run = house.run(business, &numbers(1)).await;
    let attempt = house.claim_at(business, 1, 1).await;
    let said = Said { call_id: Some("CA0123456789abcdef0123456789abcdef"), ..Said::default() };
    let tell = async |source, state, disposition| {
        events::apply(pg, (business, attempt), source, (state, disposition), &said).await.unwrap();
    };
    tell(Source::Response, AttemptState::Placed, None).await;
    assert!(queued::cancelling(pg, attempt, 0).await.unwrap());
    // Its phone rings before the carrier takes the cancel, which then ends the ringing.
    tell(Source::Webhook, AttemptState::Initiated, None).await;
    tell(Source::Webhook, AttemptState::Ended, Some(Disposition::Cancelled)).await;
    let ended = ("unreached".to_owned(), Some("no_answer".to_owned()), Some("attempts_used".to_owned()));
    assert_eq!(
        (house.jobs(run).await, dials(&house, run).await),
        (vec![ended], (1, 1)),
        "it is not dialed again for nothing"
    );
    house.close().await;
}
