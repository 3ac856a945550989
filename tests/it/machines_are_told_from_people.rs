//! A call that a machine answers is hung up, left a message, or talked to, as its run says, at either carrier, whether the carrier
//! tells of it before a word is said or after, late, twice, or only when it is asked.

use std::collections::BTreeMap;

use rollcall::{
    ids::{AttemptId, BusinessId, RunId},
    sim::{self, CallReport, CallbackFault, Faults, Millis, Rule},
};
use serde_json::{Value, json};

use crate::{
    api_harness::answer,
    by_hand::{AUTH_TOKEN, client},
    house::{House, OPERATOR_KEY, Options},
    telnyx_house::telnyx_event,
    voice_house::lines_of,
};

const PERSON: &str = "+12125550190";
const MACHINE: &str = "+12125550195";
const FAX: &str = "+12125550189";

/// A carrier that knows who it is after 50 ms, whose machines beep after 900, and at which a message lasts 500: also on a busy machine the
/// first comes long before the last.
fn unhurried() -> sim::Config {
    sim::Config {
        talk_ms: Millis::exactly(500),
        detect_ms: Millis::exactly(50),
        greeting_ms: Millis::exactly(900),
        ..sim::Config::quick()
    }
}

async fn house() -> House {
    House::open(Options { sim: Some(unhurried()), workers: 1, ..Options::default() }).await
}

