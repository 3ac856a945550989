//! The sandbox carrier: what a call goes through, and what a bad request is told.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use rollcall::sim::{Config, Millis, Outcome, Shares, Status, Until, sign, signed_url};

use crate::sandbox_carrier_desk::{ACCOUNT, Desk, FROM, PATIENCE, TO, TOKEN};

fn path_of(desk: &Desk, token: &str) -> Vec<Status> {
    let calls = desk.sim.calls();
    let call = calls.iter().find(|call| call.token.as_deref() == Some(token)).unwrap();
    call.timeline.iter().map(|(status, _)| *status).collect()
}

#[tokio::test]
async fn a_create_is_answered_with_a_queued_call_without_dates() {
    let desk = Desk::quick().await;
    let (status, body) = desk.dial(&desk.form(TO, "t1")).await;
    assert_eq!((status, body["status"].as_str(), body["queue_time"].as_str()), (201, Some("queued"), Some("0")));
    for name in ["date_created", "date_updated", "start_time", "end_time", "duration", "price"] {
        assert!(body[name].is_null(), "{name}");
    }
    assert_eq!(body["direction"], "outbound-api");
}

#[tokio::test]
async fn an_answered_call_is_told_in_four_signed_callbacks_and_hears_its_words() {
    let desk = Desk::quick().await;
    desk.say(
        "<?xml version=\"1.0\"?><Response><Say>Fish &amp; <![CDATA[chips]]></Say><Pause length=\"0\"/></Response>",
    );
    let sid = desk.call("+14155550190", "t1").await;
    desk.idle().await;
    let mut callbacks = desk.received("/status/t1");
    callbacks.sort_by_key(|callback| callback.form["SequenceNumber"].clone());
    let told: Vec<&str> = callbacks.iter().map(|callback| callback.form["CallStatus"].as_str()).collect();
    assert_eq!(told, ["initiated", "ringing", "in-progress", "completed"]);
    let last = &callbacks[3];
    let pairs =
        [("CallSid", sid.as_str()), ("AccountSid", ACCOUNT), ("SequenceNumber", "3"), ("SipResponseCode", "200")];
    for (name, value) in pairs {
        assert_eq!(last.form[name], value);
    }
    assert_eq!(last.form["CallbackSource"], "call-progress-events");
    for callback in &callbacks {
        let url = signed_url(&format!("{}{}", desk.hooks, callback.path));
        assert_eq!(callback.headers["x-twilio-signature"], sign(TOKEN, &url, &callback.pairs));
    }
    let answer = &desk.received("/answer/t1")[0];
    assert_eq!(answer.form["CallStatus"], "in-progress");
    assert_eq!(desk.sim.calls()[0].heard, ["Fish & chips"]);
}

#[tokio::test]
async fn only_completed_is_told_unless_more_is_asked_for() {
    let desk = Desk::quick().await;
    let mut form = desk.form("+14155550191", "t1");
    form.retain(|(name, _)| *name != "StatusCallbackEvent");
    desk.dial(&form).await;
    desk.idle().await;
    let callbacks = desk.received("/status/t1");
    assert_eq!(callbacks.len(), 1);
    assert_eq!((&*callbacks[0].form["CallStatus"], &*callbacks[0].form["SequenceNumber"]), ("busy", "0"));
}

#[tokio::test]
async fn every_magic_number_does_what_its_name_says() {
    let desk = Desk::quick().await;
    for (to, end, sip) in [
        ("+12125550190", Status::Completed, 200),
        ("+12125550191", Status::Busy, 486),
        ("+12125550192", Status::NoAnswer, 487),
        ("+12125550193", Status::Failed, 404),
        ("+12125550195", Status::Completed, 200),
    ] {
        desk.call(to, to).await;
        desk.idle().await;
        let call = &desk.sim.calls_to(to)[0];
        assert_eq!((call.status, call.sip), (end, Some(sip)), "{to}");
    }
    for (to, code) in [("+12125550197", 21214), ("+12125550199", 21216)] {
        let (status, body) = desk.dial(&desk.form(to, to)).await;
        assert_eq!((status, body["code"].as_u64()), (400, Some(code)));
    }
    let sid = desk.call("+12125550198", "queued").await;
    let (_, row) = desk.post(&format!("Calls/{sid}.json"), &[("Status", "canceled")]).await;
    assert_eq!((row["status"].as_str(), row["start_time"].is_null()), (Some("canceled"), true));
    assert_eq!(path_of(&desk, "queued"), [Status::Queued, Status::Canceled]);
}

