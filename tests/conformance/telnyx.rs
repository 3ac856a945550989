//! The same over Telnyx, with its own description: every request of the product is accepted, and spoiled ones are not.

use std::{collections::BTreeSet, future::ready};

use rollcall::{
    carriers::{Account, Client, Detect, DialAnswer, How, HttpLimits, ListFilter, Speech},
    ids::{BusinessId, Carrier},
    sim::{self, CallbackFault, CreateFault, Faults, Rule, Sim},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    ANSWERED, FROM, LONG, database, dial_request,
    house::{House, Options, numbers},
    judge::{Judge, Verdict},
};

const CONNECTION: &str = "1293384261075731461";

#[tokio::test]
async fn every_kind_of_request_to_telnyx_is_accepted() {
    let sandbox = Sim::start_local(sim::Config::quick()).unwrap();
    let judge = Judge::start(&sandbox.base_url()).await;
    let account = Account {
        carrier: Carrier::Telnyx,
        reference: CONNECTION.into(),
        secret: SecretString::from("KEY"),
        signers: Vec::new(),
        base_url: judge.base.clone(),
    };
    let client = Client::new(HttpLimits { page_size: 1, ..HttpLimits::default() }).unwrap();
    let mut request = dial_request(&judge, &[]);
    request.to = ANSWERED.into();
    let mut calls = Vec::new();
    for greeting in [false, true] {
        request.detect = Some(Detect { first: true, greeting });
        request.key = uuid::Uuid::now_v7();
        let answer = client.dial(&account, &request, LONG, ready(true)).await;
        let DialAnswer::Placed { call_id, .. } = answer else { panic!("{answer:?}") };
        sandbox.wait(sim::Until::Reached(call_id.clone(), sim::Status::InProgress), LONG).await.unwrap();
        calls.push(call_id);
    }
    assert_eq!(client.live(&account, None).await.unwrap().len(), 2, "of one row per page");
    let day = chrono::NaiveDate::from_ymd_opt(2026, 11, 20);
    let filter = ListFilter { to: Some(ANSWERED.into()), from: Some(FROM.into()), day, status: None };
    client.list(&account, &filter).await.unwrap();
    assert!(client.fetch(&account, &calls[0], None).await.unwrap().is_some());
    for language in ["en-US", "de", "eo"] {
        let speech = Speech { text: "Hello".into(), language: language.into(), voice: None };
        client.say(&account, &calls[0], &speech, language).await.unwrap();
    }
    let speech = Speech { text: "Call back".into(), language: "en-US".into(), voice: None };
    client.leave(&account, &calls[0], &speech, ("voicemail", "token"), "").await.unwrap();
    for call in &calls {
        client.hang_up(&account, call, How::Complete).await.unwrap();
    }
    assert_eq!(judge.refused(), [""; 0]);
    let kinds: BTreeSet<_> = judge.seen().into_iter().collect();
    for kind in [
        "POST /calls",
        "GET /calls/…",
        "GET /call_events",
        "GET /connections/…/active_calls",
        "POST /calls/…/actions/speak",
        "POST /calls/…/actions/hangup",
    ] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
}

/// Makes the business one of Telnyx's, whose requests go to the judge.
async fn moved_to_telnyx(house: &House, judge: &Judge, business: BusinessId) {
    let (secret, key) = house.ctx.vault.seal(business, Carrier::Telnyx, &SecretString::from("KEY")).unwrap();
    let statements = format!(
        "UPDATE carrier_account SET carrier = 'telnyx', reference = '{CONNECTION}', api_base_url = '{}', public_key = '{}',
             secret = '\\x{}', sealing_key = '{key}';
         UPDATE business SET carriers = '{{telnyx}}';",
        judge.base,
        house.sim.telnyx_public_key(),
        hex::encode(secret)
    );
    let mut pg = house.ctx.stores.pg.acquire().await.unwrap();
    database::run(&mut pg, &statements).await;
    house.ctx.profiles.forget(business);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_troubled_run_over_telnyx_is_accepted() {
    // No webhook comes: what became of a call, and that somebody waits to hear something, is learned by asking only.
    let answered = sim::Config { shares: sim::Shares::all(sim::Outcome::Answered), ..sim::Config::quick() };
    let quiet = vec!["--log-level", "ERROR"];
    let house = House::open(Options { sim: Some(answered), workers: 1, args: quiet, ..Options::default() }).await;
    let judge = Judge::start(&house.sim.base_url()).await;
    let business = house.business(3).await;
    moved_to_telnyx(&house, &judge, business).await;
    house
        .sim
        .set_faults(Faults {
            create: vec![Rule::next(CreateFault::Http500AfterAccept, 2)],
            callback: vec![Rule::share(CallbackFault::Lost, 1.0)],
            ..Faults::default()
        })
        .unwrap();
    let run = house.started(business, &numbers(8)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.figures().total.created, 8);
    house.close().await;
    assert_eq!(judge.refused(), [""; 0]);
}

#[tokio::test]
async fn spoiled_requests_to_telnyx_are_refused() {
    let judge = Judge::start("http://127.0.0.1:9").await;
    let whole =
        json!({"connection_id": CONNECTION, "to": ANSWERED, "from": FROM, "client_state": "dA==", "command_id": "c"});
    let with = |name: &str, value: Value| {
        let mut body = whole.clone();
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let (speak, words) =
        ("/calls/v3%3Ax/actions/speak", json!({"payload": "Hello", "voice": "female", "language": "en-US"}));
    assert_eq!(judge.post_json("/calls", &whole).await, Verdict::Accepted, "unspoiled");
    assert_eq!(judge.post_json(speak, &words).await, Verdict::Accepted, "unspoiled");
    for body in [
        without("connection_id"),
        without("to"),
        without("from"),
        with("timeout_secs", json!("soon")),
        with("retry_on_timeout", json!("no")),
        with("answering_machine_detection", json!("guess")),
        with("record", json!("always")),
        with("webhook_url_method", json!("PUT")),
        with("webhook_retries_policies", json!({"call.hangup": {"retries_ms": [1, 1, 1, 1, 1, 1]}})),
    ] {
        assert!(matches!(judge.post_json("/calls", &body).await, Verdict::Refused(_)), "{body}");
    }
    for body in [
        json!({"payload": "Hello"}),
        json!({"voice": "female"}),
        json!({"payload": "a", "voice": "b", "language": "xx"}),
    ] {
        assert!(matches!(judge.post_json(speak, &body).await, Verdict::Refused(_)), "{body}");
    }
    for question in
        ["/connections/1/active_calls?page%5Blimit%5D=many", "/call_events?page%5Bsize%5D=0", "/recordings/x"]
    {
        assert!(matches!(judge.get_telnyx(question).await, Verdict::Refused(_)), "{question}");
    }
}
