//! Events that come while a batch is under way are written in one transaction, and each is told its own outcome.

use futures::future::join_all;
use rollcall::{
    attempts::{
        events::{self, Event},
        ledger::{Change, Said, Verdict},
        state::{AttemptState, Disposition, Source},
    },
    ids::BusinessId,
    jobs::claim::Claimed,
};

use sqlx::{Connection, PgConnection};

use crate::house::{House, Options, numbers};

const CALLS: i32 = 21;

fn ended(business: BusinessId, claimed: &Claimed, call_id: &str) -> Event {
    let said = Said { call_id: Some(call_id), duration_secs: Some(1), ..Said::default() };
    let end = (AttemptState::Ended, Some(Disposition::Answered));
    Event::new((business, claimed.attempt), Source::Webhook, end, &said)
}

async fn applied(house: &House, event: Event) -> sqlx::Result<Option<Change>> {
    Ok(house.ctx.batches.apply(event).await?.0)
}

async fn waits_for_a_lock(house: &House) -> bool {
    let waiting = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock') AS "waiting!""#
    );
    waiting.fetch_one(&house.ctx.stores.pg).await.unwrap()
}

async fn locked_by(house: &House, one: &Claimed) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = house.ctx.stores.pg.begin().await.unwrap();
    sqlx::query!("SELECT 1 AS one FROM attempt WHERE attempt_id = $1 FOR UPDATE", one.attempt.0)
        .fetch_one(&mut *lock)
        .await
        .unwrap();
    lock
}

