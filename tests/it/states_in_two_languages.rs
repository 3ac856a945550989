//! I4: Rust and Postgres hold the same words and the same order of states.

use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use rollcall::{
    attempts::{
        events,
        ledger::{Said, Verdict},
        state::{AttemptState, Disposition, Source},
    },
    jobs::JobState,
};
use sqlx::PgPool;
use utoipa::PartialSchema;

use crate::house::{House, Options, numbers};

/// The words that a CHECK constraint allows, sorted.
async fn allowed(pg: &PgPool, constraint: &str) -> Vec<String> {
    let text = sqlx::query_scalar!(
        r#"SELECT pg_get_constraintdef(oid) AS "text!" FROM pg_constraint WHERE conname = $1"#,
        constraint
    )
    .fetch_one(pg)
    .await
    .unwrap();
    let mut words: Vec<String> = text.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
    words.sort_unstable();
    words
}

/// The words that a type writes, sorted: its schema names every variant, also one that is added later.
fn written<T: PartialSchema + serde::de::DeserializeOwned>(as_str: impl Fn(T) -> &'static str) -> Vec<String> {
    let schema = serde_json::to_value(T::schema()).unwrap();
    let mut words: Vec<String> = serde_json::from_value(schema["enum"].clone()).unwrap();
    for word in &words {
        assert_eq!(as_str(serde_json::from_value(word.as_str().into()).unwrap()), word, "JSON and rows differ");
    }
    words.sort_unstable();
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_writes_exactly_the_words_that_postgres_allows() {
    let house = House::open(Options::default()).await;
    let pg = &house.ctx.stores.pg;
    assert_eq!(written(AttemptState::as_str), allowed(pg, "attempt_state_check").await);
    assert_eq!(written(Disposition::as_str), allowed(pg, "attempt_disposition_check").await);
    assert_eq!(written(JobState::as_str), allowed(pg, "job_state_check").await);
    assert_eq!(AttemptState::ALL.len(), written(AttemptState::as_str).len());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_and_postgres_rank_every_state_alike() {
    let house = House::open(Options::default()).await;
    for state in AttemptState::ALL {
        let rank = sqlx::query_scalar!(r#"SELECT attempt_rank($1) AS "rank!""#, state.as_str());
        assert_eq!(rank.fetch_one(&house.ctx.stores.pg).await.unwrap(), state.rank(), "{state:?}");
        assert_eq!(state.is_open(), state.rank() < 9);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_events_an_attempt_is_where_the_highest_rank_among_them_is() {
    let house = House::open(Options::default()).await;
    let business = house.business(1).await;
    let told = select(AttemptState::ALL.into_iter().filter(|state| (1..6).contains(&state.rank())).collect::<Vec<_>>());
    let (stories, mut runner) = (prop::collection::vec(told, 1..12), TestRunner::deterministic());
    for to in numbers(60) {
        let story = stories.new_tree(&mut runner).unwrap().current();
        house.run(business, &[to]).await;
        let key = (business, house.claim(business, 1).await.pop().unwrap().attempt);
        let call_id = format!("CA{}", key.1.0.simple());
        let mut expected = AttemptState::Intent;
        for state in &story {
            let said = Said { call_id: (*state != AttemptState::Unknown).then_some(&*call_id), ..Said::default() };
            let change = events::apply(&house.ctx.stores.pg, key, Source::Webhook, (*state, None), &said)
                .await
                .unwrap()
                .unwrap();
            let further = state.rank() > expected.rank();
            assert_eq!(change.verdict == Verdict::Applied, further, "{state:?} in {story:?}");
            expected = if further { *state } else { expected };
            let row = sqlx::query!(
                r#"SELECT state AS "state: AttemptState", rank FROM attempt WHERE attempt_id = $1"#,
                key.1.0
            );
            let row = row.fetch_one(&house.ctx.stores.pg).await.unwrap();
            assert_eq!((row.state, row.rank), (expected, expected.rank()), "{story:?}");
        }
        let said = Said { call_id: Some(&call_id), ..Said::default() };
        let ended = (AttemptState::Ended, Some(Disposition::Failed));
        events::apply(&house.ctx.stores.pg, key, Source::Webhook, ended, &said).await.unwrap();
    }
    house.close().await;
}
