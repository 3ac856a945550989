//! Requests to Twilio's REST API: the dial, and what every other request shares.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use url::Url;

use super::classify::{self, ErrorBody};
use super::codes;
use crate::carriers::dial::{DialAnswer, DialRequest, StatusEvent};
use crate::carriers::http::{CallbackTries, HttpLimits, describe, read_body, retry_after};
use crate::carriers::{Account, CarrierError};

/// One account of Twilio's, to be asked.
pub(in crate::carriers) struct Twilio<'a> {
    pub(in crate::carriers) http: &'a reqwest::Client,
    pub(in crate::carriers) limits: &'a HttpLimits,
    pub(in crate::carriers) account: &'a Account,
}

impl Twilio<'_> {
    /// Sends one `POST …/Calls.json`, which Twilio does not make idempotent, and never repeats it.
    pub(in crate::carriers) async fn dial(&self, request: &DialRequest, limit: Duration) -> DialAnswer {
        let url = match self.url(&["Calls.json"]) {
            Ok(url) => url,
            Err(error) => return DialAnswer::NotSent { why: error.to_string() },
        };
        let fields = dial_fields(request, &self.limits.callback_tries);
        match self.authorized(self.http.post(url)).form(&fields).timeout(limit).send().await {
            Ok(response) => {
                let http = response.status().as_u16();
                let wait = retry_after(response.headers());
                let body = read_body(response, self.limits.answer_bytes).await;
                classify::create(http, wait, body.as_deref().map_err(String::as_str))
            }
            // hyper calls an error one of connecting only while it has no connection to write on. A time-out
            // of the whole exchange is never one, even if it strikes while connecting.
            Err(error) if error.is_builder() || error.is_connect() => DialAnswer::NotSent { why: describe(error) },
            Err(error) => DialAnswer::Unknown { why: describe(error) },
        }
    }

    /// `{base}/2010-04-01/Accounts/{AccountSid}/…`.
    pub(super) fn url(&self, rest: &[&str]) -> Result<Url, CarrierError> {
        let mut url = self.account.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| CarrierError::Unreadable { why: "the base URL cannot carry a path".into() })?
            .pop_if_empty()
            .extend(["2010-04-01", "Accounts", &self.account.reference])
            .extend(rest);
        Ok(url)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.account.reference, Some(self.account.secret.expose_secret()))
    }

    /// `GET url`; `None` where Twilio itself says that there is no such resource.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<Option<T>, CarrierError> {
        let body = self.exchange(self.http.get(url), self.limits.page_bytes).await;
        let body = match body {
            Err(CarrierError::Refused { http: 404, code: codes::NOT_FOUND, .. }) => return Ok(None),
            other => other?,
        };
        let json = &mut serde_json::Deserializer::from_slice(&body);
        // The path of the field, never its value: it may be a number to call.
        serde_path_to_error::deserialize(json)
            .map(Some)
            .map_err(|error| CarrierError::Unreadable { why: format!("at `{}`", error.path()) })
    }

    /// `POST url` with a form that may safely be repeated.
    pub(super) async fn post(&self, url: Url, fields: &[(&str, &str)]) -> Result<(), CarrierError> {
        self.exchange(self.http.post(url).form(fields), self.limits.answer_bytes).await.map(drop)
    }

    async fn exchange(&self, request: RequestBuilder, limit: usize) -> Result<Vec<u8>, CarrierError> {
        let response = self
            .authorized(request)
            .timeout(self.limits.exchange)
            .send()
            .await
            .map_err(|error| CarrierError::Unavailable { why: describe(error) })?;
        if !response.status().is_success() {
            return Err(refusal(response, limit).await);
        }
        read_body(response, limit).await.map_err(|why| CarrierError::Unreadable { why })
    }
}

/// Why an answer that is not 2xx does not help.
async fn refusal(response: Response, limit: usize) -> CarrierError {
    let http = response.status().as_u16();
    let wait = retry_after(response.headers());
    match http {
        401 | 403 => CarrierError::Unauthorized { http },
        429 => CarrierError::Busy { retry_after: wait },
        400..=499 => match read_body(response, limit).await.ok().and_then(|body| ErrorBody::parse(http, &body)) {
            Some(ErrorBody { code, message }) => CarrierError::Refused { http, code, message },
            None => CarrierError::Unreadable { why: format!("HTTP {http} without the carrier's error body") },
        },
        _ => CarrierError::Unavailable { why: format!("HTTP {http}") },
    }
}

/// The form of a create. Source: Twilio, Call resource, "Create a Call".
fn dial_fields(request: &DialRequest, tries: &CallbackTries) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("To", request.to.clone()),
        ("From", request.from.clone()),
        // An api that restarts must not turn an answered call into one that hears an application error.
        ("Url", repeated(&request.answer_url, tries)),
        ("Method", "POST".to_owned()),
        ("StatusCallback", repeated(&request.status_url, tries)),
        ("StatusCallbackMethod", "POST".to_owned()),
        ("Timeout", request.ring_timeout_secs.to_string()),
        ("TimeLimit", request.call_time_limit_secs.to_string()),
    ];
    // Without the end, which is Twilio's only default, a slot would wait for the reconciler.
    for event in [StatusEvent::Initiated, StatusEvent::Ringing, StatusEvent::Answered, StatusEvent::Ended] {
        if event == StatusEvent::Ended || request.events.contains(&event) {
            fields.push(("StatusCallbackEvent", event_word(event).to_owned()));
        }
    }
    fields
}

fn event_word(event: StatusEvent) -> &'static str {
    match event {
        StatusEvent::Initiated => "initiated",
        StatusEvent::Ringing => "ringing",
        StatusEvent::Answered => "answered",
        StatusEvent::Ended => "completed",
    }
}

/// A URL that Twilio calls, with how to repeat it in its fragment, which is not part of what Twilio signs.
/// Source: Twilio, "Webhooks: Connection Overrides".
fn repeated(url: &Url, tries: &CallbackTries) -> String {
    let mut url = url.clone();
    let CallbackTries { repeats, connect, read } = tries;
    url.set_fragment(Some(&format!("rc={repeats}&rp=all&ct={}&rt={}", connect.as_millis(), read.as_millis())));
    url.to_string()
}