/// Lets the events of `calls` gather behind one whose attempt is locked, then lets that go; returns what each was told, the
/// first of them being the one that was locked.
async fn gathered(house: &House, events: Vec<Event>, locked: &Claimed) -> Vec<sqlx::Result<Option<Change>>> {
    let lock = locked_by(house, locked).await;
    let mut events = events.into_iter();
    let mut first = std::pin::pin!(applied(house, events.next().unwrap()));
    assert!(futures::poll!(&mut first).is_pending());
    house.until("the first event waits for the locked row", || async { waits_for_a_lock(house).await }).await;
    // A batch is under way from here on, and these wait for it.
    let mut others = std::pin::pin!(join_all(events.map(|event| applied(house, event))));
    assert!(futures::poll!(&mut others).is_pending());
    lock.commit().await.unwrap();
    let mut told = vec![first.await];
    told.extend(others.await);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_gather_behind_a_batch_are_written_in_one_transaction() {
    let house = House::open(Options::default()).await;
    let business = house.business(CALLS).await;
    let run = house.started(business, &numbers(usize::try_from(CALLS).unwrap())).await;
    let claimed = house.claim(business, CALLS).await;
    let events: Vec<_> = claimed.iter().map(|one| ended(business, one, &format!("CA{}", one.attempt))).collect();

    let told = gathered(&house, events, &claimed[0]).await;

    assert!(
        told.iter().all(|one| one
            .as_ref()
            .unwrap()
            .as_ref()
            .is_some_and(|c| c.closed && c.verdict == Verdict::Applied))
    );
    let ends: Vec<bool> = told.iter().map(|one| one.as_ref().unwrap().as_ref().unwrap().run_ended).collect();
    assert_eq!(ends.iter().filter(|ended| **ended).count(), 1, "exactly one event is told that it ended the run");
    let transactions = sqlx::query_scalar!(r#"SELECT count(DISTINCT xmin::text) AS "n!" FROM attempt"#);
    assert_eq!(transactions.fetch_one(&house.ctx.stores.pg).await.unwrap(), 2, "the first alone, then all the others");
    house.until_run_is(run, "completed").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_written_spoils_no_other_of_its_batch() {
    let house = House::open(Options::default()).await;
    let business = house.business(CALLS).await;
    house.started(business, &numbers(usize::try_from(CALLS).unwrap())).await;
    let claimed = house.claim(business, CALLS).await;
    let mut events: Vec<_> = claimed.iter().map(|one| ended(business, one, &format!("CA{}", one.attempt))).collect();
    // No two attempts of an account have one call: the later of the two cannot be written.
    events[20] = ended(business, &claimed[20], &format!("CA{}", claimed[10].attempt));

    let told = gathered(&house, events, &claimed[0]).await;

    let written: Vec<bool> = told.iter().map(Result::is_ok).collect();
    assert_eq!(written.iter().filter(|ok| !**ok).count(), 1, "{written:?}");
    assert!(told[10].is_err() != told[20].is_err());
    let closed = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE NOT open"#);
    assert_eq!(closed.fetch_one(&house.ctx.stores.pg).await.unwrap(), 20);
    house.tallies_equal_the_jobs().await;
}

#[tokio::test]
async fn an_end_is_on_the_disk_before_the_carrier_may_be_told() {
    let house = House::open(Options::default()).await;
    let business = house.business(CALLS).await;
    house.started(business, &numbers(usize::try_from(CALLS).unwrap())).await;
    for claimed in house.claim(business, CALLS).await {
        let before = sqlx::query_scalar!(r#"SELECT pg_current_wal_insert_lsn()::text AS "lsn!""#);
        let before = before.fetch_one(&house.ctx.stores.pg).await.unwrap();
        let event = ended(business, &claimed, &format!("CA{}", claimed.attempt));
        let (change, flush) = house.ctx.batches.apply(event).await.unwrap();
        assert!(change.unwrap().closed, "whoever reads sees the end before it is flushed");

        flush.done().await.unwrap();

        let flushed =
            sqlx::query_scalar!(r#"SELECT pg_current_wal_flush_lsn() > $1::text::pg_lsn AS "further!""#, before);
        assert!(flushed.fetch_one(&house.ctx.stores.pg).await.unwrap(), "the end is on the disk");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_over_a_connection_that_broke_is_never_called_flushed() {
    let house = House::open(Options::default()).await;
    let business = house.business(CALLS).await;
    house.started(business, &numbers(usize::try_from(CALLS).unwrap())).await;
    let claimed = house.claim(business, CALLS).await;
    let pg = &house.ctx.stores.pg;
    let mut seen = false;
    for three in claimed.chunks_exact(3) {
        let mut lock = pg.begin().await.unwrap();
        sqlx::query!("SELECT 1 AS one FROM attempt WHERE attempt_id = $1 FOR UPDATE", three[1].attempt.0)
            .fetch_one(&mut *lock)
            .await
            .unwrap();
        let first = ended(business, &three[0], &format!("CA{}", three[0].attempt));
        let (_, flush) = house.ctx.batches.apply(first).await.unwrap();
        let mut flush = std::pin::pin!(flush.done());
        let second = ended(business, &three[1], &format!("CA{}", three[1].attempt));
        let third = ended(business, &three[2], &format!("CA{}", three[2].attempt));
        let mut others = std::pin::pin!(join_all([applied(&house, second), applied(&house, third)]));
        assert!(futures::poll!(&mut others).is_pending());
        house.until("the second waits for the locked row", || async { waits_for_a_lock(&house).await }).await;
        // Most often the first is still on its way to the disk; where it is not, others are tried.
        seen = futures::poll!(&mut flush).is_pending();
        if seen {
            sqlx::query!(
                r#"SELECT pg_terminate_backend(pid) AS "ended!" FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'"#
            )
            .fetch_one(pg)
            .await
            .unwrap();
        }
        lock.commit().await.unwrap();
        // Written over another connection.
        others.await;
        if seen {
            assert!(flush.await.is_err(), "nobody knows whether Postgres crashed in between");
            break;
        }
    }
    assert!(seen, "no end waited for its flush while the next was written");
}

/// Batches of several processes hold some attempts each: were one to wait for another's out of turn, both might wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_moves_nothing_holds_up_no_other_while_its_attempt_is_locked() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.started(business, &numbers(3)).await;
    let claimed = house.claim(business, 3).await;
    let [first, locked, free] = claimed.as_slice() else { panic!("three") };
    let call_id = format!("CA{}", locked.attempt);
    let said = Said { call_id: Some(&call_id), ..Said::default() };
    let to = |state| Event::new((business, locked.attempt), Source::Webhook, (state, None), &said);
    applied(&house, to(AttemptState::Answered)).await.unwrap();
    let lock = locked_by(&house, first).await;
    let other = locked_by(&house, locked).await;

    let mut head = std::pin::pin!(applied(&house, ended(business, first, "CA-first")));
    assert!(futures::poll!(&mut head).is_pending());
    house.until("the first event waits for its row", || async { waits_for_a_lock(&house).await }).await;
    let mut stale = std::pin::pin!(applied(&house, to(AttemptState::Initiated)));
    let mut end = std::pin::pin!(applied(&house, ended(business, free, "CA-free")));
    assert!(futures::poll!(&mut stale).is_pending() && futures::poll!(&mut end).is_pending());
    lock.commit().await.unwrap();
    for told in [head.await, end.await] {
        assert!(told.unwrap().is_some_and(|change| change.closed));
    }
    assert!(futures::poll!(&mut stale).is_pending(), "nothing is known of an attempt that is locked");

    other.commit().await.unwrap();
    assert_eq!(stale.await.unwrap().map(|change| change.verdict), Some(Verdict::Stale));
}

/// What a carrier answers to the dial of one that it took.
fn placed(business: BusinessId, claimed: &Claimed, call_id: &str) -> Event {
    let said =
        Said { call_id: Some(call_id), carrier_status: Some("queued"), sent_ms_ago: Some(40), ..Said::default() };
    Event::new((business, claimed.attempt), Source::Response, (AttemptState::Placed, None), &said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_dial_places_what_no_callback_told_of_and_tells_the_others_when_they_were_sent() {
    let house = House::open(Options::default()).await;
    let business = house.business(5).await;
    house.started(business, &numbers(5)).await;
    let claimed = house.claim(business, 5).await;
    let [silent, told, over, elsewhere, lost] = claimed.as_slice() else { panic!("five") };
    let own = |one: &Claimed| format!("CA{}", one.attempt);
    let initiated = Said { call_id: Some(&own(told)), ..Said::default() };
    let initiated = Event::new((business, told.attempt), Source::Webhook, (AttemptState::Initiated, None), &initiated);
    applied(&house, initiated).await.unwrap();
    applied(&house, ended(business, over, &own(over))).await.unwrap();
    applied(&house, ended(business, elsewhere, "CA-of-another")).await.unwrap();
    let unknown =
        Event::new((business, lost.attempt), Source::Response, (AttemptState::Unknown, None), &Said::default());
    applied(&house, unknown).await.unwrap();

    let answers = || claimed.iter().map(|one| placed(business, one, &own(one))).collect::<Vec<_>>();
    let first = gathered(&house, answers(), silent).await;
    let again = gathered(&house, answers(), silent).await;

    let verdicts = |told: Vec<sqlx::Result<Option<Change>>>| -> Vec<Verdict> {
        told.into_iter().map(|one| one.unwrap().unwrap().verdict).collect()
    };
    let late = [Verdict::Stale, Verdict::Stale, Verdict::OtherCall];
    assert_eq!(verdicts(first), [&[Verdict::Applied], late.as_slice(), &[Verdict::Applied]].concat());
    assert_eq!(verdicts(again), [&[Verdict::Stale], late.as_slice(), &[Verdict::Stale]].concat());
    let seen = sqlx::query!(
        r#"SELECT attempt_id, state::text AS "state!", carrier_call_id AS "call_id!", jsonb_array_length(transitions(events)) AS "moves!",
                  sent_at < placed_at AS "sent", next_look_at IS NULL AS "left_alone!" FROM attempt ORDER BY attempt_id"#
    );
    let seen = seen.fetch_all(&house.ctx.stores.pg).await.unwrap();
    let of = |one: &Claimed| {
        let row = seen.iter().find(|row| row.attempt_id == one.attempt.0).unwrap();
        (row.state.as_str(), row.call_id == own(one), row.moves, row.sent.unwrap_or(false), row.left_alone)
    };
    assert_eq!(of(silent), ("placed", true, 1, true, true));
    assert_eq!(of(told), ("initiated", true, 1, true, true));
    assert_eq!(of(over), ("ended", true, 1, true, true));
    assert_eq!(of(elsewhere), ("ended", false, 1, false, true));
    assert_eq!(of(lost), ("placed", true, 2, true, true), "it is not looked for any more");
    let taken = sqlx::query_scalar!(r#"SELECT coalesce(sum(calls_started), 0)::bigint AS "n!" FROM tally_shard"#);
    assert_eq!(taken.fetch_one(&house.ctx.stores.pg).await.unwrap(), 5, "each call was taken once");
}

/// A plan that was made while tables are empty is kept: among indexes that all look small it must not be one that leads through
/// every attempt of a business.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_claims_find_their_rows_by_the_right_index_also_where_the_tables_were_empty() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let run = house.run(business, &numbers(3)).await;
    let claimed = house.claim(business, 3).await;
    let mut lane = house.ctx.stores.pg.acquire().await.unwrap();
    for one in &claimed {
        let verdict = sqlx::query_scalar!(
            r#"SELECT verdict AS "verdict!" FROM apply_events(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY['webhook'], ARRAY[$3::text], ARRAY['ended'],
               ARRAY['answered'], ARRAY[1], ARRAY[NULL::text], ARRAY['completed'], ARRAY[NULL::int], ARRAY[NULL::int], ARRAY[NULL::text],
               ARRAY[NULL::text], ARRAY[NULL::int], ARRAY[NULL::int])"#,
            business.0,
            one.attempt.0,
            format!("CA{}", one.attempt)
        )
        .fetch_one(&mut *lane)
        .await
        .unwrap();
        assert_eq!(verdict, "applied");
        let claimed = sqlx::query_scalar!(
            r#"SELECT count(*) AS "n!" FROM claim_jobs(ARRAY[$1::uuid], ARRAY['twilio'], ARRAY['o'], '{}', '{}', '{}', '{}', 5000, 5000, 0)
               WHERE attempt_id IS NOT NULL"#,
            business.0
        );
        assert_eq!(claimed.fetch_one(&mut *lane).await.unwrap(), 0, "nothing is held");
        let rule = sqlx::query_scalar!(
            "SELECT rule FROM verdict_on($1, $2, $3, NULL, NULL, NULL, NULL, NULL, NULL)",
            business.0,
            one.account,
            "+12055550199"
        );
        assert_eq!(rule.fetch_one(&mut *lane).await.unwrap(), None);
    }
    sqlx::query!("SELECT pg_stat_force_next_flush() IS NULL AS told").fetch_one(&mut *lane).await.unwrap();
    house.until("what the connection read is counted", || async { scans(&house, "attempt_pkey").await >= 3 }).await;
    assert!(
        scans(&house, "attempt_open_number_at_account").await >= 3,
        "who is called now is looked for among open attempts"
    );
    assert_eq!(scans(&house, "attempt_number").await, 0, "and not in what was ever dialed");
    assert!(scans(&house, "run_active").await >= 3, "a claim reads what dials");
    assert_eq!(scans(&house, "run_business").await, 0, "and no run that is over");
    drop(lane);
    house.stop_dialing(run).await;
    house.empty().await;
}

/// Found by anything else, attempts would also be locked in another order than by whoever writes events at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_find_and_lock_their_attempts_by_key_also_where_the_table_was_empty() {
    let house = House::open(Options::default()).await;
    let mut lane = PgConnection::connect_with(&house.ctx.stores.pg.connect_options()).await.unwrap();
    events::plan(&mut lane).await.unwrap();
    let business = house.business(3).await;
    house.started(business, &numbers(3)).await;
    let claimed = house.claim(business, 3).await;
    let answers: Vec<_> = claimed.iter().map(|one| placed(business, one, &format!("CA{}", one.attempt))).collect();
    let ends: Vec<_> = claimed.iter().map(|one| ended(business, one, &format!("CA{}", one.attempt))).collect();
    for events in [answers, ends] {
        let told = events::apply_all(&mut lane, &events).await.unwrap();
        assert!(told.iter().all(|one| one.change.as_ref().is_some_and(|change| change.verdict == Verdict::Applied)));
    }

    let used = sqlx::query_scalar!(
        r#"SELECT indexrelname AS "name!" FROM pg_stat_user_indexes
           WHERE relname = 'attempt' AND pg_stat_get_xact_numscans(indexrelid) > 0"#
    );
    assert_eq!(used.fetch_all(&mut lane).await.unwrap(), ["attempt_pkey"]);
}

/// How often this index was used.
async fn scans(house: &House, index: &str) -> i64 {
    let used = sqlx::query_scalar!(
        r#"SELECT idx_scan AS "used!" FROM pg_stat_user_indexes WHERE schemaname = 'public' AND indexrelname = $1"#,
        index
    );
    used.fetch_one(&house.ctx.stores.pg).await.unwrap()
}
