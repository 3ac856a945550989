//! I6 at Telnyx's door: what was not signed by its key for this very call moves no row, and every authentic event gets exactly 200.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use rollcall::{
    attempts::{
        detection, events,
        ledger::Said,
        state::{AttemptState, Source},
    },
    businesses::health,
    ids::{AttemptId, BusinessId},
};
use serde_json::{Value, json};

use crate::{
    by_hand::client,
    house::{House, Options, numbers},
    scripted_carrier::Fake,
    telnyx_house::{SEED, connection, now_secs, telnyx_event},
};

const CALL: &str = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg";
/// A key that is nobody's.
const STRANGER: [u8; 32] = [9; 32];

/// A business with one placed call.
struct Street {
    house: House,
    business: BusinessId,
    attempt: AttemptId,
    path: String,
}

impl Street {
    async fn open() -> Self {
        let house = House::open(Options::default()).await;
        let business = house.telnyx_business(1).await;
        house.run(business, &numbers(1)).await;
        let attempt = house.claim_at(business, 1, 1).await;
        let said = Said { call_id: Some(CALL), ..Said::default() };
        let placed = (AttemptState::Placed, None);
        events::apply(&house.ctx.stores.pg, (business, attempt), Source::Response, placed, &said).await.unwrap();
        let path = house.telnyx_hook(business, attempt);
        Self { house, business, attempt, path }
    }

    fn event(&self, event: &str, more: Value) -> Value {
        telnyx_event(self.business, CALL, event, more)
    }

    fn busy(&self) -> Value {
        self.event("call.hangup", json!({"hangup_cause": "user_busy", "sip_hangup_cause": "486"}))
    }

    async fn accepted(&self, event: &Value) {
        assert_eq!(self.house.telnyx_told(&self.path, event).await, 200, "{event}");
    }

    /// Posts it and wants this status, and not one row written.
    async fn refused(&self, what: &str, path: &str, body: &str, seed: &[u8; 32], timestamp: u64) {
        let before = self.house.ledger().await;
        assert_eq!(self.house.telnyx_post(path, body, seed, timestamp).await, 403, "{what}");
        assert_eq!(self.house.ledger().await, before, "{what}");
    }

    async fn state(&self) -> (String, Option<String>, Option<String>) {
        let row =
            sqlx::query!("SELECT state, disposition, answered_by FROM attempt WHERE attempt_id = $1", self.attempt.0);
        let row = row.fetch_one(&self.house.ctx.stores.pg).await.unwrap();
        (row.state, row.disposition, row.answered_by)
    }

    async fn is(&self, state: &str, disposition: Option<&str>) {
        let seen = self.state().await;
        assert_eq!((seen.0.as_str(), seen.1.as_deref()), (state, disposition));
    }

