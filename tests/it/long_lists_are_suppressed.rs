//! A prefix over a long list: it counts at once, its jobs end in small parts, and nobody has to wait for them.

use rollcall::{
    ids::{BusinessId, RunId},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::{
    PgPool, PgTransaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{api_suppressions::upload, runs_harness::Desk};

/// Jobs of the list; every other one begins with +1202.
const JOBS: i32 = 20_000;
/// More than one part ends, less than anybody waits for.
const MOST_AT_ONCE: i64 = 1_000;

/// A running run with a list as an import leaves it, without statistics.
async fn long_list(pg: &PgPool, business: BusinessId) -> RunId {
    let run = RunId::new();
    sqlx::query!(
        "INSERT INTO run (run_id, business_id, name, carriers, default_region, ring_timeout_secs, call_time_limit_secs, state)
         VALUES ($1, $2, 'x', '{twilio}', 'US', 30, 600, 'running')",
        run.0,
        business.0
    )
    .execute(pg)
    .await
    .unwrap();
    sqlx::query!(
        "INSERT INTO job (job_id, run_id, business_id, to_number)
         SELECT id_in_order(n), $1, $2, '+1' || (CASE n % 2 WHEN 0 THEN 202 ELSE 203 END) || (5000000 + n) FROM generate_series(1, $3::int) n",
        run.0,
        business.0,
        JOBS
    )
    .execute(pg)
    .await
    .unwrap();
    run
}

async fn in_state(pg: &PgPool, run: RunId, state: &str) -> i64 {
    sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM job WHERE run_id = $1 AND state = $2"#, run.0, state)
        .fetch_one(pg)
        .await
        .unwrap()
}

/// A transaction that may hold jobs for as long as the test likes.
async fn part_of_it(pg: &PgPool) -> PgTransaction<'_> {
    let mut part = pg.begin().await.unwrap();
    let patient = sqlx::query!("SELECT set_config('idle_in_transaction_session_timeout', '0', true)");
    patient.fetch_one(&mut *part).await.unwrap();
    part
}

/// The most jobs that one transaction ended.
async fn most_at_once(pg: &PgPool, run: RunId) -> i64 {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM job WHERE run_id = $1 AND state = 'skipped' GROUP BY xmin::text ORDER BY 1 DESC LIMIT 1"#,
        run.0
    )
    .fetch_one(pg)
    .await
    .unwrap()
}

/// Sweeps until nothing is left to be looked over, which takes no more rounds than there are parts.
async fn sweep_to_the_end(desk: &Desk, run: RunId) {
    for _ in 0..i64::from(JOBS) / 500 + 2 {
        if in_state(desk.pg(), run, "skipped").await == i64::from(JOBS) / 2 {
            return;
        }
        desk.sweep().await;
    }
    panic!("the sweep leaves jobs of a suppressed prefix waiting");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_prefix_ends_the_jobs_of_a_long_list_in_small_parts(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = long_list(desk.pg(), desk.business).await;
    let made = desk.post("/v1/suppressions", json!({"prefix": "+1202"})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    sweep_to_the_end(&desk, run).await;
    assert!(most_at_once(desk.pg(), run).await <= MOST_AT_ONCE);
    let queued = sqlx::query_scalar!("SELECT sum(queued)::bigint FROM tally_shard WHERE run_id = $1", run.0);
    assert_eq!(queued.fetch_one(desk.pg()).await.unwrap(), Some(i64::from(JOBS) / 2));
    assert_eq!(in_state(desk.pg(), run, "queued").await, i64::from(JOBS) / 2, "no other number is touched");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_a_thousand_prefixes_the_one_that_fits_ends_its_jobs(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = long_list(desk.pg(), desk.business).await;
    let prefixes = (1_001..2_000).map(|n| format!("+44{n}*\n")).collect::<String>();
    let taken = upload(&desk.app, "/v1/suppressions", &desk.key, &format!("number\n{prefixes}+1202*\n")).await;
    assert_eq!((taken.status.as_u16(), &taken.body["added"]), (200, &json!(1_000)), "{}", taken.body);
    sweep_to_the_end(&desk, run).await;
    assert_eq!(in_state(desk.pg(), run, "queued").await, i64::from(JOBS) / 2, "no other number is touched");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_death_leaves_of_a_suppressed_list_is_ended_by_the_sweep(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let runs = [long_list(desk.pg(), desk.business).await, long_list(desk.pg(), desk.app.business().await).await];
    // As the transaction of the operator's entry leaves it; whoever wrote it came no further.
    sqlx::query!(
        "INSERT INTO suppression (business_id, number, source) VALUES ($1, '+1202*', 'api')",
        uuid::Uuid::nil()
    )
    .execute(desk.pg())
    .await
    .unwrap();
    sqlx::query!(
        "INSERT INTO suppression_pass (business_id, run_id, prefixes)
         SELECT business_id, run_id, p.prefixes FROM run CROSS JOIN (VALUES (ARRAY['+1202']), (ARRAY['+1203'])) AS p (prefixes)"
    )
    .execute(desk.pg())
    .await
    .unwrap();
    for run in runs {
        sweep_to_the_end(&desk, run).await;
    }
    while sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM suppression_pass) AS "any!""#)
        .fetch_one(desk.pg())
        .await
        .unwrap()
    {
        desk.sweep().await;
    }
    for run in runs {
        assert!(most_at_once(desk.pg(), run).await <= MOST_AT_ONCE);
        assert_eq!(in_state(desk.pg(), run, "queued").await, i64::from(JOBS) / 2, "+1203 is on no list any more");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cancel_waits_for_nobody_who_is_ending_jobs_of_its_run(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = long_list(desk.pg(), desk.business).await;
    let mut part = part_of_it(desk.pg()).await;
    let first = sqlx::query!(
        "SELECT job_id FROM job WHERE run_id = $1 AND state = 'queued' ORDER BY job_id LIMIT 500 FOR NO KEY UPDATE",
        run.0
    );
    assert_eq!(first.fetch_all(&mut *part).await.unwrap().len(), 500);
    let cancelled = desk.act(run, "cancel").await;
    assert_eq!(
        (cancelled.status.as_u16(), &cancelled.body["run"]["state"]),
        (200, &json!("cancelling")),
        "{}",
        cancelled.body
    );
    part.rollback().await.unwrap();
    for _ in 0..JOBS / 5_000 + 2 {
        desk.sweep().await;
    }
    assert_eq!(desk.state(run).await, "cancelled");
    assert_eq!(in_state(desk.pg(), run, "cancelled").await, i64::from(JOBS), "what was locked is ended too");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cancel_of_a_short_run_whose_jobs_are_locked_is_finished_by_the_sweep(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let run = desk.running(3).await;
    let mut part = part_of_it(desk.pg()).await;
    let all = sqlx::query!("SELECT job_id FROM job WHERE run_id = $1 FOR NO KEY UPDATE", run.0);
    assert_eq!(all.fetch_all(&mut *part).await.unwrap().len(), 3);
    let cancelled = desk.act(run, "cancel").await;
    assert_eq!(cancelled.body["run"]["state"], "cancelling", "none of its jobs is over: {}", cancelled.body);
    assert_eq!(desk.claim(1).await, None);
    part.rollback().await.unwrap();
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "cancelled");
    let states: Vec<Value> = desk.jobs(run).await.iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "cancelled", "cancelled"]);
}
