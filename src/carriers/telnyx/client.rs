//! Requests to Telnyx's REST API: the dial, and what every other request shares.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{RequestBuilder, header};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;

use super::classify::{self, ErrorBody};
use crate::carriers::dial::{DialAnswer, DialRequest};
use crate::carriers::http::{HttpLimits, Refusals, send_dial};
use crate::carriers::{Account, CarrierError, http};

/// The version of Telnyx's API that is spoken. That of the webhooks is set where the application is (`webhook_api_version`).
const API: &str = "v2";
/// Telnyx rings at least this long, seconds.
const MIN_RING_SECS: u32 = 5;
/// Telnyx ends no call sooner than this, seconds.
const MIN_TIME_LIMIT_SECS: u32 = 30;
/// Pauses before each repeat of a webhook that we did not take, ms: at most five, and a minute in all.
pub(super) const WEBHOOK_REPEATS_MS: [u32; 5] = [500, 1_500, 4_000, 10_000, 30_000];
/// The events that must not be lost lightly: without them a slot or a callee waits for the reconciler.
pub(super) const REPEATED_EVENTS: [&str; 5] =
    ["call.initiated", "call.answered", "call.hangup", "call.speak.ended", "call.recording.saved"];
/// The same of calls that are listened to.
const DETECTION_EVENTS: [&str; 2] = ["call.machine.detection.ended", "call.machine.greeting.ended"];

/// One connection of Telnyx's, to be asked.
pub(in crate::carriers) struct Telnyx<'a> {
    pub(in crate::carriers) http: &'a reqwest::Client,
    pub(in crate::carriers) limits: &'a HttpLimits,
    pub(in crate::carriers) account: &'a Account,
}

impl Telnyx<'_> {
    /// Sends one `POST /calls`. Where its answer leaves it open whether Telnyx has the call, and it is `still_wanted`, the same bytes
    /// are sent once more: Telnyx ignores a second dial with the same `command_id` for 60 s, and here it comes within 30. What a double is answered
    /// is not documented, so that answer decides nothing: the call names itself in its first event, or in a list.
    pub(in crate::carriers) async fn dial(
        &self,
        request: &DialRequest,
        limit: Duration,
        still_wanted: impl Future<Output = bool>,
    ) -> DialAnswer {
        let begin = Instant::now();
        let (url, body) = match (self.url(&["calls"]), serde_json::to_vec(&dial_body(request, &self.account.reference)))
        {
            (Ok(url), Ok(body)) => (url, body),
            (Err(error), _) => return DialAnswer::NotSent { why: error.to_string() },
            (_, Err(error)) => return DialAnswer::NotSent { why: error.to_string() },
        };
        // Half of the time for each.
        let first = self.dial_once(&url, &body, limit / 2).await;
        let left = || limit.min(self.limits.repeat_within).saturating_sub(begin.elapsed());
        if matches!(first, DialAnswer::Unknown { .. }) && !left().is_zero() && still_wanted.await && !left().is_zero() {
            self.dial_once(&url, &body, left()).await;
        }
        first
    }

    async fn dial_once(&self, url: &Url, body: &[u8], time: Duration) -> DialAnswer {
        let request = self.authorized(self.http.post(url.clone())).header(header::CONTENT_TYPE, "application/json");
        match send_dial(request.body(body.to_vec()), time, self.limits).await {
            Ok((http, headers, body)) => {
                classify::create(http, classify::wait(&headers), body.as_deref().map_err(String::as_str))
            }
            Err(answer) => answer,
        }
    }

    /// `{base}/v2/…`.
    pub(super) fn url(&self, rest: &[&str]) -> Result<Url, CarrierError> {
        let mut url = self.account.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| CarrierError::Unreadable { why: "the base URL cannot carry a path".into() })?
            .pop_if_empty()
            .push(API)
            .extend(rest);
        Ok(url)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.account.secret.expose_secret())
    }

    /// `GET url`; `None` where Telnyx itself says that there is no such resource.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<Option<T>, CarrierError> {
        match self.exchange(self.http.get(url), self.limits.page_bytes).await {
            Err(CarrierError::Refused { http: 404, .. }) => Ok(None),
            body => http::parse(&body?).map(Some),
        }
    }

    /// `POST url` with JSON that may safely be repeated.
    pub(super) async fn post(&self, url: Url, body: &impl Serialize) -> Result<(), CarrierError> {
        self.exchange(self.http.post(url).json(body), self.limits.answer_bytes).await.map(drop)
    }

    /// `DELETE url`.
    pub(super) async fn delete(&self, url: Url) -> Result<(), CarrierError> {
        self.exchange(self.http.delete(url), self.limits.answer_bytes).await.map(drop)
    }

    async fn exchange(&self, request: RequestBuilder, limit: usize) -> Result<Vec<u8>, CarrierError> {
        http::exchange(self.authorized(request), self.limits, limit, REFUSALS).await
    }
}

/// How Telnyx writes its refusals.
pub(super) const REFUSALS: Refusals =
    Refusals { body: |_, body| ErrorBody::parse(body).map(|error| (error.code, error.message)), wait: classify::wait };

/// How often the events that must not be lost lightly are sent, and these beside them.
pub(super) fn repeats(more: &[&str]) -> Map<String, Value> {
    let repeated = REPEATED_EVENTS.iter().chain(more);
    repeated.map(|event| ((*event).to_owned(), json!({ "retries_ms": WEBHOOK_REPEATS_MS }))).collect()
}

/// The body of a dial. Source: Telnyx, "Dial". Every event goes to one address of ours, whatever the application says.
fn dial_body(request: &DialRequest, connection: &str) -> Value {
    let detections = if request.detect.is_some() { &DETECTION_EVENTS[..] } else { &[] };
    let mut body = json!({
        "connection_id": connection,
        "to": request.to,
        "from": request.from,
        "command_id": request.key.to_string(),
        "client_state": BASE64_STANDARD.encode(&request.token),
        "webhook_url": request.callback("telnyx"),
        "webhook_url_method": "POST",
        "webhook_retries_policies": repeats(detections),
        "timeout_secs": request.ring_timeout_secs.max(MIN_RING_SECS),
        // Other routes to the same number would ring beyond the time that was asked for.
        "retry_on_timeout": false,
        "time_limit_secs": request.call_time_limit_secs.max(MIN_TIME_LIMIT_SECS),
    });
    if let Some(detect) = request.detect {
        body["answering_machine_detection"] = json!(if detect.greeting { "greeting_end" } else { "detect" });
    }
    if request.record {
        body["record"] = json!("record-from-answer");
        body["record_channels"] = json!("dual");
        body["record_format"] = json!("mp3");
    }
    body
}
