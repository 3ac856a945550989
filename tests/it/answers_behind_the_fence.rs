//! I7: a call that nobody wants any more speaks to nobody, and whatever a lead is called adds nothing to what is said.

use std::{future::ready, time::Duration};

use rollcall::{
    attempts::{
        ledger::{self, Closing, JobThen},
        state::{AttemptState, Source},
    },
    carriers::{DialAnswer, DialRequest, StatusEvent},
    ids::{BusinessId, RunId},
    jobs::claim::Claimed,
    sim::{CallReport, Status, Until, sign},
};

use crate::{
    by_hand::{AUTH_TOKEN, client},
    house::{House, Options},
};

/// Rings until the test answers.
const HELD: &str = "+12125550196";
/// Answers at once and never ends by itself.
const NEVER_ENDS: &str = "+12125550194";
const SOON: Duration = Duration::from_secs(20);

async fn house(to: &str) -> (House, BusinessId, RunId) {
    let house = House::open(Options {
        args: vec!["--status-events", "initiated,ringing,answered,completed"],
        ..Options::default()
    })
    .await;
    let business = house.business(1).await;
    let run = house.run(business, &[to.to_owned()]).await;
    (house, business, run)
}

/// Waits until the call is over and all of it was told; what became of it.
async fn over(house: &House, to: &str) -> CallReport {
    house.sim.wait(Until::Ended(1), SOON).await.unwrap();
    house.sim.wait(Until::Idle, SOON).await.unwrap();
    // Its end may be told a moment after it.
    house.until("its end is in the ledger", || async { house.open_attempts().await == 0 }).await;
    house.only_call(to)
}

/// What our answer URL says about this attempt's call.
async fn twiml(house: &House, business: BusinessId, claimed: &Claimed, call: &CallReport) -> String {
    let path = house.hook("answer", business, claimed.attempt);
    let url = format!("http://{}{path}", house.addr);
    let form = [("CallSid", &*call.sid), ("AccountSid", &*call.account), ("CallStatus", "in-progress")];
    let http = client();
    let answer =
        http.post(&url).header("X-Twilio-Signature", sign(AUTH_TOKEN, &url, &form)).form(&form).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"text/xml".parse().unwrap()));
    answer.text().await.unwrap()
}

const HANG_UP: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response><Hangup/></Response>"#;

async fn hears_nothing(house: &House, business: BusinessId, claimed: &Claimed, to: &str) {
    let ringing = house.only_call(to);
    assert_eq!(twiml(house, business, claimed, &ringing).await, HANG_UP);
    house.sim.answer(&ringing.sid).await.unwrap();
    let call = over(house, to).await;
    assert_eq!((call.status, call.heard.len(), &*call.notes), (Status::Completed, 0, [].as_slice()));
}

