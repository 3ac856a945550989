//! Telnyx tells of a call that rings and has to be told what to do: whatever is lost or doubled on the way, one call is one row, and
//! a slot is held from the first moment to the carrier's last word.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::join_all;
use rollcall::{
    ids::{AttemptId, Carrier},
    sim::{ApiFault, CallbackFault, Faults, Millis, Rule, Status},
};
use serde_json::{Value, json};

use crate::{
    calls_that_come_in::{Street, THEIRS},
    house::caller_id,
    telnyx_house::{SEED, connection, now_secs, telnyx_event},
};

const CALL: &str = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg";

impl Street {
    /// An event of a call that came in, as Telnyx writes it.
    fn event(&self, name: &str, more: Value) -> Value {
        self.event_of(CALL, name, more)
    }

    fn event_of(&self, call_id: &str, name: &str, more: Value) -> Value {
        let mut event = telnyx_event(self.business, call_id, name, more);
        event["data"]["payload"]["from"] = json!(THEIRS);
        event["data"]["payload"]["to"] = json!(caller_id(self.business));
        event
    }

    /// A call rings.
    pub(crate) fn rings(&self, call_id: &str) -> Value {
        self.event_of(call_id, "call.initiated", json!({"direction": "incoming", "state": "parked"}))
    }

    /// Strikes commands on calls.
    fn strike(&self, rule: Rule<ApiFault>) {
        self.house.sim.set_faults(Faults { update: vec![rule], ..Faults::default() }).unwrap();
    }