    async fn close(self) {
        self.accepted(&self.busy()).await;
        self.house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_key_did_not_sign_for_this_call_lately_changes_nothing() {
    let street = Street::open().await;
    let (now, body) = (now_secs(), street.busy().to_string());
    let neighbour = street.house.telnyx_business(1).await;
    let theirs = street.house.telnyx_hook(neighbour, street.attempt);
    street.refused("a stranger's key", &street.path, &body, &STRANGER, now).await;
    street.refused("too old", &street.path, &body, &SEED, now - 302).await;
    street.refused("of the future", &street.path, &body, &SEED, now + 302).await;
    street.refused("a token of ours for another's business", &theirs, &body, &SEED, now).await;
    let mut other = street.busy();
    other["data"]["payload"]["connection_id"] = json!(connection(neighbour));
    street.refused("another connection", &street.path, &other.to_string(), &SEED, now).await;
    street.refused("no event", &street.path, "{}", &SEED, now).await;
    street.refused("the other version of the API", &street.path, r#"{"metadata":{"event":{}}}"#, &SEED, now).await;
    let token = street.path.rsplit_once('/').unwrap().1;
    for at in [0, 20, 43, 65] {
        let mut changed = token.to_owned().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let path = format!("/webhooks/telnyx/{}", String::from_utf8(changed).unwrap());
        street.refused("a changed token", &path, &body, &SEED, now).await;
    }
    let before = street.house.ledger().await;
    let url = format!("http://{}{}", street.house.addr, street.path);
    let bare = client().post(&url).body(body.clone()).send().await.unwrap();
    assert_eq!(bare.status(), 403, "no signature");
    let timestamp = now.to_string();
    let signature = rollcall::sim::sign_telnyx(&SEED, &timestamp, body.as_bytes());
    let touched =
        client().post(&url).header("Telnyx-Signature-Ed25519", signature).header("Telnyx-Timestamp", &timestamp);
    assert_eq!(
        touched.body(body.replace("user_busy", "no_answer")).send().await.unwrap().status(),
        403,
        "a touched body"
    );
    assert_eq!(street.house.ledger().await, before);
    street.is("placed", None).await;
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_applied_in_any_order_and_a_captured_one_changes_nothing() {
    let street = Street::open().await;
    street.accepted(&street.event("call.initiated", json!({"state": "bridging"}))).await;
    street.is("initiated", None).await;
    street.accepted(&street.busy()).await;
    street.is("ended", Some("busy")).await;
    let before = street.house.ledger().await;
    for event in [street.busy(), street.event("call.initiated", json!({}))] {
        for _ in 0..50 {
            street.accepted(&event).await;
        }
    }
    assert_eq!(street.house.ledger().await, before);
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_picked_up_is_kept_and_decides_how_the_call_ended() {
    let street = Street::open().await;
    street.accepted(&street.event("call.machine.detection.ended", json!({"result": "machine"}))).await;
    assert_eq!(street.state().await.2.as_deref(), Some("machine"));
    street.is("answered", None).await;
    street.accepted(&street.event("call.hangup", json!({"hangup_cause": "normal_clearing"}))).await;
    street.is("ended", Some("machine")).await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_without_a_word_of_an_answer_was_none_as_far_as_anybody_knows() {
    let street = Street::open().await;
    // The sandbox has no such call, so that nobody can say more.
    street.accepted(&street.event("call.hangup", json!({"hangup_cause": "normal_clearing"}))).await;
    street.is("ended", Some("no_answer")).await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_as_long_as_its_carrier_says_however_late_its_words_come() {
    let street = Street::open().await;
    let pg = &street.house.ctx.stores.pg;
    let dialed = sqlx::query!("UPDATE attempt SET intent_at = clock_timestamp() - interval '1 min'");
    dialed.execute(pg).await.unwrap();
    let happened = |event: &str, secs_ago: u64, more: Value| {
        let at = DateTime::<Utc>::from(SystemTime::now() - Duration::from_secs(secs_ago));
        let mut event = street.event(event, more);
        event["data"]["occurred_at"] = json!(at.to_rfc3339());
        event
    };
    street.accepted(&happened("call.answered", 45, json!({}))).await;
    street.accepted(&happened("call.hangup", 5, json!({"hangup_cause": "normal_clearing"}))).await;
    street.is("ended", Some("answered")).await;
    let secs = sqlx::query_scalar!("SELECT duration_secs FROM attempt").fetch_one(pg).await.unwrap();
    assert_eq!(secs, Some(40));
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unclear_end_is_guessed_only_when_it_will_not_be_told_again() {
    let street = Street::open().await;
    let silent = Fake::start([]).await;
    let pg = &street.house.ctx.stores.pg;
    let base = silent.base.as_str();
    sqlx::query!("UPDATE carrier_account SET api_base_url = $1", base).execute(pg).await.unwrap();
    let rule = json!({"detect": "async", "then": "hang_up"});
    detection::begin(pg, (street.business, street.attempt), &rule).await.unwrap();
    street.house.ctx.profiles.forget(street.business);
    let begin = Instant::now();
    let path = format!("{}?detect=1", street.path);
    let mut end = street.event("call.hangup", json!({"hangup_cause": "normal_clearing", "sip_hangup_cause": "200"}));
    assert_eq!(street.house.telnyx_told(&path, &end).await, 503);
    street.is("placed", None).await;
    end["meta"]["attempt"] = json!(6);
    assert_eq!(street.house.telnyx_told(&path, &end).await, 200);
    // Each look by itself would take ten.
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    assert!(!silent.requests().is_empty(), "it was asked");
    street.is("ended", Some("no_answer")).await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_mean_nothing_here_are_taken_and_change_nothing() {
    let street = Street::open().await;
    let before = street.house.ledger().await;
    for (event, more) in [
        ("streaming.started", json!({"stream_url": "wss://x"})),
        ("streaming.stopped", json!({})),
        ("streaming.failed", json!({"failure_reason": "connection_failed", "stream_type": "websocket"})),
        ("call.dtmf.received", json!({"digit": "1"})),
        ("call.cost", json!({"total_cost": "0.01"})),
        ("call.of.tomorrow", json!({"x": [1]})),
    ] {
        street.accepted(&street.event(event, more)).await;
    }
    assert_eq!(street.house.ledger().await, before);
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_telnyx_takes_no_command_an_answer_is_not_acknowledged() {
    let house = House::open(Options::default()).await;
    let business = house.telnyx_business(1).await;
    let run = house.run(business, &["+12125550196".to_owned()]).await;
    let claimed = house.dialed(business).await;
    let call = house.only_call(&claimed.to);
    let path = house.telnyx_hook(business, claimed.attempt);
    let unavailable = rollcall::sim::Rule::share(rollcall::sim::ApiFault::Unavailable, 1.0);
    house.sim.set_faults(rollcall::sim::Faults { update: vec![unavailable], ..Default::default() }).unwrap();
    let answered = telnyx_event(business, &call.sid, "call.answered", json!({}));
    assert_eq!(house.telnyx_told(&path, &answered).await, 503);
    house.sim.set_faults(rollcall::sim::Faults::default()).unwrap();
    house.sim.answer(&call.sid).await.unwrap();
    house.until_run_is(run, "completed").await;
    assert_eq!(house.telnyx_told(&path, &answered).await, 200, "a double after the end");
    assert_eq!(house.only_call(&claimed.to).heard, ["Hello Ada"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_behind_the_fence_hears_nothing_and_is_hung_up() {
    let house = House::open(Options::default()).await;
    let business = house.telnyx_business(1).await;
    let run = house.run(business, &["+12125550196".to_owned()]).await;
    let claimed = house.dialed(business).await;
    let call = house.only_call(&claimed.to);
    house.act(business, run, "cancel").await;
    house.sim.answer(&call.sid).await.unwrap();
    house.until("the call is over", || async { house.open_attempts().await == 0 }).await;
    assert!(house.only_call(&claimed.to).heard.is_empty());
    house.until_run_is(run, "cancelled").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_full_is_left_alone_for_twice_as_long_until_a_call_comes_through() {
    let street = Street::open().await;
    let (pg, account) = (&street.house.ctx.stores.pg, connection(street.business));
    let turned_away = async |sent_secs_ago: u64| {
        let sent_ago = Duration::from_secs(sent_secs_ago);
        health::too_full(pg, street.business, &account, sent_ago, Duration::from_secs(60)).await.unwrap();
        let row = sqlx::query!(
            r#"SELECT turned_away, extract(epoch FROM hold_until - clock_timestamp())::float8 AS "secs!" FROM carrier_account"#
        );
        let row = row.fetch_one(pg).await.unwrap();
        (row.turned_away, row.secs)
    };
    // As if the hold had been an hour ago.
    let later = async || {
        let past =
            sqlx::query!("UPDATE carrier_account SET held_at = clock_timestamp() - interval '1 h', hold_until = NULL");
        past.execute(pg).await.unwrap();
    };
    for (i, least) in (1..).zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        let (times, secs) = turned_away(0).await;
        assert!(times == i && (least - 0.9..least * 1.2 + 0.1).contains(&secs), "{times} {secs}");
        let (times, again) = turned_away(5).await;
        assert!(times == i && again <= secs, "what was sent before the hold is no news: {times} {again}");
        later().await;
    }
    street.accepted(&street.busy()).await;
    assert_eq!(turned_away(0).await.0, 1, "a call came through since");
    street.house.close().await;
}
