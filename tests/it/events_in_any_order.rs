//! I4, I5: in whatever order and however often a call's events arrive, its end is the same, and no end ever changes.

use futures::{StreamExt, stream};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use rollcall::{
    attempts::{
        events::Event,
        ledger::{self, Change, Closing, JobThen, Said, Verdict},
        state::{AttemptState, Disposition, Source},
    },
    ids::{AttemptId, BusinessId},
    jobs::claim::Claimed,
};

use crate::house::{House, Options, numbers};

/// What is heard of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    AnswerToThePost,
    Initiated,
    Ringing,
    Answered,
    Ended,
}

const ALL: [Heard; 5] = [Heard::AnswerToThePost, Heard::Initiated, Heard::Ringing, Heard::Answered, Heard::Ended];

type Key = (BusinessId, AttemptId);

async fn tell(house: &House, key: Key, call_id: &str, heard: Heard, end: Disposition) -> Change {
    let (source, state) = match heard {
        Heard::AnswerToThePost => (Source::Response, AttemptState::Placed),
        Heard::Initiated => (Source::Webhook, AttemptState::Initiated),
        Heard::Ringing => (Source::Webhook, AttemptState::Ringing),
        Heard::Answered => (Source::Webhook, AttemptState::Answered),
        Heard::Ended => (Source::Webhook, AttemptState::Ended),
    };
    let said = Said {
        call_id: Some(call_id),
        sent_ms_ago: (heard == Heard::AnswerToThePost).then_some(5),
        duration_secs: (heard == Heard::Ended).then_some(7),
        ..Said::default()
    };
    let moved = (state, (heard == Heard::Ended).then_some(end));
    house.ctx.batches.apply(Event::new(key, source, moved, &said)).await.unwrap().0.unwrap()
}

/// Every order of `left` behind `begun`.
fn orders(begun: &[Heard], left: &[Heard]) -> Vec<Vec<Heard>> {
    if left.is_empty() {
        return vec![begun.to_vec()];
    }
    let with = |i: usize| {
        let (mut begun, mut left) = (begun.to_vec(), left.to_vec());
        begun.push(left.remove(i));
        orders(&begun, &left)
    };
    (0..left.len()).flat_map(with).collect()
}

/// All 120 orders; the same with every event said twice at once; and 60 shuffles of all ten.
fn every_order() -> [Vec<Vec<Heard>>; 3] {
    let once = orders(&[], &ALL);
    assert_eq!(once.len(), 120);
    let twice = once.iter().map(|order| order.iter().flat_map(|heard| [*heard; 2]).collect()).collect();
    let (shuffled, mut runner) = (Just([ALL, ALL].concat()).prop_shuffle(), TestRunner::deterministic());
    let shuffles = (0..60).map(|_| shuffled.new_tree(&mut runner).unwrap().current()).collect();
    [once, twice, shuffles]
}

/// Runs every order on a call of its own, in a run of its own, and compares what is left of each.
async fn ends_the_same(end: Disposition, job: (&str, Option<&str>), tallies: &str) {
    let house = House::open(Options { args: vec!["--max-concurrent-calls", "200"], ..Options::default() }).await;
    let business = house.business(120).await;
    for orders in every_order() {
        stream::iter(numbers(orders.len()))
            .for_each_concurrent(8, |to| async {
                let _ = house.run(business, &[to]).await;
            })
            .await;
        let claimed = house.claim(business, 120).await;
        assert_eq!(claimed.len(), orders.len());
        let told = claimed.iter().zip(&orders);
        stream::iter(told)
            .for_each_concurrent(8, |(claimed, order)| told_in(&house, business, claimed, order, end))
            .await;
        for (claimed, order) in claimed.iter().zip(&orders) {
            let row = sqlx::query!(
                r#"SELECT a.state, a.disposition, a.carrier_call_id, a.sent_at IS NOT NULL AND a.placed_at IS NOT NULL AS "timed!",
                       a.duration_secs, ARRAY(SELECT e ->> 'to' FROM jsonb_array_elements(transitions(a.events)) e) AS "moves!",
                       j.state AS job, j.disposition AS job_disposition, j.reason, r.state AS run,
                       (SELECT string_agg(key || '=' || n, ' ' ORDER BY key COLLATE "C") FROM
                           (SELECT key, sum(n) AS n FROM tally WHERE run_id = r.run_id AND key <> 'changes' GROUP BY key) t WHERE n <> 0)
                           AS tallies
                   FROM attempt a JOIN job j USING (job_id) JOIN run r ON r.run_id = a.run_id WHERE attempt_id = $1"#,
                claimed.attempt.0
            )
            .fetch_one(&house.ctx.stores.pg)
            .await
            .unwrap();
            assert_eq!((row.state.as_str(), row.disposition.as_deref()), ("ended", Some(end.as_str())), "{order:?}");
            assert_eq!(row.carrier_call_id, Some(call_id(claimed)), "{order:?}");
            assert!(row.timed, "the answer to the POST was lost: {order:?}");
            assert_eq!(row.duration_secs, Some(7), "{order:?}");
            assert_eq!((row.job.as_str(), row.job_disposition.as_deref()), (job.0, Some(end.as_str())), "{order:?}");
            assert_eq!(row.reason.as_deref(), job.1, "{order:?}");
            assert_eq!((row.run.as_str(), row.tallies.as_deref()), ("completed", Some(tallies)), "{order:?}");
            let ranks: Vec<i16> = row.moves.iter().map(|word| state(word).rank()).collect();
            assert!(ranks.is_sorted_by(|a, b| a < b), "it went back in {order:?}: {:?}", row.moves);
        }
    }
    house.close().await;
}

