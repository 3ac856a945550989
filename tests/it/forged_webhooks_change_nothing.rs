//! I9: only what the carrier signed for this very call moves a row, whatever else a request says of itself.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, RequestBuilder, StatusCode};
use rollcall::{
    attempts::{
        events,
        ledger::Said,
        state::{AttemptState, Source},
    },
    context::Context,
    ids::{AttemptId, BusinessId},
    server,
    sim::{sign, signed_url},
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    by_hand::{AUTH_TOKEN, client},
    house::{House, Options, numbers},
};

const CALL: &str = "CA0123456789abcdef0123456789abcdef";
/// The auth token of the other business's account.
const OTHERS_TOKEN: &str = "secret token of another account";

type Form = Vec<(&'static str, String)>;
/// What somebody on the way does to a form.
type Touch = fn(&mut Form);

/// Two businesses with one placed call each, and a client who knows their URLs.
struct Street {
    house: House,
    http: reqwest::Client,
    /// Status URL, account and attempt of the one that is attacked, and of its neighbour.
    ours: Party,
    others: Party,
}

struct Party {
    business: BusinessId,
    attempt: AttemptId,
    account: String,
    path: String,
}

/// A request as its sender makes it: everything can be set apart from what was signed.
struct Posted {
    path: String,
    form: Form,
    signature: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Street {
    async fn open() -> Self {
        let house = House::open(Options::default()).await;
        let ours = Self::party(&house, AUTH_TOKEN).await;
        let others = Self::party(&house, OTHERS_TOKEN).await;
        let http = client();
        Self { house, http, ours, others }
    }

    async fn party(house: &House, auth_token: &str) -> Party {
        let business = BusinessId::new();
        let account = format!("AC{}", business.0.simple());
        house.business_with(business, 1, &account, auth_token, 100.0).await;
        house.run(business, &numbers(1)).await;
        let line = if auth_token == AUTH_TOKEN { 1 } else { 2 };
        let attempt = house.claim_at(business, 1, line).await;
        let said = Said { call_id: Some(CALL), ..Said::default() };
        let placed = (AttemptState::Placed, None);
        events::apply(&house.ctx.stores.pg, (business, attempt), Source::Response, placed, &said).await.unwrap();
        Party { business, attempt, account, path: house.hook("status", business, attempt) }
    }

    /// The callback of a state of our call, as the carrier writes it.
    fn form(&self, status: &str) -> Form {
        let text = |value: &str| value.to_owned();
        vec![
            ("CallSid", text(CALL)),
            ("AccountSid", self.ours.account.clone()),
            ("From", text("+12055550100")),
            ("To", text("+12015550100")),
            ("CallStatus", text(status)),
            ("ToCity", String::new()),
            ("SequenceNumber", text("1")),
        ]
    }

    fn url(&self, path: &str) -> String {
        signed_url(&format!("http://{}{path}", self.house.addr))
    }

    /// An authentic callback.
    fn signed(&self, status: &str) -> Posted {
        self.signed_by(AUTH_TOKEN, &self.ours.path, self.form(status))
    }

    fn signed_by(&self, auth_token: &str, path: &str, form: Form) -> Posted {
        let signature = Some(sign(auth_token, &self.url(path), &form));
        Posted { path: path.to_owned(), form, signature, headers: Vec::new() }
    }

    fn request(&self, posted: &Posted) -> RequestBuilder {
        let mut request = self.http.post(format!("http://{}{}", self.house.addr, posted.path));
        if let Some(signature) = &posted.signature {
            request = request.header("X-Twilio-Signature", signature);
        }
        for (name, value) in &posted.headers {
            request = request.header(*name, value);
        }
        request.form(&posted.form)
    }

    /// Sends it and wants 403 as a problem, and not one row written.
    async fn refused(&self, what: &str, posted: &Posted) {
        self.refused_request(what, self.request(posted)).await;
    }

    async fn refused_request(&self, what: &str, request: RequestBuilder) {
        let before = self.house.ledger().await;
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
        assert_eq!(self.house.ledger().await, before, "{what}");
    }

    async fn accepted(&self, what: &str, posted: &Posted) {
        assert_eq!(self.request(posted).send().await.unwrap().status(), StatusCode::NO_CONTENT, "{what}");
    }

    async fn state(&self) -> String {
        let state = sqlx::query_scalar!("SELECT state FROM attempt WHERE attempt_id = $1", self.ours.attempt.0);
        state.fetch_one(&self.house.ctx.stores.pg).await.unwrap()
    }

    /// Ends both calls, as their carrier says.
    async fn close(self) {
        self.accepted("the end of ours", &self.signed("completed")).await;
        let mut form = self.form("completed");
        form[1].1.clone_from(&self.others.account);
        self.accepted("the end of the other's", &self.signed_by(OTHERS_TOKEN, &self.others.path, form)).await;
        self.house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_without_the_right_signature_changes_nothing() {
    let street = Street::open().await;
    let right = street.signed("completed").signature.unwrap();
    let long = "A".repeat(4_000);
    for wrong in ["", " ", "AAAA", "not base64!", &right[1..], &right.to_lowercase(), &format!("{right}="), &long] {
        let posted = Posted { signature: Some((*wrong).to_owned()), ..street.signed("completed") };
        street.refused(&format!("signature {wrong:.40?}"), &posted).await;
    }
    street.refused("no signature", &Posted { signature: None, ..street.signed("completed") }).await;
    street.refused("an empty key", &street.signed_by("", &street.ours.path, street.form("completed"))).await;
    let mut sha256 = Hmac::<Sha256>::new_from_slice(AUTH_TOKEN.as_bytes()).unwrap();
    sha256.update(street.url(&street.ours.path).as_bytes());
    let posted = Posted {
        signature: Some(BASE64_STANDARD.encode(sha256.finalize().into_bytes())),
        headers: vec![("X-Twilio-Webhooks-Signature-Settings", "key=k,algorithm=HMAC_SHA256".to_owned())],
        ..street.signed("completed")
    };
    street.refused("another algorithm", &posted).await;
    assert_eq!(street.state().await, "placed");
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbours_account_signs_only_for_its_own_calls() {
    let street = Street::open().await;
    let (ours, others) = (&street.ours, &street.others);
    let theirs = |account: &str| {
        let mut form = street.form("completed");
        account.clone_into(&mut form[1].1);
        form
    };
    street
        .refused("their key, our account", &street.signed_by(OTHERS_TOKEN, &ours.path, street.form("completed")))
        .await;
    street
        .refused("their key, their account", &street.signed_by(OTHERS_TOKEN, &ours.path, theirs(&others.account)))
        .await;
    street.refused("our key, their account", &street.signed_by(AUTH_TOKEN, &ours.path, theirs(&others.account))).await;
    street.refused("our key, their call", &street.signed_by(AUTH_TOKEN, &others.path, street.form("completed"))).await;
    let mixed = street.house.hook("status", others.business, ours.attempt);
    let posted = street.signed_by(OTHERS_TOKEN, &mixed, theirs(&others.account));
    let before = street.house.ledger().await;
    street.accepted("their token for our attempt is authentic and names no attempt", &posted).await;
    assert_eq!(street.house.ledger().await, before);
    for at in [0, 20, 43, 65] {
        let mut path = ours.path.clone().into_bytes();
        let at = path.len() - 66 + at;
        path[at] = if path[at] == b'A' { b'B' } else { b'A' };
        let path = String::from_utf8(path).unwrap();
        street
            .refused("a token changed by one character", &street.signed_by(AUTH_TOKEN, &path, street.form("completed")))
            .await;
    }
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_whose_form_or_url_was_touched_changes_nothing() {
    let street = Street::open().await;
    let touched: [(&str, Touch); 9] = [
        ("a status changed", |form| "completed".clone_into(&mut form[4].1)),
        ("a number changed", |form| form[3].1.push('1')),
        ("a parameter added", |form| form.push(("Extra", String::new()))),
        ("a parameter taken away", |form| drop(form.remove(2))),
        ("an empty parameter taken away", |form| drop(form.remove(5))),
        ("a parameter doubled with another value", |form| form.push(("To", "+12015550101".to_owned()))),
        ("the status twice", |form| form.push(("CallStatus", "ringing".to_owned()))),
        ("the call twice", |form| form.insert(0, ("CallSid", CALL.to_owned()))),
        ("a value moved into its name", |form| form[4] = ("CallStatusringing", String::new())),
    ];
    for (what, touch) in touched {
        let mut posted = street.signed("ringing");
        touch(&mut posted.form);
        street.refused(what, &posted).await;
    }
    let token = street.ours.path.rsplit_once('/').unwrap().1.to_owned();
    let escaped = street.ours.path.replace(&token, &format!("%{:02X}{}", token.as_bytes()[0], &token[1..]));
    let upper = street.ours.path.replace("/status/", "/%73tatus/");
    for path in [format!("{}?x=1", street.ours.path), format!("{}?", street.ours.path), escaped] {
        street.refused(&path, &Posted { path: path.clone(), ..street.signed("completed") }).await;
    }
    let query = |case: &str| format!("{}?x={case}", street.ours.path);
    let posted = street.signed_by(AUTH_TOKEN, &query("%2f"), street.form("completed"));
    street.refused("another case of an escape", &Posted { path: query("%2F"), ..posted }).await;
    let posted = street.signed_by(
        AUTH_TOKEN,
        &street.house.hook("answer", street.ours.business, street.ours.attempt),
        street.form("completed"),
    );
    street.refused("the signature of another of our URLs", &Posted { path: street.ours.path.clone(), ..posted }).await;
    let before = street.house.ledger().await;
    for path in [format!("{}/", street.ours.path), upper, street.ours.path.to_uppercase()] {
        let status = street
            .request(&street.signed_by(AUTH_TOKEN, &path, street.form("completed")))
            .send()
            .await
            .unwrap()
            .status();
        assert!([StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&status), "{path}: {status}");
    }
    assert_eq!(street.house.ledger().await, before);
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_says_of_its_host_does_not_matter() {
    let street = Street::open().await;
    let names: [(&'static str, &str); 6] = [
        ("Host", "evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "443"),
        ("Forwarded", "host=evil.example;proto=https"),
        ("X-Original-URL", "/webhooks/twilio/status/x"),
    ];
    for (name, value) in names {
        let headers = || vec![(name, value.to_owned())];
        for evil in ["http://evil.example", "https://evil.example", "https://evil.example:443"] {
            let form = street.form("completed");
            let signature = Some(sign(AUTH_TOKEN, &format!("{evil}{}", street.ours.path), &form));
            street.refused(name, &Posted { signature, form, path: street.ours.path.clone(), headers: headers() }).await;
        }
        street.accepted(name, &Posted { headers: headers(), ..street.signed("initiated") }).await;
    }
    assert_eq!(street.state().await, "initiated");
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_method_or_kind_of_body_changes_nothing() {
    let street = Street::open().await;
    let json =
        serde_json::to_vec(&street.form("completed").into_iter().collect::<std::collections::HashMap<_, _>>()).unwrap();
    let path = format!("{}?bodySHA256={}", street.ours.path, hex::encode(Sha256::digest(&json)));
    let signature = sign::<&str, &str>(AUTH_TOKEN, &street.url(&path), &[]);
    let request =
        || street.http.post(format!("http://{}{path}", street.house.addr)).header("X-Twilio-Signature", &signature);
    street
        .refused_request("JSON with its hash", request().header("content-type", "application/json").body(json.clone()))
        .await;
    street.refused_request("a form under the hash of JSON", request().form(&street.form("completed"))).await;
    street.refused_request("no body", request()).await;
    street.refused_request("not UTF-8", request().body(b"CallSid=%ff".as_slice())).await;

    let before = street.house.ledger().await;
    let url = format!("http://{}{}", street.house.addr, street.ours.path);
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
        let signature = sign::<&str, &str>(AUTH_TOKEN, &street.url(&street.ours.path), &[]);
        let request = street.http.request(method.clone(), &url).header("X-Twilio-Signature", signature);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    // What is said to come is 10 MB; it is refused long before it has come.
    let mut socket = tokio::net::TcpStream::connect(street.house.addr).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 10485760\r\nx-twilio-signature: {signature}\r\n\r\n",
        street.ours.path
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&[b'a'; 70 * 1024]).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    assert_eq!(street.house.ledger().await, before);
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_callback_replayed_a_thousand_times_changes_nothing() {
    let street = Street::open().await;
    for status in ["initiated", "completed"] {
        street.accepted(status, &street.signed(status)).await;
    }
    let before = street.house.ledger().await;
    for status in ["completed", "ringing", "busy"] {
        let captured = street.signed(status);
        for _ in 0..1_000 {
            street.accepted(status, &captured).await;
        }
        assert_eq!(street.house.ledger().await, before, "{status}");
    }
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_away_no_callback_is_acknowledged_and_none_is_lost() {
    let street = Street::open().await;
    let mut args = street.house.args.clone();
    args.extend(["--api-addr".to_owned(), "127.0.0.1:0".to_owned()]);
    let settings = <rollcall::config::Settings as clap::Parser>::try_parse_from(&args).unwrap();
    let ctx = Context::open(settings, "test").await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{}", listener.local_addr().unwrap(), street.ours.path);
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(server::serve(listener, server::doors(ctx.clone()), stop.clone()));
    let callback = street.signed("completed");
    let send = || async {
        let signature = callback.signature.as_deref().unwrap();
        street.http.post(&url).header("X-Twilio-Signature", signature).form(&callback.form).send().await.unwrap()
    };
    // Once with the account still known to the process, once without.
    ctx.account(street.ours.business, &street.ours.account).await.unwrap().unwrap();
    ctx.close().await;
    for known in ["known", "unknown"] {
        let answer = send().await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "the account is {known}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        ctx.profiles.forget(street.ours.business);
    }
    stop.cancel();
    served.await.unwrap().unwrap();
    assert_eq!(street.state().await, "placed");
    street.accepted("the carrier's next try", &callback).await;
    assert_eq!(street.state().await, "ended");
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_question_what_to_say_is_told_nothing_and_changes_nothing() {
    let street = Street::open().await;
    let path = street.house.hook("answer", street.ours.business, street.ours.attempt);
    let right = street.signed_by(AUTH_TOKEN, &path, street.form("in-progress"));
    for (what, signature) in [
        ("none", None),
        ("empty", Some(String::new())),
        ("that of the status URL", street.signed("in-progress").signature),
    ] {
        let posted = Posted { path: path.clone(), form: right.form.clone(), signature, headers: Vec::new() };
        street.refused(what, &posted).await;
    }
    let said = street.request(&right).send().await.unwrap().text().await.unwrap();
    assert!(said.contains(">Hello Ada</Say>"), "{said}");
    street.close().await;
}