    /// The one caller has talked to the end, and nothing is left.
    async fn talked(&self, sid: &str) {
        let call = self.over_and_silent(sid).await;
        assert_eq!((call.status, call.conversations.len()), (Status::Completed, 1), "{call:?}");
        self.free().await;
        let rows = self.rows().await;
        assert_eq!((rows.len(), &rows[0]["disposition"]), (1, &json!("answered")), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_event_from_all_sides_at_once_takes_one_slot() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let media = street.house.media().await;
    let (path, rings) = (street.path(), street.rings(CALL));
    let answers = join_all((0..6).map(|_| street.house.telnyx_told(&path, &rings))).await;
    assert_eq!(answers, [200; 6]);
    assert_eq!((street.rows().await.len(), street.turned_away().await), (1, 0));
    assert_eq!(street.house.ctx.gate.holders().await.unwrap().len(), 1);
    let over = street.event("call.hangup", json!({"hangup_cause": "originator_cancel", "sip_hangup_cause": "487"}));
    assert_eq!(street.house.telnyx_told(&path, &over).await, 200);
    street.free().await;
    assert_eq!(street.rows().await[0]["disposition"], "cancelled");
    assert_eq!(street.house.telnyx_told(&path, &rings).await, 200, "late, and of a call that is over");
    assert_eq!((street.rows().await.len(), street.house.open_attempts().await), (1, 0));
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_key_did_not_sign_for_this_address_rings_nowhere() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let (path, body, now) = (street.path(), street.rings(CALL).to_string(), now_secs());
    let own = street.house.ctx.tokens.inbound(street.business);
    let neighbour = street.house.telnyx_business(1).await;
    let of_attempt = street.house.ctx.tokens.make(street.business, AttemptId::new());
    let mut theirs = street.rings(CALL);
    theirs["data"]["payload"]["connection_id"] = json!(connection(neighbour));
    for (what, path, body, seed, at) in [
        ("a stranger's key", path.clone(), &body, [9; 32], now),
        ("too old", path.clone(), &body, SEED, now - 302),
        ("another connection", path.clone(), &theirs.to_string(), SEED, now),
        ("the token of an attempt", path.replace(&own, &of_attempt), &body, SEED, now),
        ("a changed token", path.replace(&own, &own.replace('A', "B")), &body, SEED, now),
        ("the token of a number, for an attempt", path.replace("/inbound/", "/"), &body, SEED, now),
        ("no event", path, &"{}".to_owned(), SEED, now),
    ] {
        assert_eq!(street.house.telnyx_post(&path, body, &seed, at).await, 403, "{what}");
    }
    let bare = crate::by_hand::client().post(street.url()).body(body).send().await.unwrap();
    assert_eq!(bare.status(), 403, "no signature");
    assert_eq!((street.rows().await.len(), street.turned_away().await), (0, 0));
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_answer_that_is_lost_leaves_one_call_that_talks() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let media = street.house.media().await;
    street.callers_say(&["I am {tag}.", "Goodbye then."], false);
    street.strike(Rule::next(ApiFault::LostAnswer, 1));
    let sid = street.ring(THEIRS);
    street.talked(&sid).await;
    assert!(street.house.sim.faults().update.is_empty(), "the fault struck");
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_could_not_be_answered_is_answered_by_whoever_looks_for_it() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let media = street.house.media().await;
    street.callers_say(&["I am {tag}.", "Goodbye then."], false);
    // As often as the carrier tells of the call.
    street.strike(Rule::next(ApiFault::Unavailable, 3));
    let sid = street.ring(THEIRS);
    street.talked(&sid).await;
    let rings = &street.house.sim.calls()[0].callbacks[0];
    assert_eq!((rings.answer, rings.tries), (Some(503), 3), "{rings:?}");
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_before_the_answer_leaves_no_slot_behind() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let media = street.house.media().await;
    street.strike(Rule::share(ApiFault::Unavailable, 1.0));
    let sid = street.ring(THEIRS);
    street.house.until("it has its row", || async { street.rows().await.len() == 1 }).await;
    street.house.sim.end(&sid, Status::Canceled).unwrap();
    street.free().await;
    assert_eq!(street.rows().await[0]["disposition"], "cancelled");
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_comes_before_the_ring_leaves_no_slot_behind() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let media = street.house.media().await;
    let late = Rule { ms: Some(Millis::exactly(700)), ..Rule::next(CallbackFault::Delayed, 1) };
    street.house.sim.set_faults(Faults { callback: vec![late], ..Faults::default() }).unwrap();
    let sid = street.ring(THEIRS);
    street.house.until("it is parked", || async { street.house.sim.calls()[0].status == Status::Ringing }).await;
    street.house.sim.end(&sid, Status::Canceled).unwrap();
    street.house.until("its ring is told", || async { street.rows().await.len() == 1 }).await;
    street.free().await;
    let told = || async { street.house.sim.calls()[0].callbacks.len() == 2 };
    street.house.until("the carrier has its answer", told).await;
    let order: Vec<_> = street.house.sim.calls()[0].callbacks.iter().map(|told| told.status.clone()).collect();
    assert_eq!(
        (order, &street.rows().await[0]["disposition"]),
        (vec!["canceled".into(), "initiated".into()], &json!("cancelled"))
    );
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_taken_call_count_at_the_address_that_rang() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    let media = street.house.media().await;
    let path = street.path();
    assert_eq!(street.house.telnyx_told(&path, &street.rings(CALL)).await, 200);
    let answered = street.event("call.answered", json!({"state": "answered"}));
    // The sandbox has no such call, which is an answer to the command to stream.
    assert_eq!(street.house.telnyx_told(&path, &answered).await, 200);
    assert_eq!(street.rows().await[0]["state"], "answered");
    let over = street.event("call.hangup", json!({"hangup_cause": "normal_clearing", "sip_hangup_cause": "200"}));
    assert_eq!(street.house.telnyx_told(&path, &over).await, 200);
    street.free().await;
    assert_eq!(street.rows().await[0]["disposition"], "answered");
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_picks_up_a_call_that_was_put_through_is_over_and_the_other_leg_is_nobodys() {
    for path_of_attempt in [false, true] {
        let street = Street::open(Carrier::Telnyx, 1).await;
        let media = street.house.media().await;
        street.callers_say(&["Wait, says {tag}."], true);
        let sid = street.ring(THEIRS);
        street.house.until("it talks", || async { media.sessions.count() == 1 }).await;
        let attempt = serde_json::from_value(street.rows().await[0]["attempt_id"].clone()).unwrap();
        let path = if path_of_attempt { street.house.telnyx_hook(street.business, attempt) } else { street.path() };
        let leg = json!({"client_state": STANDARD.encode(format!("~leg {sid}")), "direction": "outgoing"});
        assert_eq!(street.house.telnyx_told(&path, &street.event("call.initiated", leg.clone())).await, 200);
        assert_eq!(street.house.open_attempts().await, 1);
        let mut end = leg;
        end["hangup_cause"] = json!("timeout");
        assert_eq!(street.house.telnyx_told(&path, &street.event("call.hangup", end)).await, 200);
        assert_eq!(street.over(&sid).await.status, Status::Completed);
        street.free().await;
        let strays = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM stray_call"#);
        assert_eq!(strays.fetch_one(&street.house.ctx.stores.pg).await.unwrap(), 0);
        street.house.silent().await;
        media.close().await;
        street.house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_call_that_finds_no_calls_program_is_put_through() {
    let street = Street::open(Carrier::Telnyx, 1).await;
    street.answers(None, Some("+12125550188")).await;
    let media = street.house.media().await;
    street.strike(Rule::next(ApiFault::Unavailable, 3));
    let sid = street.ring(THEIRS);
    street.house.until("it has its row", || async { street.rows().await.len() == 1 }).await;
    media.close().await;
    let call = street.over(&sid).await;
    assert_eq!(call.heard, ["[dial +12125550188]"], "{call:?}");
    street.free().await;
    street.house.close().await;
}