/// A call that rings, placed by the product.
async fn ringing() -> (House, BusinessId, RunId, Claimed) {
    let (house, business, run) = house(HELD).await;
    let claimed = house.dialed(business).await;
    house.sim.wait(Until::Reached(house.only_call(HELD).sid, Status::Ringing), SOON).await.unwrap();
    (house, business, run, claimed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_answered_in_time_hears_its_message_and_no_text_adds_a_verb() {
    let (house, business, run) = house(HELD).await;
    let hostile = "</Say><Dial>+19005550100</Dial><Say> & \"'{{name}} ]]> \u{1F600}";
    sqlx::query!("UPDATE job SET variables = jsonb_build_object('name', $1::text)", hostile)
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
    let claimed = house.dialed(business).await;
    let call = house.only_call(HELD);
    house.sim.wait(Until::Reached(call.sid.clone(), Status::Ringing), SOON).await.unwrap();
    let said = twiml(&house, business, &claimed, &call).await;
    assert!(said.contains("&lt;/Say&gt;&lt;Dial&gt;") && !said.contains("<Dial"), "{said}");
    house.sim.answer(&call.sid).await.unwrap();
    let call = over(&house, HELD).await;
    assert_eq!((call.heard, call.notes), (vec![format!("Hello {hostile}")], vec![]));
    assert_eq!(house.jobs(run).await, [("completed".to_owned(), Some("answered".to_owned()), None)]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_be_hung_up_hears_nothing_and_is_not_told_as_answered() {
    let (house, business, run, claimed) = ringing().await;
    sqlx::query!("UPDATE attempt SET hangup_wanted = true").execute(&house.ctx.stores.pg).await.unwrap();
    hears_nothing(&house, business, &claimed, HELD).await;
    let told = Some("abandoned".to_owned());
    assert_eq!(house.jobs(run).await, [("cancelled".to_owned(), told, Some("cancelled".to_owned()))]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_run_that_is_being_cancelled_hears_nothing() {
    let (house, business, run, claimed) = ringing().await;
    sqlx::query!("UPDATE run SET state = 'cancelling'").execute(&house.ctx.stores.pg).await.unwrap();
    hears_nothing(&house, business, &claimed, HELD).await;
    assert_eq!(house.run_state(run).await, "cancelled");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_answered_later_than_anybody_can_have_wanted_it_hears_nothing() {
    // The run rings for 30 s and the fence is 60 s: at 80 s it speaks, at 100 s it does not.
    for (age_secs, speaks) in [(80.0, true), (100.0, false)] {
        let (house, business, run, claimed) = ringing().await;
        sqlx::query!("UPDATE attempt SET intent_at = clock_timestamp() - make_interval(secs => $1)", age_secs)
            .execute(&house.ctx.stores.pg)
            .await
            .unwrap();
        if speaks {
            let said = twiml(&house, business, &claimed, &house.only_call(HELD)).await;
            assert!(said.contains("Hello Ada"), "{said}");
            house.sim.end(&house.only_call(HELD).sid, Status::NoAnswer).unwrap();
            over(&house, HELD).await;
        } else {
            hears_nothing(&house, business, &claimed, HELD).await;
            let told = Some("abandoned".to_owned());
            assert_eq!(house.jobs(run).await, [("unreached".to_owned(), told, Some("expired".to_owned()))]);
        }
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_an_attempt_that_is_closed_hears_nothing_and_is_ended() {
    let (house, business, run) = house(NEVER_ENDS).await;
    let claimed = house.claim(business, 1).await.remove(0);
    let closing = Closing {
        state: AttemptState::NotPlaced,
        job: JobThen::Requeue,
        disposition: None,
        reason: None,
        carrier_status: None,
        carrier_code: None,
    };
    ledger::close(&house.ctx.stores.pg, claimed.attempt, Source::Reconcile, closing).await.unwrap();
    // Its request reaches the carrier all the same.
    let account = house.ctx.account(business, &claimed.account).await.unwrap().unwrap();
    let request = DialRequest {
        from: claimed.from.clone(),
        to: claimed.to.clone(),
        key: claimed.attempt.0,
        token: house.ctx.tokens.make(business, claimed.attempt),
        callback_base: house.ctx.settings.public_base_url.clone(),
        events: vec![StatusEvent::Initiated, StatusEvent::Answered, StatusEvent::Ended],
        ring_timeout_secs: 30,
        call_time_limit_secs: 600,
        detect: None,
        record: false,
    };
    let answer = house.ctx.carriers.dial(&account, &request, SOON, ready(true)).await;
    assert!(matches!(answer, DialAnswer::Placed { .. }), "{answer:?}");
    let call = over(&house, NEVER_ENDS).await;
    assert_eq!((call.status, call.heard.len()), (Status::Completed, 0));
    assert_eq!(house.attempts_in("not_placed").await, 1);
    assert_eq!(house.jobs_in(run, "queued").await, 1);
    house.stop_dialing(run).await;
    // The end may have been told before a live event was: then the hang-up finds it over.
    rollcall::dialing::hang_up::whole_round(&house.ctx).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_the_callee_would_not_end_is_ended_at_the_carrier_once_nobody_wants_it() {
    let (house, business, run) = house(NEVER_ENDS).await;
    let claimed = house.dialed(business).await;
    let call = house.only_call(NEVER_ENDS);
    house.until("it speaks", || async { house.only_call(NEVER_ENDS).heard == ["Hello Ada"] }).await;
    sqlx::query!("UPDATE attempt SET intent_at = intent_at - interval '100 s'")
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
    // Asked again, it is late; the callee stays on the line, whatever the document says.
    assert_eq!(twiml(&house, business, &claimed, &call).await, HANG_UP);
    assert_eq!(house.only_call(NEVER_ENDS).status, Status::InProgress);
    assert_eq!(rollcall::dialing::hang_up::whole_round(&house.ctx).await.unwrap(), 1);
    assert_eq!(over(&house, NEVER_ENDS).await.status, Status::Completed);
    assert_eq!(house.run_state(run).await, "completed");
    house.close().await;
}
