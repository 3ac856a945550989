//! I5: a transaction that moves the tallies of several runs does it in the order of the runs, so that no two ever wait for each
//! other.

use rollcall::{
    attempts::{
        events::{self, Event},
        ledger::{Said, Verdict},
        state::{AttemptState, Disposition, Source},
    },
    ids::{AttemptId, BusinessId, Held, RunId},
    jobs::claim::{self, Claimed},
};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::house::{House, Options, numbers};

/// Tallies are spread over so many shards by the process that serves a connection.
const SHARDS: usize = 15;

/// Two connections that move the same shard, each a pool of its own, and the shard. They wait for long, so that the test sees
/// who waits for whom.
async fn of_one_shard(house: &House) -> (PgPool, PgPool, i16) {
    let options = house.ctx.stores.pg.connect_options();
    let options = options.as_ref().clone().options([("lock_timeout", "30s"), ("statement_timeout", "30s")]);
    let mut seen: Vec<(i16, PgPool)> = Vec::new();
    for _ in 0..=SHARDS {
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await.unwrap();
        let shard = sqlx::query_scalar!(r#"SELECT tally_shard() AS "shard!""#).fetch_one(&pool).await.unwrap();
        if let Some(at) = seen.iter().position(|(other, _)| *other == shard) {
            return (seen.swap_remove(at).1, pool, shard);
        }
        seen.push((shard, pool));
    }
    panic!("more connections than shards, and no two alike");
}

fn event(business: BusinessId, claimed: &Claimed, to: (AttemptState, Option<Disposition>)) -> Event {
    let call_id = format!("CA{}", claimed.attempt);
    let said = Said { call_id: Some(&call_id), duration_secs: Some(1), ..Said::default() };
    Event::new((business, claimed.attempt), Source::Webhook, to, &said)
}

fn end(business: BusinessId, claimed: &Claimed) -> Event {
    event(business, claimed, (AttemptState::Ended, Some(Disposition::Answered)))
}

impl House {
    /// Waits until so many backends of this database wait for a lock.
    async fn until_waiting(&self, backends: i64) {
        self.until(&format!("{backends} wait for a lock"), || async {
            let waiting = sqlx::query_scalar!(
                r#"SELECT count(*) AS "n!" FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"#
            );
            waiting.fetch_one(&self.ctx.stores.pg).await.unwrap() == backends
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_with_runs_in_opposite_order_do_not_wait_for_each_other() {
    let house = House::open(Options::default()).await;
    let business = house.business(6).await;
    let mut runs = Vec::new();
    for of_run in numbers(6).chunks(3) {
        runs.push(house.run(business, of_run).await);
    }
    runs.sort_by_key(|run| run.0);
    // The runs take turns; batches are sorted by attempt, so their attempts are mixed: low, high, high, low, low, high.
    let attempts: Vec<_> = std::iter::repeat_with(AttemptId::new).take(6).collect();
    let held = |(i, slot): (usize, i32)| Held { attempt: attempts[i], slot, line: slot };
    let held: Vec<_> = [0, 1, 3, 2, 4, 5].into_iter().zip(1..).map(held).collect();
    let pg = &house.ctx.stores.pg;
    let claimed =
        claim::claim(pg, (business, rollcall::ids::Carrier::Twilio), "by hand", &held, &house.ctx.settings.times)
            .await
            .unwrap();
    let of = |run: RunId| {
        let mut events: Vec<_> =
            claimed.iter().filter(|one| one.run == Some(run)).map(|one| end(business, one)).collect();
        events.sort_by_key(|event| event.attempt);
        events
    };
    let (lower, higher) = (of(runs[0]), of(runs[1]));
    // The calls are known to the carrier already: else their number is a tally too, which everybody moves first.
    for one in &claimed {
        house.ctx.batches.apply(event(business, one, (AttemptState::Initiated, None))).await.unwrap();
    }
    let (one, other, shard) = of_one_shard(&house).await;
    for run in &runs {
        sqlx::query!("INSERT INTO tally_shard (run_id, shard) VALUES ($1, $2) ON CONFLICT DO NOTHING", run.0, shard)
            .execute(&house.ctx.stores.pg)
            .await
            .unwrap();
    }

    // The tally of the lower run is held; the first batch waits for it with nothing in its hands. The second batch names the
    // runs the other way round: were it to take the higher one first, each would then hold what the other waits for.
    let mut holder = house.ctx.stores.pg.begin().await.unwrap();
    sqlx::query!("SELECT 1 AS one FROM tally_shard WHERE run_id = $1 AND shard = $2 FOR UPDATE", runs[0].0, shard)
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    let batch = |first: &Event, second: &Event| [first.clone(), second.clone()];
    let (upwards, downwards) = (batch(&lower[0], &higher[0]), batch(&higher[1], &lower[1]));
    assert!(upwards.is_sorted_by_key(|event| event.attempt) && downwards.is_sorted_by_key(|event| event.attempt));
    let first = tokio::spawn(async move { events::apply_all(&one, &upwards).await });
    house.until_waiting(1).await;
    let second = tokio::spawn(async move { events::apply_all(&other, &downwards).await });
    house.until_waiting(2).await;
    holder.rollback().await.unwrap();

    for told in [first.await.unwrap(), second.await.unwrap()] {
        let told = told.expect("neither batch is given up for the other");
        assert!(told.iter().all(|one| one.change.as_ref().is_some_and(|change| change.verdict == Verdict::Applied)));
    }
    for event in [&lower[2], &higher[2]] {
        house.ctx.batches.apply(event.clone()).await.unwrap();
    }
    for run in runs {
        house.until_run_is(run, "completed").await;
    }
    house.close().await;
}
