//! I5: progress equals the sum over the jobs at every read.

use std::sync::Arc;

use rollcall::{
    dialing::cancel,
    ids::{BusinessId, RunId},
    runs::store,
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::runs_harness::{Desk, claim, event, number};

const WORKERS: i32 = 6;

/// Dials until nothing is left, each call with another end.
async fn dial(pg: PgPool, business: BusinessId, slot: i32) {
    let ends = ["answered", "busy", "no_answer", "failed"];
    for n in 0.. {
        let Some(attempt) = claim(&pg, business, slot).await else { return };
        event(&pg, business, attempt, "initiated", None).await;
        event(&pg, business, attempt, "ended", Some(ends[n % ends.len()])).await;
    }
}

/// Reads the progress and counts the jobs in one snapshot; returns the sequence.
async fn compare(pg: &PgPool, business: BusinessId, run: RunId) -> (i64, bool) {
    let mut tx = pg.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.unwrap();
    let told = store::one(&mut *tx, business, run).await.unwrap().unwrap();
    let counted = sqlx::query!(
        r#"SELECT (SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM job WHERE run_id = $1 GROUP BY 1) s)
                      AS "states!: Value",
                  (SELECT coalesce(jsonb_object_agg(disposition, n), '{}') FROM (SELECT disposition, count(*) AS n FROM job
                      WHERE run_id = $1 AND disposition IS NOT NULL GROUP BY 1) d) AS "dispositions!: Value",
                  (SELECT sum(attempt_count)::bigint FROM job WHERE run_id = $1) AS "attempts!",
                  (SELECT count(*) FROM attempt WHERE run_id = $1 AND open) AS "open!""#,
        run.0
    );
    let counted = counted.fetch_one(&mut *tx).await.unwrap();
    let progress = serde_json::to_value(&told.progress).unwrap();
    let states = progress["states"].as_object().unwrap();
    assert_eq!(states.len(), 8);
    for (state, n) in states {
        assert_eq!(n, counted.states.get(state).unwrap_or(&json!(0)), "{state}");
    }
    assert_eq!(progress["dispositions"], counted.dispositions);
    assert_eq!((told.progress.attempts, told.progress.attempts_open), (counted.attempts, counted.open));
    assert_eq!(told.progress.states.dialing, counted.open);
    (told.progress.sequence, told.state.is_final())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn progress_equals_the_jobs_at_every_read_while_they_move(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Arc::new(Desk::open(pg).await);
    sqlx::query!("UPDATE business SET max_concurrent_calls = $1", WORKERS).execute(desk.pg()).await.unwrap();
    let run = desk.running(150).await;
    let mut dialers = tokio::task::JoinSet::new();
    for slot in 1..=WORKERS {
        dialers.spawn(dial(desk.pg().clone(), desk.business, slot));
    }
    let adding = tokio::spawn({
        let desk = Arc::clone(&desk);
        async move {
            let leads: Vec<Value> = (150..170).map(|i| json!({"to": number(i)})).collect();
            desk.post(&format!("/v1/runs/{run}/leads"), json!(leads)).await.status
        }
    });
    let (mut last, mut reads) = (0, 0);
    while !dialers.is_empty() {
        let (sequence, _) = compare(desk.pg(), desk.business, run).await;
        assert!(sequence >= last, "the sequence went back");
        (last, reads) = (sequence, reads + 1);
        while let Some(done) = dialers.try_join_next() {
            done.unwrap();
        }
    }
    assert!(reads > 10);
    // The list may have come too late for a run that was over, but never half.
    let added = if adding.await.unwrap() == 200 { 20 } else { 0 };
    for slot in 1..=WORKERS {
        dial(desk.pg().clone(), desk.business, slot).await;
    }
    // Of two last calls that end at one moment, neither sees the other's end: then the sweep ends the run.
    store::end_if_done(desk.pg(), run).await.unwrap();
    let (sequence, over) = compare(desk.pg(), desk.business, run).await;
    assert!(over && sequence >= last);
    let shown = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!((&shown["state"], &shown["progress"]["total"]), (&json!("completed"), &json!(150 + added)));
    assert_eq!(shown["leads"]["accepted"], 150 + added);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cancel_at_any_moment_lists_every_call_that_is_still_open_behind_it(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    sqlx::query!("UPDATE business SET max_concurrent_calls = $1", WORKERS).execute(desk.pg()).await.unwrap();
    for dialed_before in [0, 1, 7, 20] {
        let run = desk.running(40).await;
        let mut dialers = tokio::task::JoinSet::new();
        for slot in 1..=WORKERS {
            dialers.spawn(dial(desk.pg().clone(), desk.business, slot));
        }
        while store::one(desk.pg(), desk.business, run).await.unwrap().unwrap().progress.attempts < dialed_before {}
        let cancelled = desk.act(run, "cancel").await;
        let rows = sqlx::query_scalar!("SELECT attempt_id FROM attempt WHERE run_id = $1 AND open", run.0);
        let open = rows.fetch_all(desk.pg()).await.unwrap();
        assert_eq!(cancelled.status, 200, "{}", cancelled.body);
        let listed = cancelled.body["in_flight"].as_array().unwrap();
        for id in open {
            assert!(listed.iter().any(|attempt| attempt["attempt_id"] == json!(id)), "{id} is open and was not listed");
        }
        while let Some(done) = dialers.join_next().await {
            done.unwrap();
        }
        // Of two last calls that end at one moment, neither sees the other's end: then the sweep ends the run.
        cancel::finish(desk.pg()).await.unwrap();
        let (_, over) = compare(desk.pg(), desk.business, run).await;
        assert!(over, "cancelled, and nothing in flight");
        assert_eq!(desk.state(run).await, "cancelled");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_move_of_a_run_moves_its_sequence(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(1).await;
    let sequence =
        || async { desk.get(&format!("/v1/runs/{run}")).await.body["progress"]["sequence"].as_i64().unwrap() };
    let mut last = sequence().await;
    for action in ["start", "pause", "resume", "cancel"] {
        assert_eq!(desk.act(run, action).await.status, 200);
        let now = sequence().await;
        assert!(now > last, "{action}");
        last = now;
    }
}
