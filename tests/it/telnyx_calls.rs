//! I1–I4, I6, I8 over Telnyx: the same promises as over the other carrier, whatever is lost, doubled or left unsaid.

use rollcall::sim::{self, ApiFault, CallbackFault, CreateFault, Double, Faults, Rule};

use crate::house::{House, Options, numbers};

fn answered() -> sim::Config {
    sim::Config { shares: sim::Shares::all(sim::Outcome::Answered), ..sim::Config::quick() }
}

/// A run of `count` numbers, each answered, under these rules: all are completed, each was called once.
async fn run_with(config: sim::Config, faults: Faults, count: usize) -> House {
    let house = House::open(Options { sim: Some(config), workers: 2, ..Options::default() }).await;
    house.sim.set_faults(faults).unwrap();
    let business = house.telnyx_business(3).await;
    let run = house.started(business, &numbers(count)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, i64::try_from(count).unwrap());
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.total.created_twice), (u64::try_from(count).unwrap(), 0));
    assert_eq!(figures.total.numbers_called_twice, 0);
    assert!(figures.total.most_live <= 3, "{} calls at once", figures.total.most_live);
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_telnyx_dials_every_number_once_and_everybody_hears_the_message_once() {
    let house = run_with(answered(), Faults::default(), 40).await;
    for call in house.sim.calls() {
        assert_eq!(call.heard, ["Hello Ada"], "{call:?}");
        assert!(call.sid.starts_with("v3:"), "{}", call.sid);
    }
    assert_eq!(house.sim.figures().total.callbacks_failed, 0);
    assert!(house.sim.log().iter().all(|entry| entry.ignored.is_empty()), "a field that Telnyx does not know");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cause_of_an_end_becomes_its_disposition() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.telnyx_business(10).await;
    let lead = |magic: &str| format!("+1212{magic}");
    let run = house.started(business, &["5550190", "5550191", "5550192", "5550193", "5550197"].map(lead)).await;
    house.until_run_is(run, "completed").await;
    let told = house.jobs(run).await;
    let told: Vec<_> = told.iter().map(|(state, how, why)| (state.as_str(), how.as_deref(), why.as_deref())).collect();
    let expected = [
        ("completed", Some("answered"), None),
        ("unreached", Some("busy"), Some("attempts_used")),
        ("unreached", Some("no_answer"), Some("attempts_used")),
        ("unreached", Some("failed"), Some("attempts_used")),
        ("failed", Some("refused"), Some("invalid_at_carrier")),
    ];
    assert_eq!(told, expected);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_was_taken_and_not_confirmed_is_one_call_whatever_its_double_is_answered() {
    for double in [Double::Same, Double::Empty, Double::Refused] {
        for kind in [CreateFault::Http500AfterAccept, CreateFault::ResetAfterAccept, CreateFault::GarbageAfterAccept] {
            let config = sim::Config { telnyx_double: double, ..answered() };
            let faults = Faults { create: vec![Rule::next(kind, 2)], ..Faults::default() };
            let house = run_with(config, faults, 6).await;
            // The double left within the window, and made no second call.
            assert!(house.sim.figures().total.requested_twice >= 1, "{kind:?} {double:?}");
            assert!(house.sim.log().iter().any(|entry| entry.verdict == "ignored"), "{kind:?} {double:?}");
            house.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_is_never_answered_is_one_call() {
    let faults = Faults { create: vec![Rule::next(CreateFault::TimeoutAfterAccept, 2)], ..Faults::default() };
    run_with(answered(), faults, 6).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_was_lost_is_made_by_its_double_within_the_window() {
    for kind in [CreateFault::Http500BeforeAccept, CreateFault::ResetBeforeAccept] {
        let faults = Faults { create: vec![Rule::next(kind, 1)], ..Faults::default() };
        let house = run_with(answered(), faults, 6).await;
        assert_eq!(house.attempts_in("not_placed").await, 0, "{kind:?}: nothing had to be proven absent");
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_though_every_webhook_is_lost_and_everybody_hears_the_message() {
    let faults = Faults { callback: vec![Rule::share(CallbackFault::Lost, 1.0)], ..Faults::default() };
    let house = run_with(answered(), faults, 8).await;
    for call in house.sim.calls() {
        assert_eq!(call.heard, ["Hello Ada"], "learned by asking: {call:?}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_in_doubt_is_found_by_our_mark_though_its_webhooks_are_lost() {
    let faults = Faults {
        create: vec![Rule::next(CreateFault::ResetAfterAccept, 2)],
        callback: vec![Rule::share(CallbackFault::Lost, 1.0)],
        ..Faults::default()
    };
    run_with(answered(), faults, 6).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_never_placed_is_dialed_once_more_after_two_empty_looks() {
    // The dial and its double are both lost.
    let faults = Faults { create: vec![Rule::next(CreateFault::Http500BeforeAccept, 2)], ..Faults::default() };
    let house = House::open(Options { sim: Some(answered()), workers: 2, ..Options::default() }).await;
    house.sim.set_faults(faults).unwrap();
    let business = house.telnyx_business(1).await;
    let run = house.started(business, &numbers(3)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.attempts_in("not_placed").await, 1);
    assert_eq!(house.sim.figures().total.created, 3);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_doubled_reordered_and_late_change_nothing_but_time() {
    let late = Rule { ms: Some(sim::Millis::between(10, 300)), ..Rule::share(CallbackFault::Delayed, 0.3) };
    let callback = vec![Rule::share(CallbackFault::Doubled, 0.3), Rule::share(CallbackFault::Reordered, 0.3), late];
    let house = run_with(answered(), Faults { callback, ..Faults::default() }, 30).await;
    for call in house.sim.calls() {
        assert_eq!(call.heard, ["Hello Ada"], "{call:?}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_does_not_say_that_somebody_answered_is_looked_up() {
    let answer_lost = Rule { status: Some("in-progress".into()), ..Rule::share(CallbackFault::Reordered, 0.5) };
    let config = sim::Config { telnyx_unclear_ends: true, ..answered() };
    run_with(config, Faults { callback: vec![answer_lost], ..Faults::default() }, 20).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_that_telnyx_does_not_take_is_asked_for_again() {
    let faults = Faults { update: vec![Rule::share(ApiFault::Unavailable, 0.4)], ..Faults::default() };
    run_with(answered(), faults, 8).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_telnyx_turns_away_for_its_own_limit_is_dialed_again_and_not_for_ever() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.telnyx_business(2).await;
    // Neither a dial that was refused at once nor one that rang nobody counts: not against the number's limit, and the first not
    // against that of the job.
    let pg = &house.ctx.stores.pg;
    sqlx::query!("UPDATE business SET cap_lifetime = 1 WHERE business_id = $1", business.0).execute(pg).await.unwrap();
    let faults = Faults { create: vec![Rule::next(CreateFault::Http429, 3)], ..Faults::default() };
    house.sim.set_faults(faults).unwrap();
    let run = house.started(business, &["+12125550199".to_owned()]).await;
    house.until_run_is(run, "completed").await;
    let failed = ("unreached".to_owned(), Some("failed".to_owned()), Some("attempts_used".to_owned()));
    assert_eq!(house.jobs(run).await, [failed]);
    assert_eq!(house.sim.figures().total.created, 6);
    let charged = sqlx::query_scalar!(r#"SELECT attempt_count AS "n!" FROM job WHERE run_id = $1"#, run.0)
        .fetch_one(&house.ctx.stores.pg)
        .await
        .unwrap();
    assert_eq!(charged, 1, "what was turned away for a limit is not charged");
    let in_a_row = sqlx::query_scalar!("SELECT turned_away FROM carrier_account WHERE business_id = $1", business.0);
    assert_eq!(in_a_row.fetch_one(pg).await.unwrap(), 5, "the account is left alone for longer each time");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_dials_and_channels_send_jobs_back_uncharged() {
    let config = sim::Config { telnyx_dps: 1.0, concurrency: Some(2), ..answered() };
    let house = House::open(Options { sim: Some(config), workers: 2, ..Options::default() }).await;
    let business = house.telnyx_business(4).await;
    let run = house.started(business, &numbers(8)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, 8);
    let refused = house.sim.figures().total.refused;
    assert!(refused.contains_key("90103") || refused.contains_key("90041"), "{refused:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn businesses_at_both_carriers_run_side_by_side() {
    let callback = vec![Rule::share(CallbackFault::Lost, 0.1), Rule::share(CallbackFault::Doubled, 0.1)];
    let create = vec![Rule::share(CreateFault::ResetAfterAccept, 0.05)];
    let house = House::open(Options { sim: Some(answered()), workers: 2, ..Options::default() }).await;
    house.sim.set_faults(Faults { create, callback, ..Faults::default() }).unwrap();
    let (telnyx, twilio) = (house.telnyx_business(3).await, house.business(3).await);
    let (first, second) = (house.started(telnyx, &numbers(20)).await, house.started(twilio, &numbers(20)).await);
    house.until_run_is(first, "completed").await;
    house.until_run_is(second, "completed").await;
    assert_eq!((house.jobs_in(first, "completed").await, house.jobs_in(second, "completed").await), (20, 20));
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.total.created_twice), (40, 0));
    house.close().await;
}