async fn carriers(house: &House) -> [(BusinessId, &'static str); 2] {
    [(house.business(3).await, "twilio"), (house.telnyx_business(3).await, "telnyx")]
}

/// Gives a run this rule for machines.
async fn machine(house: &House, run: RunId, rule: Value) {
    sqlx::query!("UPDATE run SET machine = $2 WHERE run_id = $1", run.0, rule)
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
}

/// A run over these numbers with this rule, which has ended: of each number its disposition and who picked up.
async fn over(
    house: &House,
    business: BusinessId,
    numbers: &[&str],
    rule: Value,
) -> BTreeMap<String, (String, String)> {
    let numbers: Vec<String> = numbers.iter().map(|&number| number.to_owned()).collect();
    let run = house.run(business, &numbers).await;
    machine(house, run, rule).await;
    house.ctx.ring(business).await;
    house.until_run_is(run, "completed").await;
    // Who picked up may be told after the end.
    house
        .until("who picked up each call is known", || async {
            let unknown = sqlx::query_scalar!(
                r#"SELECT count(*) AS "n!" FROM attempt WHERE run_id = $1 AND disposition = 'answered' AND answered_by IS NULL"#,
                run.0
            );
            unknown.fetch_one(&house.ctx.stores.pg).await.unwrap() == 0
        })
        .await;
    let rows = sqlx::query!(
        r#"SELECT a.to_number, a.disposition::text AS "disposition!", coalesce(a.answered_by, '') AS "by!", j.state, j.disposition AS job
           FROM attempt a JOIN job j USING (job_id) WHERE a.run_id = $1"#,
        run.0
    )
    .fetch_all(&house.ctx.stores.pg)
    .await
    .unwrap();
    let rows = rows.into_iter().map(|row| {
        assert_eq!((row.state.as_str(), row.job.as_deref()), ("completed", Some(row.disposition.as_str())));
        (row.to_number, (row.disposition, row.by))
    });
    rows.collect()
}

fn of(disposition: &str, by: &str) -> (String, String) {
    (disposition.to_owned(), by.to_owned())
}

/// The newest call to a number.
fn newest(house: &House, to: &str) -> CallReport {
    house.sim.calls_to(to).pop().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_hung_up_on_once_and_a_person_hears_the_message() {
    let house = house().await;
    for (business, carrier) in carriers(&house).await {
        for detect in ["sync", "async"] {
            let why = format!("{carrier} {detect}");
            let ends =
                over(&house, business, &[PERSON, MACHINE, FAX], json!({"detect": detect, "then": "hang_up"})).await;
            assert_eq!(ends[PERSON], of("answered", "human"), "{why}");
            assert_eq!(ends[MACHINE], of("machine", "machine"), "{why}");
            // What Telnyx' standard detection says of a fax is a machine.
            let fax = if carrier == "twilio" { of("fax", "fax") } else { of("machine", "machine") };
            assert_eq!(ends[FAX], fax, "{why}");
            assert_eq!(newest(&house, PERSON).heard, ["Hello Ada"], "{why}");
            let machine = newest(&house, MACHINE);
            assert!(machine.voicemails.is_empty(), "{why}: {machine:?}");
            if detect == "sync" {
                assert!(machine.heard.is_empty(), "{why}: {machine:?}");
            } else if carrier == "twilio" {
                assert_eq!(machine.updates, 1, "{why}: hung up once");
            }
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_left_after_the_beep_and_counts_only_when_it_was_said() {
    let house = house().await;
    for (business, carrier) in carriers(&house).await {
        for detect in ["sync", "async"] {
            let why = format!("{carrier} {detect}");
            let before = house.sim.figures().total.voicemails;
            let message = json!({"text": "Call us back, {{name}}", "language": "en-US", "voice": null});
            let rule = json!({"detect": detect, "then": "leave_message", "message": message});
            let ends = over(&house, business, &[PERSON, MACHINE], rule).await;
            assert_eq!(ends[PERSON], of("answered", "human"), "{why}");
            assert_eq!(ends[MACHINE], of("voicemail_left", "machine"), "{why}");
            assert_eq!(newest(&house, PERSON).heard, ["Hello Ada"], "{why}: a person hears no message for machines");
            assert_eq!(newest(&house, MACHINE).voicemails, ["Call us back, Ada"], "{why}");
            assert_eq!(house.sim.figures().total.voicemails, before + 1, "{why}");
            // Without a message of its own, the run's.
            let ends = over(&house, business, &[MACHINE], json!({"detect": detect, "then": "leave_message"})).await;
            assert_eq!(ends[MACHINE], of("voicemail_left", "machine"), "{why}");
            assert_eq!(newest(&house, MACHINE).voicemails, ["Hello Ada"], "{why}");
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_shall_go_on_a_machine_hears_what_a_person_hears() {
    let house = house().await;
    for (business, carrier) in carriers(&house).await {
        for detect in ["sync", "async"] {
            let ends = over(&house, business, &[PERSON, MACHINE], json!({"detect": detect, "then": "continue"})).await;
            assert_eq!(
                (&ends[PERSON], &ends[MACHINE]),
                (&of("answered", "human"), &of("machine", "machine")),
                "{carrier}"
            );
            assert_eq!(newest(&house, MACHINE).heard, ["Hello Ada"], "{carrier} {detect}");
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_that_tells_nothing_is_asked() {
    let house = house().await;
    for (business, carrier) in carriers(&house).await {
        let lost = Rule { status: Some("in-progress".to_owned()), ..Rule::share(CallbackFault::Lost, 1.0) };
        house.sim.set_faults(Faults { callback: vec![lost], ..Faults::default() }).unwrap();
        let rule = json!({"detect": "sync", "then": "leave_message"});
        let ends = over(&house, business, &[PERSON, MACHINE], rule).await;
        assert_eq!(ends[PERSON], of("answered", "human"), "{carrier}");
        assert_eq!(ends[MACHINE], of("voicemail_left", "machine"), "{carrier}");
        assert_eq!(newest(&house, MACHINE).voicemails, ["Hello Ada"], "{carrier}");
    }
    house.close().await;
}

/// A call to a machine that greets for long, over a carrier that has told nothing of it yet.
async fn greeted(house: &House, business: BusinessId, then: &str) -> (RunId, AttemptId, CallReport) {
    let run = house.run(business, &[MACHINE.to_owned()]).await;
    machine(house, run, json!({"detect": "async", "then": then})).await;
    house.ctx.ring(business).await;
    house.until("it is answered", || async { house.attempts_in("answered").await == 1 }).await;
    (run, house.only_attempt(run).await, newest(house, MACHINE))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_a_machine_are_believed_when_they_are_signed_and_once() {
    let config = sim::Config {
        talk_ms: Millis::exactly(2_000),
        detect_ms: Millis::exactly(60_000),
        greeting_ms: Millis::exactly(0),
        ..sim::Config::quick()
    };
    let house = House::open(Options { sim: Some(config), workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    for (then, end, updates) in [("hang_up", "machine", 1), ("leave_message", "voicemail_left", 1)] {
        let (run, attempt, call) = greeted(&house, business, then).await;
        let path = format!("{}?detect=1", house.hook("amd", business, attempt));
        let account = format!("AC{}", business.0.simple());
        let said = |call: &str| {
            let fields = [("CallSid", call), ("AccountSid", &account), ("AnsweredBy", "machine_end_beep")];
            fields.map(|(name, value)| (name, value.to_owned()))
        };
        assert_eq!(post(&house, &path, &said(&call.sid), "another token").await, 403);
        assert_eq!(post(&house, &path, &[("AnsweredBy", "human".to_owned())], AUTH_TOKEN).await, 403);
        // The worker's own looks go on meanwhile: not every row stands still.
        let by = sqlx::query_scalar!("SELECT answered_by FROM attempt WHERE attempt_id = $1", attempt.0);
        let known = (by.fetch_one(&house.ctx.stores.pg).await.unwrap(), newest(&house, MACHINE).updates);
        assert_eq!(known, (None, 0), "what is not signed changes nothing");
        let (a, b) = (said(&call.sid), said(&call.sid));
        let both = tokio::join!(post(&house, &path, &a, AUTH_TOKEN), post(&house, &path, &b, AUTH_TOKEN));
        assert_eq!(both, (204, 204));
        assert_eq!(post(&house, &path, &said(&call.sid), AUTH_TOKEN).await, 204);
        house.until_run_is(run, "completed").await;
        assert_eq!(newest(&house, MACHINE).updates, updates, "{then}: the carrier was asked once");
        let attempt = house.jobs(run).await.remove(0);
        assert_eq!((attempt.0.as_str(), attempt.1.as_deref()), ("completed", Some(end)));
        // Whatever is told of it now comes too late.
        assert_eq!(post(&house, &path, &said(&call.sid), AUTH_TOKEN).await, 204);
        assert_eq!(house.jobs(run).await[0].1.as_deref(), Some(end));
    }
    house.close().await;
}

/// Posts a form as Twilio would, signed with this token; the HTTP status of the answer.
async fn post(house: &House, path: &str, form: &[(&str, String)], token: &str) -> u16 {
    let signature = sim::sign(token, &sim::signed_url(&format!("http://{}{path}", house.addr)), form);
    let request = client().post(format!("http://{}{path}", house.addr)).header("X-Twilio-Signature", signature);
    request.form(form).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_overtakes_the_word_of_a_machine_is_a_machines_all_the_same() {
    let house = house().await;
    let business = house.telnyx_business(1).await;
    let late = Rule { status: Some("in-progress".to_owned()), ..Rule::share(CallbackFault::Lost, 1.0) };
    house.sim.set_faults(Faults { callback: vec![late], ..Faults::default() }).unwrap();
    let run = house.run(business, &[MACHINE.to_owned()]).await;
    machine(&house, run, json!({"detect": "async", "then": "continue"})).await;
    house.ctx.ring(business).await;
    house.until_run_is(run, "completed").await;
    let attempt = house.only_attempt(run).await;
    assert_eq!(
        house.jobs(run).await[0].1.as_deref(),
        Some("machine"),
        "the carrier was asked before the end was written"
    );
    let call = newest(&house, MACHINE);
    let word = telnyx_event(business, &call.sid, "call.machine.detection.ended", json!({"result": "machine"}));
    let before = house.jobs(run).await;
    let path = format!("{}?detect=1", house.telnyx_hook(business, attempt));
    assert_eq!(house.telnyx_told(&path, &word).await, 200);
    assert_eq!(house.jobs(run).await, before);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_of_a_machine_that_names_no_call_is_of_the_call_of_its_token() {
    let config =
        sim::Config { talk_ms: Millis::exactly(600_000), detect_ms: Millis::exactly(600_000), ..sim::Config::quick() };
    let house = House::open(Options { sim: Some(config), workers: 1, ..Options::default() }).await;
    let business = house.telnyx_business(1).await;
    let (run, attempt, call) = greeted(&house, business, "hang_up").await;
    let mut word = telnyx_event(business, &call.sid, "call.machine.detection.ended", json!({"result": "machine"}));
    word["data"]["payload"].as_object_mut().unwrap().remove("call_control_id");
    let path = format!("{}?detect=1", house.telnyx_hook(business, attempt));
    assert_eq!(house.telnyx_told(&path, &word).await, 200);
    // Nothing else ends it: the sandbox tells of nobody, and the message lasts longer than this test.
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs(run).await[0].1.as_deref(), Some("machine"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_leaves_its_message_on_a_machine_in_its_own_voice() {
    let config = sim::Config {
        detect_ms: Millis::exactly(50),
        greeting_ms: Millis::exactly(1_500),
        shares: sim::Shares::all(sim::Outcome::Machine),
        ..sim::Config::quick()
    };
    let house = House::open(Options { sim: Some(config), workers: 1, ..Options::default() }).await;
    let media = house.media().await;
    for (business, carrier) in carriers(&house).await {
        let voicemail = "Please call {{name}} back.";
        let agent = house.agent(business, json!({"greeting": "Hello there.", "voicemail": voicemail})).await;
        for detect in ["sync", "async"] {
            let why = format!("{carrier} {detect}");
            let run = house.run(business, &["+12125550101".to_owned()]).await;
            sqlx::query!(
                "UPDATE run SET message = NULL, agent_id = $2, agent_version = 1, machine = $3 WHERE run_id = $1",
                run.0,
                agent.0,
                json!({"detect": detect, "then": "leave_message"})
            )
            .execute(&house.ctx.stores.pg)
            .await
            .unwrap();
            house.ctx.profiles.forget(business);
            house.ctx.ring(business).await;
            house.until_run_is(run, "completed").await;
            house.silent().await;
            let said = house.said(business, run).await;
            assert_eq!(said.end_reason, "voicemail", "{why}: {:?}", lines_of(&said));
            let call = newest(&house, "+12125550101");
            assert_eq!(call.voicemails, ["Please call Ada back."], "{why}: {call:?}");
            assert_eq!(house.jobs(run).await[0].1.as_deref(), Some("voicemail_left"), "{why}");
            let greeted = lines_of(&said).iter().any(|line| line.starts_with("agent: Hello"));
            assert_eq!(greeted, detect == "async", "{why}: {:?}", lines_of(&said));
        }
    }
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_and_a_run_of_the_api_do_the_same() {
    let house = house().await;
    let business = house.business(2).await;
    let asked = |path: &str, body: Value| {
        let request = client().post(format!("http://{}{path}", house.addr)).bearer_auth(OPERATOR_KEY);
        answer(request.header("Rollcall-Business", business.to_string()).json(&body))
    };
    let rule = json!({"detect": "sync", "then": "leave_message",
        "message": {"text": "Call {{name}} back", "language": "en-US", "voice": null}});
    let body = json!({"to": MACHINE, "message": {"text": "Hi"}, "variables": {"name": "Bob"}, "machine": rule});
    let made = asked("/v1/calls", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    house.until("it has ended", || async { house.attempts_in("ended").await == 1 }).await;
    assert_eq!(newest(&house, MACHINE).voicemails, ["Call Bob back"]);
    let run = json!({"name": "x", "message": {"text": "Hi"}, "machine": rule, "leads": [{"to": MACHINE}]});
    let run = asked("/v1/runs", run).await;
    assert_eq!((run.status.as_u16(), &run.body["machine"]), (201, &rule), "{}", run.body);
    let started = asked(&format!("/v1/runs/{}/start", run.body["id"].as_str().unwrap()), json!({})).await;
    assert_eq!(started.fault(), ("/machine/message/text", "missing_variable"), "{}", started.body);
    let agent = house.agent(business, json!({"prompt": "Talk."})).await;
    let body = json!({"name": "x", "agent_id": agent.0, "machine": {"detect": "async", "then": "leave_message"}});
    let refused = asked("/v1/runs", body).await;
    assert_eq!(refused.fault(), ("/machine/message", "missing"), "{}", refused.body);
    house.close().await;
}
