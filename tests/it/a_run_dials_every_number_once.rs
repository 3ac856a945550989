//! I1, I2, I4: a list goes in, every number is called once, the outcome comes out.

use rollcall::sim;

use crate::house::{House, Options, numbers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_dials_every_number_once_and_keeps_the_limit() {
    let house = House::open(Options { workers: 2, ..Options::default() }).await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(60)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, 60);
    let figures = house.sim.figures();
    assert_eq!(figures.total.created, 60);
    assert_eq!(figures.total.numbers_called_twice, 0);
    assert!(figures.total.most_live <= 3, "{} calls at once", figures.total.most_live);
    for call in house.sim.calls() {
        assert_eq!(call.heard, ["Hello Ada"], "what a callee hears");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_becomes_its_disposition() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(10).await;
    let lead = |magic: &str| format!("+1212{magic}");
    let run = house
        .started(business, &["5550190", "5550191", "5550192", "5550193", "5550195", "5550197", "5550199"].map(lead))
        .await;
    house.until_run_is(run, "completed").await;
    let jobs = sqlx::query!(
        "SELECT to_number, state, disposition, reason FROM job WHERE run_id = $1 ORDER BY to_number",
        run.0
    )
    .fetch_all(&house.ctx.stores.pg)
    .await
    .unwrap();
    let told: Vec<_> = jobs.iter().map(|j| (j.state.as_str(), j.disposition.as_deref(), j.reason.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("completed", Some("answered"), None),
            ("unreached", Some("busy"), Some("attempts_used")),
            ("unreached", Some("no_answer"), Some("attempts_used")),
            ("unreached", Some("failed"), Some("attempts_used")),
            ("completed", Some("answered"), None),
            ("failed", Some("refused"), Some("invalid_at_carrier")),
            ("failed", Some("refused"), Some("invalid_at_carrier")),
        ]
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_where_the_carrier_paces_and_delays() {
    let sim = sim::Config {
        accept_delay_ms: sim::Millis::between(5, 30),
        talk_ms: sim::Millis::between(10, 40),
        ..sim::Config::quick()
    };
    let house = House::open(Options { sim: Some(sim), workers: 3, ..Options::default() }).await;
    let (a, b) = (house.business(2).await, house.business(5).await);
    let (first, second) = (house.started(a, &numbers(20)).await, house.started(b, &numbers(50)).await);
    house.until_run_is(first, "completed").await;
    house.until_run_is(second, "completed").await;
    let figures = house.sim.figures();
    assert_eq!((figures.total.created, figures.total.created_twice), (70, 0));
    house.close().await;
}
