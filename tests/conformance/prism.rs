//! Prism, with the carriers' own descriptions of their APIs, judges every request that the product sends.
//!
//! A judge stands between the product and the sandbox carrier: it shows each request to Prism, keeps the verdict, and lets the
//! sandbox answer. Run by `tests/conformance/prism.sh`, which starts a Prism for each carrier and says in PRISM_URL and
//! PRISM_TELNYX_URL where they listen.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

#[path = "../it/database.rs"]
mod database;
#[path = "../it/house.rs"]
#[expect(dead_code, reason = "only a part of what the tests of the house use is needed here")]
mod house;
mod judge;
mod telnyx;

use std::{collections::BTreeSet, future::ready, time::Duration};

use rollcall::{
    carriers::{
        Account, Client, Detect, DialAnswer, DialRequest, How, HttpLimits, ListFilter, LiveState, Speech, StatusEvent,
    },
    ids::Carrier,
    sim::{self, CallbackFault, CreateFault, Faults, Rule, Sim},
};

use house::{House, Options, numbers};
use judge::{Judge, Verdict};

const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const CALL: &str = "CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const FROM: &str = "+12055550100";
/// Answered at once at the sandbox.
const ANSWERED: &str = "+12125550190";
/// Rings for long at the sandbox, so that it can be hung up.
const HELD: &str = "+12125550196";
/// Far beyond what a loopback needs: no test waits for it.
const LONG: Duration = Duration::from_secs(20);

fn dial_request(judge: &Judge, events: &[StatusEvent]) -> DialRequest {
    DialRequest {
        from: FROM.into(),
        to: HELD.into(),
        key: uuid::Uuid::now_v7(),
        token: "token".into(),
        callback_base: judge.base.clone(),
        events: events.to_vec(),
        ring_timeout_secs: 30,
        call_time_limit_secs: 600,
        detect: Some(Detect { first: false, greeting: true }),
        record: true,
    }
}

