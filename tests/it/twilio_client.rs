//! The Twilio client: what one dial sends, how often, and what is known afterwards.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{collections::HashSet, future::ready, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{StreamExt as _, stream};
use rollcall::carriers::{
    Account, CallState, CarrierError, Client, DialAnswer, DialRequest, HangUp, How, HttpLimits, ListFilter, LiveState,
    RefusalClass, StatusEvent,
};
use rollcall::{ids::Carrier, ops::private::free_addresses};
use tokio::net::TcpListener;
use url::{Url, form_urlencoded};

use crate::scripted_carrier::{Fake, Reply, http};

const AC: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const CA: &str = "CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Far beyond what a loopback needs: no test waits for it.
const LONG: Duration = Duration::from_secs(20);

fn created() -> String {
    format!(r#"{{"sid":"{CA}","status":"queued","date_created":null}}"#)
}

fn error(code: i64, message: &str) -> String {
    format!(r#"{{"code":{code},"message":"{message}"}}"#)
}

fn row(last: char, status: &str) -> String {
    format!(r#"{{"sid":"CA{}","status":"{status}","direction":"outbound-api"}}"#, last.to_string().repeat(32))
}

fn page(rows: &[String], next: Option<&str>) -> String {
    let next = next.map_or("null".to_owned(), |uri| format!("\"{uri}\""));
    format!(r#"{{"calls":[{}],"next_page_uri":{next},"page":0}}"#, rows.join(","))
}

fn account(fake: &Fake) -> Account {
    account_at(fake.base.clone())
}

fn account_at(base_url: Url) -> Account {
    let secret = secrecy::SecretString::from("s3cret");
    Account { carrier: Carrier::Twilio, reference: AC.into(), signers: vec![secret.clone()], secret, base_url }
}

fn client() -> Client {
    Client::new(HttpLimits { max_pages: 3, ..HttpLimits::default() }).unwrap()
}

fn dial_request() -> DialRequest {
    DialRequest {
        from: "+15552223214".into(),
        to: "+15558675310".into(),
        key: uuid::Uuid::nil(),
        token: "t".into(),
        callback_base: Url::parse("https://dialer.example.com").unwrap(),
        events: vec![StatusEvent::Answered, StatusEvent::Initiated],
        ring_timeout_secs: 30,
        call_time_limit_secs: 600,
        detect: None,
        record: false,
    }
}

async fn dial(fake: &Fake) -> DialAnswer {
    client().dial(&account(fake), &dial_request(), LONG, ready(true)).await
}

fn is_unknown(answer: &DialAnswer) -> bool {
    matches!(answer, DialAnswer::Unknown { .. })
}

#[tokio::test]
async fn a_dial_sends_what_twilio_documents_and_learns_the_call_id() {
    let fake = Fake::start([Reply::Json(201, created())]).await;
    let placed = DialAnswer::Placed { call_id: CA.into(), carrier_status: "queued".into() };
    assert_eq!(dial(&fake).await, placed);

    let requests = fake.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("POST /2010-04-01/Accounts/{AC}/Calls.json HTTP/1.1\r\n")), "{head}");
    let basic = BASE64_STANDARD.encode(format!("{AC}:s3cret"));
    assert!(head.lines().any(|line| line == format!("authorization: Basic {basic}")), "{head}");
    let fields: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let expected = [
        ("To", "+15558675310"),
        ("From", "+15552223214"),
        ("Url", "https://dialer.example.com/webhooks/twilio/answer/t#rc=5&rp=all&ct=1000&rt=2500"),
        ("Method", "POST"),
        ("StatusCallback", "https://dialer.example.com/webhooks/twilio/status/t#rc=5&rp=all&ct=1000&rt=2500"),
        ("StatusCallbackMethod", "POST"),
        ("Timeout", "30"),
        ("TimeLimit", "600"),
        ("StatusCallbackEvent", "initiated"),
        ("StatusCallbackEvent", "answered"),
        ("StatusCallbackEvent", "completed"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn a_definite_refusal_says_its_class_code_and_wait() {
    let slow = b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let fake = Fake::start([
        Reply::Json(400, error(21211, "number +15558675310 is not valid")),
        Reply::Bytes(slow.to_vec()),
        Reply::Json(401, error(20003, "Authenticate")),
    ])
    .await;
    let expected = DialAnswer::Refused {
        class: RefusalClass::LeadPermanent,
        http: 400,
        code: Some(21211),
        message: "number +…5310 is not valid".into(),
        retry_after: None,
    };
    assert_eq!(dial(&fake).await, expected);
    let DialAnswer::Refused { class, retry_after, .. } = dial(&fake).await else { panic!("429 is a refusal") };
    assert_eq!((class, retry_after), (RefusalClass::BackOff, Some(Duration::from_secs(7))));
    let DialAnswer::Refused { class, .. } = dial(&fake).await else { panic!("401 is a refusal") };
    assert_eq!(class, RefusalClass::StopAccount);
}

#[tokio::test]
async fn a_request_that_was_read_is_never_sent_again_and_its_fate_is_unknown() {
    let elsewhere = Fake::start([]).await;
    let redirect = format!("HTTP/1.1 307 X\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.base);
    let short = format!("HTTP/1.1 201 X\r\nContent-Length: 500\r\n\r\n{}", created());
    for (what, reply) in [
        ("reset", Reply::Reset),
        ("closed", Reply::Bytes(Vec::new())),
        ("no HTTP", Reply::Bytes(b"garbage\r\n\r\n".to_vec())),
        ("cut body", Reply::Bytes(short.into_bytes())),
        ("redirect", Reply::Bytes(redirect.into_bytes())),
        ("500", Reply::Json(500, error(20500, "oops"))),
        ("503", Reply::Json(503, String::new())),
        ("408", Reply::Json(408, error(21211, "m"))),
        ("garbage 201", Reply::Json(201, "<html>".into())),
        ("a proxy's 400", Reply::Json(400, "<html>".into())),
        ("10 MB", Reply::Json(201, format!(r#"{{"sid":"{CA}","pad":"{}"}}"#, "x".repeat(10_000_000)))),
    ] {
        let reply = match reply {
            Reply::Json(status, body) => Reply::Bytes(http(status, &body)),
            other => other,
        };
        let fake = Fake::start([reply]).await;
        let answer = dial(&fake).await;
        assert!(is_unknown(&answer), "{what}: {answer:?}");
        assert_eq!(fake.requests().len(), 1, "{what}");
    }
    assert_eq!(elsewhere.requests(), [""; 0]);
}

#[tokio::test]
async fn a_dial_that_is_not_answered_in_time_is_unknown() {
    let fake = Fake::start([Reply::Silence]).await;
    let answer = client().dial(&account(&fake), &dial_request(), Duration::from_millis(300), ready(true)).await;
    assert!(is_unknown(&answer), "{answer:?}");
    assert!(fake.requests().len() <= 1);
}

#[tokio::test]
async fn a_kept_connection_that_dies_under_a_dial_is_unknown_and_not_repeated() {
    for death in [Reply::Reset, Reply::Bytes(Vec::new())] {
        let fake = Fake::start([Reply::Json(201, created()), death, Reply::Json(201, created())]).await;
        let client = client();
        assert!(matches!(
            client.dial(&account(&fake), &dial_request(), LONG, ready(true)).await,
            DialAnswer::Placed { .. }
        ));
        let answer = client.dial(&account(&fake), &dial_request(), LONG, ready(true)).await;
        assert!(is_unknown(&answer), "{answer:?}");
        assert_eq!(fake.requests().len(), 2, "one request per dial");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_kept_connection_was_closed_one_dial_arrives_at_most_once() {
    let fake = Fake::start((0..200).map(|_| Reply::JsonThenClose(201, created()))).await;
    let (client, account) = (client(), account(&fake));
    let dials = (0..200).map(|n| {
        let request = DialRequest { to: format!("+1555867{n:04}"), ..dial_request() };
        let (client, account) = (client.clone(), account.clone());
        async move { client.dial(&account, &request, LONG, ready(true)).await }
    });
    let mut placed = 0;
    let mut answers = stream::iter(dials).buffer_unordered(8);
    while let Some(answer) = answers.next().await {
        match answer {
            DialAnswer::Placed { .. } => placed += 1,
            // The close was noticed too late to know that nothing was read.
            answer => assert!(is_unknown(&answer), "{answer:?}"),
        }
    }
    let arrived = fake.requests();
    let numbers: HashSet<_> = arrived.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1).collect();
    assert_eq!(numbers.len(), arrived.len(), "a dial arrived twice");
    assert!(placed > 0 && placed <= arrived.len(), "{placed} placed, {} arrived", arrived.len());
}

#[tokio::test]
async fn a_dial_that_could_not_connect_was_not_sent() {
    // A port that nobody listens on.
    let [closed] = free_addresses().unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mute_at, rude_at) = (mute.local_addr().unwrap(), rude.local_addr().unwrap());
    tokio::spawn(async move { while rude.accept().await.is_ok() {} });
    // No name may have a label this long, so that no name server is asked.
    let label = "x".repeat(64);
    let limits = HttpLimits { connect: Duration::from_millis(200), ..HttpLimits::default() };
    let client = Client::new(limits).unwrap();
    for (what, base) in [
        ("refused", format!("http://{closed}")),
        ("TLS cut off", format!("https://{rude_at}")),
        ("TLS never answered", format!("https://{mute_at}")),
        ("no such name", format!("http://{label}.invalid")),
        ("no host at all", "mailto:x".to_owned()),
        ("not HTTP", "ftp://127.0.0.1".to_owned()),
    ] {
        let answer = client.dial(&account_at(Url::parse(&base).unwrap()), &dial_request(), LONG, ready(true)).await;
        assert!(matches!(answer, DialAnswer::NotSent { .. }), "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end_and_shows_each_call_once() {
    let next = "/2010-04-01/Accounts/x/Calls.json?Page=1&PageToken=PACA";
    let fake = Fake::start([
        Reply::Json(200, page(&[row('a', "queued"), row('b', "ringing")], Some(next))),
        Reply::Json(200, page(&[row('b', "in-progress"), row('c', "parked")], None)),
    ])
    .await;
    let filter = ListFilter {
        to: Some("+15558675310".into()),
        from: Some("+15552223214".into()),
        status: Some(LiveState::Answered),
        day: chrono::NaiveDate::from_ymd_opt(2026, 11, 20),
    };
    let calls = client().list(&account(&fake), &filter).await.unwrap();
    let states: Vec<_> = calls.iter().map(|call| call.state).collect();
    assert_eq!(states, [Some(CallState::Queued), Some(CallState::Ringing), None]);
    let requests = fake.requests();
    let query = "To=%2B15558675310&From=%2B15552223214&Status=in-progress\
                 &StartTime%3E=2026-11-20T00%3A00%3A00Z&StartTime%3C=2026-11-21T00%3A00%3A00Z&PageSize=250";
    assert!(requests[0].starts_with(&format!("GET /2010-04-01/Accounts/{AC}/Calls.json?{query} ")), "{}", requests[0]);
    assert!(requests[1].starts_with(&format!("GET {next} ")), "{}", requests[1]);
    assert!(requests[1].contains("authorization: Basic"));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_is_an_error() {
    let other = Fake::start([]).await;
    let first = |next: &str| Reply::Json(200, page(&[row('a', "queued")], Some(next)));
    let filter = ListFilter::default();

    for next in [other.base.join("/x").unwrap().to_string(), "//evil.example/x".into(), "https://127.0.0.1/x".into()] {
        let fake = Fake::start([first(&next)]).await;
        let result = client().list(&account(&fake), &filter).await;
        assert!(matches!(result, Err(CarrierError::Incomplete { .. })), "{next}: {result:?}");
    }
    assert_eq!(other.requests(), [""; 0], "the secret never goes to another host");

    let endless = Fake::start((0..9).map(|_| first("/more"))).await;
    let result = client().list(&account(&endless), &filter).await;
    assert!(matches!(result, Err(CarrierError::Incomplete { .. })), "{result:?}");
    assert_eq!(endless.requests().len(), 3);

    for second in [
        Reply::Json(500, String::new()),
        Reply::Json(404, error(20404, "gone")),
        Reply::Json(200, r#"{"calls":[]}"#.into()),
        Reply::Json(200, page(&[r#"{"sid":"CA1","status":"queued"}"#.into()], None)),
        Reply::Reset,
    ] {
        let fake = Fake::start([first("/more"), second]).await;
        assert!(client().list(&account(&fake), &filter).await.is_err());
    }
}

#[tokio::test]
async fn a_call_is_fetched_or_known_to_be_unknown_to_the_carrier() {
    let fake = Fake::start([
        Reply::Json(200, row('b', "no-answer")),
        Reply::Json(404, error(20404, "not found")),
        Reply::Json(404, "<html>".into()),
        Reply::Json(200, row('c', "busy")),
        Reply::Json(503, String::new()),
        Reply::Json(401, error(20003, "m")),
    ])
    .await;
    let (client, account) = (client(), account(&fake));
    assert_eq!(client.fetch(&account, CA, None).await.unwrap().unwrap().raw_status, "no-answer");
    assert_eq!(client.fetch(&account, CA, None).await.unwrap(), None);
    // A proxy's 404 is no word of the carrier's, and another call is none about this one.
    assert!(matches!(client.fetch(&account, CA, None).await, Err(CarrierError::Unreadable { .. })));
    assert!(matches!(client.fetch(&account, CA, None).await, Err(CarrierError::Unreadable { .. })));
    assert!(matches!(client.fetch(&account, CA, None).await, Err(CarrierError::Unavailable { .. })));
    assert!(matches!(client.fetch(&account, CA, None).await, Err(CarrierError::Unauthorized { http: 401 })));
    let asked = fake.requests().len();
    assert!(matches!(client.fetch(&account, "../../x", None).await, Err(CarrierError::NotACallId)));
    assert_eq!(fake.requests().len(), asked);
}

#[tokio::test]
async fn a_hang_up_is_asked_for_and_an_ended_call_is_no_failure() {
    let fake = Fake::start([
        Reply::Json(200, row('b', "completed")),
        Reply::Json(200, row('b', "canceled")),
        Reply::Json(400, error(21220, "not in-progress")),
        Reply::Json(404, error(20404, "not found")),
        Reply::Json(400, error(21201, "m")),
        Reply::Bytes(b"HTTP/1.1 429 X\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ])
    .await;
    let (client, account) = (client(), account(&fake));
    assert_eq!(client.hang_up(&account, CA, How::Complete).await.unwrap(), HangUp::Done);
    assert_eq!(client.hang_up(&account, CA, How::CancelQueued).await.unwrap(), HangUp::Done);
    assert_eq!(client.hang_up(&account, CA, How::Complete).await.unwrap(), HangUp::AlreadyEnded);
    assert_eq!(client.hang_up(&account, CA, How::Complete).await.unwrap(), HangUp::NotFound);
    let refused = client.hang_up(&account, CA, How::Complete).await;
    assert!(matches!(refused, Err(CarrierError::Refused { http: 400, code: 21201, .. })), "{refused:?}");
    let busy = client.hang_up(&account, CA, How::Complete).await;
    let wait = Some(Duration::from_secs(3));
    assert!(matches!(busy, Err(CarrierError::Busy { retry_after }) if retry_after == wait), "{busy:?}");
    let requests = fake.requests();
    assert!(requests[0].starts_with(&format!("POST /2010-04-01/Accounts/{AC}/Calls/{CA}.json ")), "{}", requests[0]);
    assert!(requests[0].ends_with("\r\n\r\nStatus=completed") && requests[1].ends_with("\r\n\r\nStatus=canceled"));
}

#[tokio::test]
async fn the_urls_of_our_own_create_are_found_in_the_calls_events() {
    let events = r#"{"events":[
        {"request":{"method":"POST","url":"x","parameters":{"url":"https://d/answer/t","status_callback":"https://d/s/t","to":"+1"}},
         "response":{"response_code":201}},
        {"request":{"parameters":null}},{"request":null},{}],"next_page_uri":null,"page":0}"#;
    let fake = Fake::start([Reply::Json(200, events.into()), Reply::Json(404, error(20404, "m"))]).await;
    let (client, account) = (client(), account(&fake));
    let urls = client.request_parameters(&account, CA).await.unwrap().unwrap();
    assert_eq!(urls, ["https://d/answer/t", "https://d/s/t"]);
    assert_eq!(client.request_parameters(&account, CA).await.unwrap(), None);
    let path = format!("GET /2010-04-01/Accounts/{AC}/Calls/{CA}/Events.json ");
    assert!(fake.requests()[0].starts_with(&path));
}

#[test]
fn no_secret_is_shown_for_debugging() {
    let account = account_at(Url::parse("https://api.example.com").unwrap());
    assert!(!format!("{account:?}").contains("s3cret"));
}