fn call_id(claimed: &Claimed) -> String {
    format!("CA{}", claimed.attempt.0.simple())
}

fn state(word: &str) -> AttemptState {
    serde_json::from_value(word.into()).unwrap()
}

async fn told_in(house: &House, business: BusinessId, claimed: &Claimed, order: &[Heard], end: Disposition) {
    let (key, call_id) = ((business, claimed.attempt), call_id(claimed));
    let mut closed = 0;
    for heard in order {
        let change = tell(house, key, &call_id, *heard, end).await;
        assert!(closed == 0 || change.verdict == Verdict::Stale, "{heard:?} moved an ended call in {order:?}");
        assert_eq!(change.closed, closed == 0 && *heard == Heard::Ended, "{order:?}");
        assert_eq!(change.closed, change.run_ended, "{order:?}");
        closed += usize::from(change.closed);
    }
    assert_eq!(closed, 1, "how often its slot was freed in {order:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_call_ends_the_same_in_every_order_of_its_events() {
    ends_the_same(Disposition::Answered, ("completed", None), "attempts=1 completed=1 d:answered=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_call_ends_the_same_in_every_order_of_its_events() {
    ends_the_same(Disposition::Busy, ("unreached", Some("attempts_used")), "attempts=1 d:busy=1 unreached=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_answers_ends_the_same_in_every_order_of_its_events() {
    ends_the_same(Disposition::NoAnswer, ("unreached", Some("attempts_used")), "attempts=1 d:no_answer=1 unreached=1")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_call_ends_the_same_in_every_order_of_its_events() {
    ends_the_same(Disposition::Failed, ("unreached", Some("attempts_used")), "attempts=1 d:failed=1 unreached=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_ends_the_same_in_every_order_of_its_events() {
    ends_the_same(Disposition::Cancelled, ("cancelled", Some("cancelled")), "attempts=1 cancelled=1 d:cancelled=1")
        .await;
}

/// Everything of the ledger but the notes on late events, which an attempt that never became a call may gain.
async fn facts(house: &House) -> String {
    sqlx::query_scalar!(
        r#"SELECT string_agg(fact, E'\n' ORDER BY fact) AS "all!" FROM (
               SELECT 'attempt ' || (to_jsonb(a) - 'late_events' - 'events')::text AS fact FROM attempt a
               UNION ALL SELECT 'job ' || to_jsonb(j)::text FROM job j
               UNION ALL SELECT 'run ' || to_jsonb(r)::text FROM run r
               UNION ALL SELECT 'tally ' || to_jsonb(t)::text FROM tally t) facts"#
    )
    .fetch_one(&house.ctx.stores.pg)
    .await
    .unwrap()
}

async fn strays(house: &House) -> Vec<(String, bool)> {
    let rows = sqlx::query!(r#"SELECT call_id, ended_at IS NOT NULL AS "ended!" FROM stray_call ORDER BY call_id"#)
        .fetch_all(&house.ctx.stores.pg)
        .await
        .unwrap();
    rows.into_iter().map(|row| (row.call_id, row.ended)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_an_attempt_closed_without_one_is_written_down_to_be_hung_up_and_moves_nothing() {
    let closings = [
        (AttemptState::Refused, JobThen::Fail, Some(Disposition::Refused), Some("refused")),
        (AttemptState::NotSent, JobThen::Requeue, None, None),
        (AttemptState::NotPlaced, JobThen::Requeue, Some(Disposition::NotPlaced), Some("not_placed")),
    ];
    for (closed_as, job, disposition, reason) in closings {
        let house = House::open(Options::default()).await;
        let business = house.business(1).await;
        let run = house.run(business, &numbers(1)).await;
        let claimed = house.claim(business, 1).await.pop().unwrap();
        let closing = Closing { state: closed_as, job, disposition, reason, carrier_status: None, carrier_code: None };
        let pg = &house.ctx.stores.pg;
        let close = || async { ledger::close(pg, claimed.attempt, Source::Response, closing).await.unwrap().unwrap() };
        assert_eq!(close().await.verdict, Verdict::Applied);
        let before = facts(&house).await;
        assert_eq!(close().await.verdict, Verdict::Stale, "{closed_as:?}");
        for heard in [Heard::Initiated, Heard::AnswerToThePost, Heard::Answered, Heard::Ringing] {
            let late = tell(&house, (business, claimed.attempt), "CA1", heard, Disposition::Answered).await;
            assert_eq!((late.verdict, late.closed), (Verdict::Late, false), "{closed_as:?} {heard:?}");
            assert_eq!(strays(&house).await, [("CA1".to_owned(), false)], "{closed_as:?}");
        }
        let end = tell(&house, (business, claimed.attempt), "CA1", Heard::Ended, Disposition::Answered).await;
        assert_eq!(end.verdict, Verdict::Late);
        assert_eq!(strays(&house).await, [("CA1".to_owned(), true)], "its end is told once");
        assert_eq!(facts(&house).await, before, "{closed_as:?}");
        house.stop_dialing(run).await;
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_call_of_an_attempt_is_written_down_to_be_hung_up_and_moves_nothing() {
    let house = House::open(Options::default()).await;
    let business = house.business(1).await;
    house.run(business, &numbers(1)).await;
    let claimed = house.claim(business, 1).await.pop().unwrap();
    let key = (business, claimed.attempt);
    for first in [Heard::Initiated, Heard::Ended] {
        assert_eq!(tell(&house, key, "CA1", first, Disposition::Busy).await.verdict, Verdict::Applied);
        let before = facts(&house).await;
        for second in ALL {
            let other = tell(&house, key, "CA2", second, Disposition::Answered).await;
            assert_eq!((other.verdict, other.closed), (Verdict::OtherCall, false), "{second:?} after {first:?}");
            assert_eq!(other.call_id.as_deref(), Some("CA2"), "the second one is to be hung up");
        }
        assert_eq!(strays(&house).await, [("CA2".to_owned(), true)]);
        assert_eq!(facts(&house).await, before);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_end_of_a_call_stays_its_end() {
    let house = House::open(Options::default()).await;
    let business = house.business(1).await;
    house.run(business, &numbers(1)).await;
    let claimed = house.claim(business, 1).await.pop().unwrap();
    let key = (business, claimed.attempt);
    for heard in [Heard::AnswerToThePost, Heard::Ended] {
        tell(&house, key, "CA1", heard, Disposition::Busy).await;
    }
    let before = house.ledger().await;
    for other in [Disposition::Answered, Disposition::NoAnswer, Disposition::Failed, Disposition::Cancelled] {
        assert_eq!(tell(&house, key, "CA1", Heard::Ended, other).await.verdict, Verdict::Stale, "{other:?}");
    }
    assert_eq!(house.ledger().await, before);
    // The rows themselves refuse it, whatever statement tries.
    let pg = &house.ctx.stores.pg;
    let rewritten = [
        sqlx::query!("UPDATE attempt SET disposition = 'answered'").execute(pg).await,
        sqlx::query!("UPDATE attempt SET state = 'answered', ended_at = NULL").execute(pg).await,
        sqlx::query!("UPDATE job SET state = 'queued', finished_at = NULL").execute(pg).await,
        sqlx::query!("UPDATE job SET attempt_count = 0").execute(pg).await,
    ];
    for refused in rewritten {
        let refused = refused.unwrap_err();
        assert_eq!(refused.as_database_error().and_then(|e| e.code()).as_deref(), Some("RC001"), "{refused}");
    }
    house.close().await;
}
