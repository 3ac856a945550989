//! Requests to Twilio's REST API: the dial, and what every other request shares.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use url::Url;

use super::classify::{self, ErrorBody};
use super::codes;
use super::is_sid;
use crate::carriers::dial::{DialAnswer, DialRequest, StatusEvent};
use crate::carriers::http::{CallbackTries, HttpLimits, Refusals, retry_after, send_dial};
use crate::carriers::{Account, CarrierError, http};

/// Twilio listens no longer than this, seconds: then it says that it does not know. Its own default.
const DETECTION_SECS: u32 = 30;

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
        match send_dial(self.authorized(self.http.post(url)).form(&fields), limit, self.limits).await {
            Ok((http, headers, body)) => {
                classify::create(http, retry_after(&headers), body.as_deref().map_err(String::as_str))
            }
            Err(answer) => answer,
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
        http::parse(&body).map(Some)
    }

    /// `POST url` with a form that may safely be repeated.
    pub(super) async fn post(&self, url: Url, fields: &[(&str, &str)]) -> Result<(), CarrierError> {
        self.exchange(self.http.post(url).form(fields), self.limits.answer_bytes).await.map(drop)
    }

    /// `{base}/…/Recordings/{RecordingSid}.mp3`.
    pub(in crate::carriers) async fn recording(&self, id: &str) -> Result<Option<Response>, CarrierError> {
        if !is_sid("RE", id) {
            return Err(CarrierError::NotACallId);
        }
        let url = self.url(&["Recordings", &format!("{id}.mp3")])?;
        http::download(self.authorized(self.http.get(url)), self.limits, REFUSALS).await
    }

    /// Source: Twilio, "Recordings resource", "Delete a Recording resource".
    pub(in crate::carriers) async fn delete_recording(&self, id: &str) -> Result<(), CarrierError> {
        if !is_sid("RE", id) {
            return Err(CarrierError::NotACallId);
        }
        let url = self.url(&["Recordings", &format!("{id}.json")])?;
        match self.exchange(self.http.delete(url), self.limits.answer_bytes).await {
            Err(CarrierError::Refused { http: 404, code: codes::NOT_FOUND, .. }) => Ok(()),
            done => done.map(drop),
        }
    }

    async fn exchange(&self, request: RequestBuilder, limit: usize) -> Result<Vec<u8>, CarrierError> {
        http::exchange(self.authorized(request), self.limits, limit, REFUSALS).await
    }
}

/// How Twilio writes its refusals.
const REFUSALS: Refusals = Refusals {
    body: |http, body| ErrorBody::parse(http, body).map(|error| (error.code, error.message)),
    wait: retry_after,
};

/// The form of a create. Source: Twilio, Call resource, "Create a Call".
fn dial_fields(request: &DialRequest, tries: &CallbackTries) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("To", request.to.clone()),
        ("From", request.from.clone()),
        // An api that restarts must not turn an answered call into one that hears an application error.
        ("Url", repeated(&request.callback("twilio/answer"), tries)),
        ("Method", "POST".to_owned()),
        ("StatusCallback", repeated(&request.callback("twilio/status"), tries)),
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
    if let Some(detect) = request.detect {
        // Only the end of a message tells when what is said is recorded.
        let kind = if detect.greeting { "DetectMessageEnd" } else { "Enable" };
        fields.push(("MachineDetection", kind.to_owned()));
        fields.push(("MachineDetectionTimeout", DETECTION_SECS.to_string()));
        if !detect.first {
            fields.extend([
                ("AsyncAmd", "true".to_owned()),
                ("AsyncAmdStatusCallback", repeated(&request.callback("twilio/amd"), tries)),
                ("AsyncAmdStatusCallbackMethod", "POST".to_owned()),
            ]);
        }
    }
    if request.record {
        fields.extend([
            ("Record", "true".to_owned()),
            ("RecordingChannels", "dual".to_owned()),
            ("RecordingStatusCallback", repeated(&request.callback("twilio/recording"), tries)),
            ("RecordingStatusCallbackMethod", "POST".to_owned()),
            ("RecordingStatusCallbackEvent", "completed".to_owned()),
        ]);
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
fn repeated(url: &str, tries: &CallbackTries) -> String {
    let CallbackTries { repeats, connect, read } = tries;
    format!("{url}#rc={repeats}&rp=all&ct={}&rt={}", connect.as_millis(), read.as_millis())
}