#[tokio::test]
async fn a_held_call_waits_for_a_hand_and_a_call_without_end_for_a_hang_up() {
    let desk = Desk::quick().await;
    let held = desk.call("+12125550196", "held").await;
    desk.sim.answer(&held).await.unwrap();
    desk.sim.wait(Until::Reached(held, Status::Completed), PATIENCE).await.unwrap();
    let endless = desk.call("+12125550194", "endless").await;
    desk.sim.wait(Until::Reached(endless.clone(), Status::InProgress), PATIENCE).await.unwrap();
    let (status, row) = desk.post(&format!("Calls/{endless}.json"), &[("Status", "canceled")]).await;
    assert_eq!((status, &row["status"]), (200, &"in-progress".into()), "canceled does nothing to an answered call");
    let (_, row) = desk.post(&format!("Calls/{endless}.json"), &[("Status", "completed")]).await;
    assert_eq!(row["status"], "completed");
    let (status, row) = desk.post(&format!("Calls/{endless}.json"), &[("Status", "completed")]).await;
    assert_eq!((status, row["code"].as_u64()), (400, Some(21220)));
    desk.idle().await;
}

#[tokio::test]
async fn a_hang_up_in_answer_to_the_answer_lets_nobody_hear_anything() {
    let desk = Desk::quick().await;
    desk.say("<Response><Hangup/><Say>never</Say></Response>");
    desk.call("+12125550194", "t1").await;
    desk.idle().await;
    let call = &desk.sim.calls()[0];
    assert_eq!((call.status, call.heard.len()), (Status::Completed, 0));
}

#[tokio::test]
async fn the_time_limits_of_ringing_and_talking_hold() {
    let desk = Desk::new(Config { ring_ms: Millis::exactly(60_000), ..Config::quick() }).await;
    let mut form = desk.form("+12125550190", "ring");
    form.push(("Timeout", "1".to_owned()));
    desk.dial(&form).await;
    let talks = Desk::quick().await;
    let mut form = talks.form("+12125550194", "talk");
    form.push(("TimeLimit", "1".to_owned()));
    talks.dial(&form).await;
    desk.idle().await;
    talks.idle().await;
    assert_eq!(desk.sim.calls()[0].status, Status::NoAnswer);
    let talked = &talks.sim.calls()[0];
    assert_eq!((talked.status, talked.notes.as_slice()), (Status::Completed, &["time limit".to_owned()][..]));
}

#[tokio::test]
async fn words_that_cannot_be_had_come_from_the_fallback_or_the_call_fails_with_11200() {
    let desk = Desk::quick().await;
    desk.spoil("/answer/t1", 500, 9);
    desk.spoil("/answer/t2", 500, 9);
    let mut form = desk.form("+12125550190", "t1");
    form.push(("FallbackUrl", format!("{}/fallback/t1", desk.hooks)));
    desk.dial(&form).await;
    desk.call("+13125550190", "t2").await;
    desk.idle().await;
    let calls = desk.sim.calls();
    assert_eq!((calls[0].status, calls[0].heard.len()), (Status::Completed, 1));
    assert_eq!((calls[1].status, calls[1].heard.len()), (Status::Failed, 0));
    assert!(calls[1].notes[0].starts_with("11200"), "{:?}", calls[1].notes);
}

#[tokio::test]
async fn a_document_that_is_no_twiml_fails_the_call() {
    let desk = Desk::quick().await;
    for (twiml, code) in [("<Response><Say>", "12100"), ("<Html/>", "12102"), ("{}", "12100"), ("", "12100")] {
        desk.say(twiml);
        let sid = desk.call("+12125550190", "t").await;
        desk.idle().await;
        let call = desk.sim.calls().into_iter().find(|call| call.sid == sid).unwrap();
        assert!(call.status == Status::Failed && call.notes[0].starts_with(code), "{twiml}: {:?}", call.notes);
    }
}

#[tokio::test]
async fn detection_says_who_answered() {
    // A call that is over before it is known who answered says nothing of it.
    let desk = Desk::new(Config { talk_ms: Millis::exactly(500), ..Config::quick() }).await;
    let mut form = desk.form("+12125550195", "t1");
    form.push(("MachineDetection", "Enable".to_owned()));
    desk.dial(&form).await;
    let mut form = desk.form("+13125550195", "t2");
    form.push(("MachineDetection", "DetectMessageEnd".to_owned()));
    form.push(("AsyncAmd", "true".to_owned()));
    form.push(("AsyncAmdStatusCallback", format!("{}/amd/t2", desk.hooks)));
    desk.dial(&form).await;
    desk.idle().await;
    assert_eq!(desk.received("/answer/t1")[0].form["AnsweredBy"], "machine_start");
    desk.heard(11).await;
    assert!(!desk.received("/answer/t2")[0].form.contains_key("AnsweredBy"), "known only later");
    assert_eq!(desk.received("/amd/t2")[0].form["AnsweredBy"], "machine_end_beep");
}

