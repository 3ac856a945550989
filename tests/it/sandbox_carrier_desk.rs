//! A desk for trying the sandbox: the sandbox itself, a client that calls, and a server that is called.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{OriginalUri, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::any,
};
use rollcall::sim::{Config, Faults, Rule, Sim, Until};
use serde_json::Value;
use tokio::sync::watch;

pub(crate) const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const TOKEN: &str = "secret-of-a";
pub(crate) const FROM: &str = "+14155550100";
/// An ordinary number.
pub(crate) const TO: &str = "+14155552671";
/// Only a bug makes a wait this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request that the sandbox made.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) form: HashMap<String, String>,
    pub(crate) pairs: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Ear {
    received: Mutex<Vec<Received>>,
    heard: watch::Sender<usize>,
    /// Answers by path before the usual one: status and how often.
    spoiled: Mutex<HashMap<String, (u16, u32)>>,
    twiml: Mutex<String>,
}

/// All that a test needs.
pub(crate) struct Desk {
    pub(crate) sim: Sim,
    pub(crate) client: reqwest::Client,
    pub(crate) hooks: String,
    ear: Arc<Ear>,
}

impl Desk {
    pub(crate) async fn new(config: Config) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let ear = Arc::new(Ear::default());
        *ear.twiml.lock().unwrap() = "<Response><Say>Hello</Say></Response>".to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hooks = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(any(hear)).with_state(Arc::clone(&ear));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { sim: Sim::start_local(config).unwrap(), client, hooks, ear }
    }

    pub(crate) async fn quick() -> Self {
        Self::new(Config::quick()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/2010-04-01/Accounts/{ACCOUNT}/{path}", self.sim.base_url())
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let request = self.client.post(self.url(path)).basic_auth(ACCOUNT, Some(TOKEN)).form(form);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.client.get(self.url(path)).basic_auth(ACCOUNT, Some(TOKEN));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The usual form of a call: TwiML by URL, all four events.
    pub(crate) fn form<'a>(&self, to: &'a str, token: &str) -> Vec<(&'a str, String)> {
        let mut form = vec![
            ("To", to.to_owned()),
            ("From", FROM.to_owned()),
            ("Url", format!("{}/answer/{token}", self.hooks)),
            ("StatusCallback", format!("{}/status/{token}", self.hooks)),
        ];
        for event in ["initiated", "ringing", "answered", "completed"] {
            form.push(("StatusCallbackEvent", event.to_owned()));
        }
        form
    }

    pub(crate) async fn dial(&self, form: &[(&str, String)]) -> (u16, Value) {
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post("Calls.json", &form).await
    }

    /// Calls and returns the SID.
    pub(crate) async fn call(&self, to: &str, token: &str) -> String {
        let (status, body) = self.dial(&self.form(to, token)).await;
        assert_eq!(status, 201, "{body}");
        body["sid"].as_str().unwrap().to_owned()
    }

    /// Calls, expecting no usable answer.
    pub(crate) async fn call_in_vain(&self, to: &str, token: &str, patience: Duration) -> reqwest::Error {
        let request = self.client.post(self.url("Calls.json")).basic_auth(ACCOUNT, Some(TOKEN));
        request.form(&self.form(to, token)).timeout(patience).send().await.unwrap_err()
    }

    pub(crate) async fn idle(&self) {
        self.sim.wait(Until::Idle, PATIENCE).await.unwrap();
    }

    pub(crate) fn say(&self, twiml: &str) {
        *self.ear.twiml.lock().unwrap() = twiml.to_owned();
    }

    /// The next `times` requests for a path are answered with a status.
    pub(crate) fn spoil(&self, path: &str, status: u16, times: u32) {
        self.ear.spoiled.lock().unwrap().insert(path.to_owned(), (status, times));
    }

    /// Every request for a path so far.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        self.ear.received.lock().unwrap().iter().filter(|request| request.path == path).cloned().collect()
    }

    /// The `CallStatus` of every status callback for a token, as they arrived.
    pub(crate) fn statuses(&self, token: &str) -> Vec<String> {
        let all = self.received(&format!("/status/{token}"));
        all.into_iter().map(|request| request.form["CallStatus"].clone()).collect()
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn heard(&self, count: usize) {
        let mut heard = self.ear.heard.subscribe();
        tokio::time::timeout(PATIENCE, heard.wait_for(|so_far| *so_far >= count)).await.unwrap().unwrap();
    }
}

async fn hear(
    State(ear): State<Arc<Ear>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: String,
) -> axum::response::Response {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let path = uri.path_and_query().unwrap().to_string();
    let received = Received { path: path.clone(), headers, form: pairs.iter().cloned().collect(), pairs };
    ear.received.lock().unwrap().push(received);
    ear.heard.send_modify(|count| *count += 1);
    if let Some((status, times)) = ear.spoiled.lock().unwrap().get_mut(&path)
        && *times > 0
    {
        *times -= 1;
        return StatusCode::from_u16(*status).unwrap().into_response();
    }
    if path.starts_with("/answer") || path.starts_with("/fallback") {
        let twiml = ear.twiml.lock().unwrap().clone();
        return ([(header::CONTENT_TYPE, "text/xml")], twiml).into_response();
    }
    StatusCode::NO_CONTENT.into_response()
}

/// One rule that strikes the next `count` creates.
pub(crate) fn next_create(kind: rollcall::sim::CreateFault, count: u32) -> Faults {
    Faults { create: vec![Rule::next(kind, count)], ..Faults::default() }
}
