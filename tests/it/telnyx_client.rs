//! The Telnyx client: what one dial sends, how often, and what is known afterwards.

use std::{future::ready, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rollcall::{
    carriers::{
        Account, CallState, CarrierError, Client, Detect, DialAnswer, DialRequest, Disposition, HangUp, How,
        HttpLimits, ListFilter, RefusalClass, Speech,
    },
    ids::Carrier,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use crate::scripted_carrier::{Fake, Reply};

const CONNECTION: &str = "1293384261075731461";
const CALL: &str = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg";
const LEG: &str = "428c31b6-7af4-4bcb-b7f5-5013ef9657c1";
/// Far beyond what a loopback needs: no test waits for it.
const LONG: Duration = Duration::from_secs(20);

fn account(fake: &Fake) -> Account {
    Account {
        carrier: Carrier::Telnyx,
        reference: CONNECTION.into(),
        secret: SecretString::from("KEY0123"),
        signers: Vec::new(),
        base_url: fake.base.clone(),
    }
}

fn client() -> Client {
    Client::new(HttpLimits { max_pages: 3, ..HttpLimits::default() }).unwrap()
}

fn dial_request() -> DialRequest {
    DialRequest {
        from: "+15552223214".into(),
        to: "+15558675310".into(),
        key: uuid::Uuid::from_u128(7),
        token: "t".into(),
        callback_base: Url::parse("https://dialer.example.com/").unwrap(),
        events: Vec::new(),
        ring_timeout_secs: 30,
        call_time_limit_secs: 600,
        detect: None,
        record: false,
    }
}

fn created() -> Reply {
    let data = json!({"call_control_id": CALL, "call_leg_id": LEG, "call_session_id": LEG, "is_alive": false, "record_type": "call"});
    Reply::Json(200, json!({ "data": data }).to_string())
}

fn error(http: u16, code: u32) -> Reply {
    let error = json!({"code": code.to_string(), "title": "no", "detail": "number +15558675310 will not do"});
    Reply::Json(http, json!({ "errors": [error] }).to_string())
}

async fn dial(replies: impl IntoIterator<Item = Reply>) -> (DialAnswer, Vec<String>) {
    let fake = Fake::start(replies).await;
    let answer = client().dial(&account(&fake), &dial_request(), LONG, ready(true)).await;
    (answer, fake.requests())
}

fn parts(request: &str) -> (&str, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn a_dial_sends_what_telnyx_documents_and_learns_the_call_id() {
    let (answer, requests) = dial([created()]).await;
    assert_eq!(answer, DialAnswer::Placed { call_id: CALL.into(), carrier_status: "dialed".into() });
    let (head, body) = parts(&requests[0]);
    assert!(head.starts_with("POST /v2/calls HTTP/1.1\r\n"), "{head}");
    assert!(head.lines().any(|line| line == "authorization: Bearer KEY0123"), "{head}");
    let repeats = json!({"retries_ms": [500, 1_500, 4_000, 10_000, 30_000]});
    let expected = json!({
        "connection_id": CONNECTION, "to": "+15558675310", "from": "+15552223214",
        "command_id": "00000000-0000-0000-0000-000000000007", "client_state": BASE64_STANDARD.encode("t"),
        "webhook_url": "https://dialer.example.com/webhooks/telnyx/t", "webhook_url_method": "POST",
        "webhook_retries_policies": {"call.initiated": repeats, "call.answered": repeats, "call.hangup": repeats,
            "call.speak.ended": repeats, "call.recording.saved": repeats},
        "timeout_secs": 30, "retry_on_timeout": false, "time_limit_secs": 600,
    });
    assert_eq!(body, expected);
    assert_eq!(requests.len(), 1, "an answer that is clear is not asked for twice");
}

#[tokio::test]
async fn what_else_is_asked_for_and_the_bounds_of_telnyx_are_kept() {
    let fake = Fake::start([created()]).await;
    let request = DialRequest {
        ring_timeout_secs: 1,
        call_time_limit_secs: 5,
        detect: Some(Detect { first: true, greeting: false }),
        record: true,
        ..dial_request()
    };
    client().dial(&account(&fake), &request, LONG, ready(true)).await;
    let (_, body) = parts(&fake.requests()[0]).clone();
    assert_eq!((&body["timeout_secs"], &body["time_limit_secs"]), (&json!(5), &json!(30)));
    assert_eq!(
        (&body["answering_machine_detection"], &body["record"]),
        (&json!("detect"), &json!("record-from-answer"))
    );
}

#[tokio::test]
async fn a_definite_refusal_says_its_class_and_is_not_asked_twice() {
    for (http, code, expected) in [
        (401, 10009, RefusalClass::StopAccount),
        (404, 10005, RefusalClass::StopAccount),
        (403, 20013, RefusalClass::StopAccount),
        (429, 90103, RefusalClass::BackOff),
        (429, 10011, RefusalClass::BackOff),
        (422, 10011, RefusalClass::RequestBug),
        (403, 90041, RefusalClass::Requeue),
        (422, 90043, RefusalClass::Requeue),
        (422, 10016, RefusalClass::LeadPermanent),
        (409, 10036, RefusalClass::Requeue),
    ] {
        let (answer, requests) = dial([error(http, code)]).await;
        let DialAnswer::Refused { class, message, .. } = answer else { panic!("{http} {code}: {answer:?}") };
        assert_eq!((class, requests.len()), (expected, 1), "{http} {code}");
        assert!(!message.contains("8675310"), "{message}");
    }
    let slow = b"HTTP/1.1 429 X\r\nx-ratelimit-reset: 7\r\nContent-Length: 0\r\n\r\n";
    let (answer, _) = dial([Reply::Bytes(slow.to_vec())]).await;
    let DialAnswer::Refused { retry_after, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_dial_in_doubt_is_sent_once_more_with_the_same_bytes_and_stays_in_doubt() {
    let doubts: [fn() -> Reply; 4] = [
        || Reply::Json(500, String::new()),
        || Reply::Reset,
        || Reply::Json(200, "<html>".into()),
        || error(503, 10007),
    ];
    for doubt in doubts {
        // Whatever the double is answered, it says nothing of the first.
        for second in [created(), error(422, 10015), Reply::Json(200, String::new()), Reply::Reset] {
            let (answer, requests) = dial([doubt(), second]).await;
            assert!(matches!(answer, DialAnswer::Unknown { .. }), "{answer:?}");
            assert_eq!(requests.len(), 2);
            assert_eq!(requests[0], requests[1], "the same bytes");
        }
    }
}

#[tokio::test]
async fn beyond_the_window_and_beyond_its_time_a_dial_is_not_sent_again() {
    let fake = Fake::start([Reply::Json(500, String::new()), created()]).await;
    let limits = HttpLimits { repeat_within: Duration::ZERO, ..HttpLimits::default() };
    let answer = Client::new(limits).unwrap().dial(&account(&fake), &dial_request(), LONG, ready(true)).await;
    assert!(matches!(answer, DialAnswer::Unknown { .. }));
    assert_eq!(fake.requests().len(), 1);
    let fake = Fake::start([]).await;
    let limit = Duration::from_millis(400);
    let begin = std::time::Instant::now();
    let answer = client().dial(&account(&fake), &dial_request(), limit, ready(true)).await;
    assert!(matches!(answer, DialAnswer::Unknown { .. }));
    assert!(begin.elapsed() < 2 * limit, "both together keep the limit");
}

#[tokio::test]
async fn a_dial_that_is_over_before_its_answer_is_not_sent_again() {
    let fake = Fake::start([Reply::Reset, created()]).await;
    let answer = client().dial(&account(&fake), &dial_request(), LONG, ready(false)).await;
    assert!(matches!(answer, DialAnswer::Unknown { .. }));
    assert_eq!(fake.requests().len(), 1);
}

fn status(alive: bool) -> Reply {
    let data = json!({"record_type": "call", "call_control_id": CALL, "call_leg_id": LEG, "call_session_id": LEG, "is_alive": alive});
    Reply::Json(200, json!({ "data": data }).to_string())
}

fn event(name: &str, second: u32, more: Value) -> Value {
    let mut payload =
        json!({"call_control_id": CALL, "client_state": BASE64_STANDARD.encode("t"), "to": "+15558675310"});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"record_type": "call_event", "call_leg_id": LEG, "call_session_id": LEG, "type": "webhook", "name": name,
        "event_timestamp": format!("2026-11-20T17:30:{second:02}.000000Z"), "metadata": {"payload": payload}})
}

fn events(rows: &[Value], pages: u32) -> Reply {
    Reply::Json(
        200,
        json!({"data": rows, "meta": {"page_number": 1, "page_size": 250, "total_pages": pages}}).to_string(),
    )
}

#[tokio::test]
async fn a_call_is_fetched_with_its_cause_also_when_telnyx_has_forgotten_it() {
    let ended =
        [event("call.answered", 1, json!({})), event("call.hangup", 21, json!({"hangup_cause": "normal_clearing"}))];
    let fake = Fake::start([status(false), events(&ended, 1), status(true), events(&[], 1)]).await;
    let view = client().fetch(&account(&fake), CALL, None).await.unwrap().unwrap();
    assert_eq!((view.state, view.duration_secs), (Some(CallState::Ended(Disposition::Answered)), Some(20)));
    assert_eq!(view.marks, Some(vec!["t".to_owned()]));
    let view = client().fetch(&account(&fake), CALL, None).await.unwrap().unwrap();
    assert_eq!(view.state, None, "it lives, and no more is known");
    let heads: Vec<_> = fake.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    assert!(heads[0].starts_with(&format!("GET /v2/calls/{CALL} ")), "{heads:?}");
    assert!(
        heads[1].starts_with(&format!("GET /v2/call_events?filter%5Bleg_id%5D={LEG}&page%5Bnumber%5D=1")),
        "{heads:?}"
    );

    let fake = Fake::start([error(404, 10005), events(&ended, 1), error(404, 10005)]).await;
    let view = client().fetch(&account(&fake), CALL, Some("+15558675310")).await.unwrap().unwrap();
    assert_eq!(view.state, Some(CallState::Ended(Disposition::Answered)));
    assert!(fake.requests()[1].contains("filter%5Bto%5D=%2B15558675310"), "{}", fake.requests()[1]);
    assert_eq!(client().fetch(&account(&fake), CALL, None).await.unwrap(), None);
    for id in ["", "a b", "\n"] {
        assert!(matches!(client().fetch(&account(&fake), id, None).await, Err(CarrierError::NotACallId)), "{id:?}");
    }
}

fn active(ids: &[&str], after: Option<&str>) -> Reply {
    let rows: Vec<_> =
        ids.iter().map(|id| json!({"call_control_id": id, "client_state": BASE64_STANDARD.encode(id)})).collect();
    let next = after.map(|after| format!("/v2/connections/{CONNECTION}/active_calls?page[after]={after}"));
    Reply::Json(200, json!({"data": rows, "meta": {"cursors": {"after": after}, "next": next}}).to_string())
}

#[tokio::test]
async fn lists_are_read_to_their_end_and_are_whole_or_an_error() {
    let fake = Fake::start([active(&["v3:a", "v3:b"], Some("c1")), active(&["v3:b", "v3:c"], None)]).await;
    let live = client().live(&account(&fake), None).await.unwrap();
    let seen: Vec<_> =
        live.iter().map(|view| (view.call_id.as_str(), view.marks.clone().unwrap(), view.state)).collect();
    let mark = |id: &str| vec![id.to_owned()];
    assert_eq!(seen, [("v3:a", mark("v3:a"), None), ("v3:b", mark("v3:b"), None), ("v3:c", mark("v3:c"), None)]);
    assert!(fake.requests()[1].contains("page%5Bafter%5D=c1"), "{}", fake.requests()[1]);

    let endless =
        Fake::start([active(&["v3:a"], Some("1")), active(&["v3:b"], Some("2")), active(&["v3:c"], Some("3"))]).await;
    assert!(matches!(client().live(&account(&endless), None).await, Err(CarrierError::Incomplete { .. })));
    let broken = Fake::start([active(&["v3:a"], Some("1")), Reply::Json(500, String::new())]).await;
    assert!(matches!(client().live(&account(&broken), None).await, Err(CarrierError::Unavailable { .. })));

    // Its last page says so by what it leaves out.
    let only = Reply::Json(200, json!({"data": [{"call_control_id": "v3:a"}], "meta": {"total_items": 1}}).to_string());
    assert_eq!(client().live(&account(&Fake::start([only]).await), None).await.unwrap().len(), 1);
    let short =
        Reply::Json(200, json!({"data": [{"call_control_id": "v3:a"}], "meta": {"total_items": 2}}).to_string());
    let short = Fake::start([short]).await;
    assert!(matches!(client().live(&account(&short), None).await, Err(CarrierError::Incomplete { .. })));
    // Events without a word of how many pages there are end with the first empty one.
    let uncounted = |rows: &[Value]| Reply::Json(200, json!({ "data": rows }).to_string());
    let fake = Fake::start([uncounted(&[event("call.answered", 2, json!({}))]), uncounted(&[])]).await;
    assert_eq!(client().list(&account(&fake), &ListFilter::default()).await.unwrap().len(), 1);

    let pages =
        [events(&[event("call.initiated", 1, json!({}))], 2), events(&[event("call.answered", 2, json!({}))], 2)];
    let fake = Fake::start(pages).await;
    let day = chrono::NaiveDate::from_ymd_opt(2026, 11, 20);
    let filter = ListFilter { to: Some("+15558675310".into()), day, ..ListFilter::default() };
    let calls = client().list(&account(&fake), &filter).await.unwrap();
    assert_eq!((calls.len(), calls[0].state), (1, Some(CallState::Answered)));
    assert!(
        fake.requests()[0].contains("filter%5Boccurred_at%5D%5Bgte%5D=2026-11-20T00%3A00%3A00Z"),
        "{}",
        fake.requests()[0]
    );
}

#[tokio::test]
async fn commands_take_the_end_of_a_call_for_an_answer() {
    let ok = || Reply::Json(200, r#"{"data":{"result":"ok"}}"#.into());
    let fake =
        Fake::start([ok(), error(422, 90018), error(404, 10005), error(422, 90015), Reply::Json(503, String::new())])
            .await;
    let (client, account) = (client(), account(&fake));
    assert_eq!(client.hang_up(&account, CALL, How::Complete).await.unwrap(), HangUp::Done);
    assert_eq!(client.hang_up(&account, CALL, How::Complete).await.unwrap(), HangUp::AlreadyEnded);
    assert_eq!(client.hang_up(&account, CALL, How::Complete).await.unwrap(), HangUp::NotFound);
    assert!(matches!(
        client.hang_up(&account, CALL, How::Complete).await,
        Err(CarrierError::Refused { code: 90015, .. })
    ));
    assert!(matches!(client.hang_up(&account, CALL, How::Complete).await, Err(CarrierError::Unavailable { .. })));
    assert!(
        fake.requests()[0].starts_with(&format!("POST /v2/calls/{CALL}/actions/hangup ")),
        "{}",
        fake.requests()[0]
    );
}

#[tokio::test]
async fn a_speech_is_named_so_that_it_is_said_once() {
    let fake = Fake::start([Reply::Json(200, r#"{"data":{"result":"ok"}}"#.into())]).await;
    let speech = Speech { text: "é".repeat(4_000), language: "en-GB".into(), voice: None };
    assert_eq!(client().say(&account(&fake), CALL, &speech, "k").await.unwrap(), HangUp::Done);
    let requests = fake.requests();
    let (head, body) = parts(&requests[0]);
    assert!(head.starts_with(&format!("POST /v2/calls/{CALL}/actions/speak ")), "{head}");
    assert_eq!(body["payload"].as_str().unwrap().chars().count(), 3_000);
    assert_eq!((&body["command_id"], &body["language"]), (&json!("k"), &json!("en-GB")), "{body}");
    assert!(body["voice"].is_string(), "Telnyx wants one");
}