#[tokio::test]
async fn every_kind_of_request_is_accepted() {
    let sandbox = Sim::start_local(sim::Config::quick()).unwrap();
    let judge = Judge::start(&sandbox.base_url()).await;
    let account = Account {
        carrier: Carrier::Twilio,
        reference: ACCOUNT.into(),
        secret: "secret".to_owned().into(),
        signers: Vec::new(),
        base_url: judge.base.clone(),
    };
    let client = Client::new(HttpLimits { page_size: 1, ..HttpLimits::default() }).unwrap();
    let all = [StatusEvent::Initiated, StatusEvent::Ringing, StatusEvent::Answered, StatusEvent::Ended];
    let mut calls = Vec::new();
    for (events, first) in [(&all[..], false), (&[][..], true)] {
        // Listened to beside the call to the end of a greeting, and only for who it is before anything else.
        let detect = Some(Detect { first, greeting: !first });
        let request = DialRequest { detect, ..dial_request(&judge, events) };
        let answer = client.dial(&account, &request, LONG, ready(true)).await;
        let DialAnswer::Placed { call_id, .. } = answer else { panic!("{answer:?}") };
        calls.push(call_id);
    }
    assert!(client.fetch(&account, &calls[0], None).await.unwrap().is_some());
    let urls = client.request_parameters(&account, &calls[0]).await.unwrap().unwrap();
    assert!(urls.iter().any(|url| url.contains("token")), "{urls:?}");
    let to = Some(HELD.to_owned());
    // Of one row per page: the next page is a request of its own.
    assert_eq!(client.list(&account, &ListFilter { to: to.clone(), ..ListFilter::default() }).await.unwrap().len(), 2);
    for status in [LiveState::Queued, LiveState::Ringing, LiveState::Answered] {
        let live = ListFilter { to: to.clone(), status: Some(status), ..ListFilter::default() };
        client.list(&account, &live).await.unwrap();
    }
    // Prism reads no parameter with `<` or `>` in its name: the bounds of a day are sent, and not judged.
    let day = chrono::NaiveDate::from_ymd_opt(2026, 11, 20);
    client.list(&account, &ListFilter { to, from: Some(FROM.into()), day, status: None }).await.unwrap();
    // Of a call that nobody has answered it is refused, and judged all the same.
    let speech = Speech { text: "Hello".into(), language: "en-US".into(), voice: None };
    let resume = "https://dialer.example.com/webhooks/twilio/resume/token?after=detection";
    client.leave(&account, &calls[0], &speech, ("key", "token"), resume).await.unwrap();
    client.hang_up(&account, &calls[0], How::CancelQueued).await.unwrap();
    client.hang_up(&account, &calls[1], How::Complete).await.unwrap();
    assert_eq!(judge.refused(), [""; 0]);
    let seen = judge.seen();
    assert!(seen.iter().filter(|kind| *kind == "GET /Calls.json").count() > 5, "more pages than lists: {seen:#?}");
    assert!(seen.iter().filter(|kind| *kind == "POST /Calls/CA….json").count() == 3, "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_troubled_run_is_accepted() {
    // Nobody picks up and no callback comes: what became of a call is learned by asking only.
    let busy = sim::Config { shares: sim::Shares::all(sim::Outcome::Busy), ..sim::Config::quick() };
    let quiet = vec!["--log-level", "ERROR"];
    let house = House::open(Options { sim: Some(busy), workers: 1, args: quiet, ..Options::default() }).await;
    let judge = Judge::start(&house.sim.base_url()).await;
    let business = house.business(3).await;
    let mut pg = house.ctx.stores.pg.acquire().await.unwrap();
    database::run(&mut pg, &format!("UPDATE carrier_account SET api_base_url = '{}'", judge.base)).await;
    drop(pg);
    house
        .sim
        .set_faults(Faults {
            create: vec![Rule::next(CreateFault::Http500AfterAccept, 2)],
            callback: vec![Rule::share(CallbackFault::Lost, 1.0)],
            ..Faults::default()
        })
        .unwrap();
    let run = house.started(business, &numbers(12)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.figures().total.created, 12);
    house.close().await;
    assert_eq!(judge.refused(), [""; 0]);
    let kinds: BTreeSet<_> = judge.seen().into_iter().collect();
    for kind in ["POST /Calls.json", "GET /Calls.json", "GET /Calls/CA….json", "GET /Calls/CA…/Events.json"] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
}

#[tokio::test]
async fn spoiled_requests_are_refused() {
    let judge = Judge::start("http://127.0.0.1:9").await;
    let create = [("To", HELD), ("From", FROM), ("Url", "https://dialer.example.com/answer")];
    let with = |field| create.into_iter().chain([field]).collect::<Vec<_>>();
    let without = |name| create.into_iter().filter(|field| field.0 != name).collect::<Vec<_>>();
    let path = format!("/2010-04-01/Accounts/{ACCOUNT}");
    let (calls, call) = (format!("{path}/Calls.json"), format!("{path}/Calls/{CALL}.json"));

    assert_eq!(judge.post(&calls, &create).await, Verdict::Accepted, "unspoiled");
    assert_eq!(judge.post(&call, &[("Status", "completed")]).await, Verdict::Accepted, "unspoiled");
    let elsewhere = "/2010-04-01/Accounts/AC1/Calls.json";
    for (url, fields) in [
        (calls.as_str(), without("To")),
        (&calls, without("From")),
        (&calls, without("Url")),
        (&calls, with(("StatusCallbackEvent", "hello"))),
        (&calls, with(("Timeout", "soon"))),
        (&calls, with(("TimeLimit", "1.5"))),
        (&calls, with(("Method", "SHOUT"))),
        (&calls, with(("StatusCallback", "not a url"))),
        (&call, vec![("Status", "ended")]),
        (elsewhere, create.to_vec()),
    ] {
        assert!(matches!(judge.post(url, &fields).await, Verdict::Refused(_)), "{url} {fields:?}");
    }
    for query in ["Status=initiated", "PageSize=many", "StartTime=yesterday"] {
        assert!(matches!(judge.get(&format!("{calls}?{query}")).await, Verdict::Refused(_)), "{query}");
    }
}