#[tokio::test]
async fn every_bad_parameter_has_its_code_in_the_carriers_error_body() {
    let desk = Desk::quick().await;
    let good = [("To", TO), ("From", FROM), ("Url", "https://example.com/x")];
    for (name, value, code) in [
        ("To", "", 21201),
        ("From", "", 21213),
        ("To", "4155552671", 21211),
        ("To", FROM, 21211),
        ("From", "Rollcall", 21212),
        ("Url", "", 21205),
        ("Url", "ftp://example.com", 21205),
        ("Url", "https://under_score.example.com", 21205),
        ("Method", "PUT", 21209),
        ("Timeout", "0", 21208),
        ("Timeout", "601", 21208),
        ("Timeout", "soon", 21208),
        ("TimeLimit", "-1", 20001),
        ("SendDigits", "12x", 21206),
        ("ApplicationSid", "AP1", 21218),
        ("StatusCallback", "nowhere", 21609),
        ("StatusCallbackEvent", "Ringing", 21626),
        ("MachineDetection", "yes", 20001),
    ] {
        let mut form: Vec<(&str, &str)> = good.iter().copied().filter(|(known, _)| *known != name).collect();
        form.push((name, value));
        let (status, body) = desk.post("Calls.json", &form).await;
        assert_eq!((status, body["code"].as_u64()), (400, Some(code)), "{name}={value}");
        assert_eq!(body["more_info"], format!("https://www.twilio.com/docs/errors/{code}"));
        assert_eq!(body["status"], 400);
    }
    assert_eq!(desk.sim.figures().total.created, 0);
    let (_, _) =
        desk.post("Calls.json", &[("To", TO), ("From", FROM), ("Url", "https://a.example"), ("timeout", "9")]).await;
    assert_eq!(desk.sim.log().last().unwrap().ignored, ["timeout"], "names are case-sensitive");
}

#[tokio::test]
async fn credentials_are_checked_where_accounts_are_declared_and_learned_where_not() {
    let declared = Config { accounts: vec![format!("{ACCOUNT}:other").parse().unwrap()], ..Config::quick() };
    let desk = Desk::new(declared).await;
    let (status, body) = desk.dial(&desk.form(TO, "t")).await;
    assert_eq!((status, body["code"].as_u64()), (401, Some(20003)));
    assert_eq!(desk.sim.figures().total.requests, 0);
    let open = Desk::quick().await;
    let url = open.url("Calls.json");
    let anonymous = open.client.get(&url).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let stranger = open.client.get(&url).basic_auth("ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", Some("x")).send().await;
    assert_eq!(stranger.unwrap().status(), 401);
}

#[tokio::test]
async fn calls_above_the_pace_queue_and_those_above_a_day_or_the_limit_are_refused() {
    let desk = Desk::new(Config { cps: 0.00002, ..Config::quick() }).await;
    let first = desk.call("+12125550190", "t1").await;
    desk.sim.wait(Until::Reached(first, Status::Completed), PATIENCE).await.unwrap();
    let (_, second) = desk.dial(&desk.form("+13125550190", "t2")).await;
    let queue_ms: u64 = second["queue_time"].as_str().unwrap().parse().unwrap();
    assert!((40_000_000..=50_000_000).contains(&queue_ms), "{queue_ms}");
    let (status, body) = desk.dial(&desk.form("+13125550190", "t3")).await;
    assert_eq!((status, body["code"].as_u64()), (400, Some(22005)));
    assert_eq!(path_of(&desk, "t2"), [Status::Queued]);
    let full = Desk::new(Config { concurrency: Some(1), ..Config::quick() }).await;
    full.call("+12125550196", "t1").await;
    let (_, body) = full.dial(&full.form(TO, "t2")).await;
    assert_eq!(body["code"], 10004);
}

#[tokio::test]
async fn one_seed_and_number_always_have_one_outcome() {
    let shares = Shares { answered: 0.5, busy: 0.5, no_answer: 0.0, failed: 0.0, ..Shares::default() };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let desk = Desk::new(Config { shares: shares.clone(), seed: 7, ..Config::quick() }).await;
        for n in 0..40 {
            desk.call(&format!("+1415555{:04}", 2000 + n), "t").await;
        }
        seen.push(desk.sim.calls().into_iter().map(|call| call.outcome).collect::<Vec<Outcome>>());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].contains(&Outcome::Answered) && seen[0].contains(&Outcome::Busy));
}
