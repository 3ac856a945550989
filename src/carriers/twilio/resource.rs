//! The Call resource as Twilio shows it, and the pages that lists come in.
//!
//! Source: Twilio's OpenAPI description, schema `api.v2010.account.call`. Every field may be null; an empty
//! string means the same; unknown fields are ignored; numbers are mostly written as strings.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::callback::rfc_2822;
use super::{answered_by, call_state, is_call_id, is_sid};
use crate::carriers::call::{AnsweredBy, CallView, Recording};

/// A field that may be a string, a number, null, empty or absent.
#[derive(Debug, Default)]
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }))
    }
}

#[derive(Deserialize)]
struct RawCall {
    sid: String,
    status: String,
    #[serde(default)]
    to: Text,
    #[serde(default)]
    from: Text,
    #[serde(default)]
    direction: Text,
    #[serde(default)]
    date_created: Text,
    #[serde(default)]
    start_time: Text,
    #[serde(default)]
    end_time: Text,
    #[serde(default)]
    duration: Text,
    #[serde(default)]
    answered_by: Text,
    #[serde(default)]
    price: Text,
    #[serde(default)]
    price_unit: Text,
}

/// A call of a list or a fetch. One without a call id or a status does not deserialize.
#[derive(Debug)]
pub struct Call(pub CallView);

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawCall::deserialize(deserializer)?;
        if !is_call_id(&raw.sid) {
            return Err(de::Error::custom("a `sid` is not a call id"));
        }
        let date = |text: Text| text.0.as_deref().and_then(rfc_2822);
        let answered_by = raw.answered_by.0.as_deref().and_then(answered_by);
        Ok(Self(CallView {
            call_id: raw.sid,
            state: call_state(&raw.status, answered_by),
            to: raw.to.0,
            from: raw.from.0,
            direction_outbound_api: raw.direction.0.as_deref() == Some("outbound-api"),
            created_at: date(raw.date_created),
            started_at: date(raw.start_time),
            ended_at: date(raw.end_time),
            duration_secs: raw.duration.0.and_then(|secs| secs.parse().ok()),
            answered_by,
            price: raw.price.0,
            currency: raw.price_unit.0,
            marks: None,
            speech_over: false,
            // Who it was is only known when what it was listened to for is over.
            greeting_over: answered_by == Some(AnsweredBy::Machine),
            message_left: false,
            raw_status: raw.status,
        }))
    }
}

/// One page of a list. A page that does not say whether another follows does not deserialize: it would
/// look like the last one.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    /// The rows.
    #[serde(alias = "calls", alias = "events", alias = "recordings")]
    pub(super) rows: Vec<T>,
    /// Where the next page is, relative to the host; null at the end.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) next_page_uri: Option<String>,
}

/// A recording of a call. Source: Twilio's OpenAPI description, schema `api.v2010.account.call.call_recording`.
#[derive(Deserialize)]
pub(super) struct RecordingRow {
    sid: String,
    #[serde(default)]
    status: Text,
    #[serde(default)]
    duration: Text,
    #[serde(default)]
    channels: Text,
}

impl RecordingRow {
    /// The recording, where it is ready and is called as Twilio calls them.
    pub(super) fn ready(self) -> Option<Recording> {
        let ready = self.status.0.as_deref() == Some("completed") && is_sid("RE", &self.sid);
        ready.then(|| Recording {
            id: self.sid,
            duration_secs: self.duration.0.and_then(|secs| secs.parse().ok()),
            channels: self.channels.0.and_then(|channels| channels.parse().ok()),
        })
    }
}

/// One request that Twilio made or got for a call; only what it carried.
#[derive(Deserialize)]
pub(super) struct RequestEvent {
    #[serde(default)]
    request: Option<RequestPart>,
}

#[derive(Deserialize)]
struct RequestPart {
    #[serde(default)]
    parameters: Value,
}

impl RequestEvent {
    /// The URLs of ours that the create request named.
    pub(super) fn callback_urls(&self) -> impl Iterator<Item = String> + '_ {
        let parameters = self.request.as_ref().map(|request| &request.parameters);
        ["url", "status_callback"]
            .into_iter()
            .filter_map(move |name| parameters?.get(name)?.as_str().map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carriers::call::{CallState, Disposition};

    const SID: &str = "CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn view(fields: &str) -> CallView {
        serde_json::from_str::<Call>(&format!(r#"{{"sid":"{SID}",{fields}}}"#)).expect("a call").0
    }

    #[test]
    fn empty_strings_and_nulls_are_absent_and_unknown_fields_ignored() {
        let view = view(
            r#""status":"queued","to":"+15558675310","from":"","direction":"outbound-api","date_created":null,
               "start_time":"","duration":"","price":null,"queue_time":"0","annotation":{"x":[1]}"#,
        );
        assert_eq!(view.state, Some(CallState::Queued));
        assert_eq!(view.to.as_deref(), Some("+15558675310"));
        assert!(view.direction_outbound_api);
        assert_eq!((view.from, view.created_at, view.started_at, view.duration_secs), (None, None, None, None));
    }

    #[test]
    fn dates_are_rfc_2822_and_numbers_come_as_strings_or_numbers() {
        let view = view(
            r#""status":"completed","answered_by":"machine_start","date_created":"Fri, 18 Oct 2019 17:00:00 +0000",
               "start_time":"Fri, 18 Oct 2019 17:00:05 +0000","end_time":"soon","duration":10,"price":-0.0085,
               "price_unit":"USD","direction":"inbound""#,
        );
        assert_eq!(view.created_at.map(|at| at.to_rfc3339()).as_deref(), Some("2019-10-18T17:00:00+00:00"));
        assert_eq!((view.ended_at, view.duration_secs), (None, Some(10)));
        assert_eq!((view.price.as_deref(), view.currency.as_deref()), (Some("-0.0085"), Some("USD")));
        assert_eq!(view.state, Some(CallState::Ended(Disposition::Machine)));
        assert!(!view.direction_outbound_api);
    }

    #[test]
    fn a_word_that_is_not_known_is_shown_and_decides_nothing() {
        let view = view(r#""status":"parked""#);
        assert_eq!((view.state, view.raw_status.as_str()), (None, "parked"));
    }

    #[test]
    fn a_row_or_page_that_is_not_whole_is_an_error() {
        for call in [r#"{"status":"queued"}"#, r#"{"sid":"CA1","status":"queued"}"#, r#"{"sid":null,"status":"x"}"#] {
            assert!(serde_json::from_str::<Call>(call).is_err(), "{call}");
        }
        for page in [r#"{"calls":[]}"#, r#"{"next_page_uri":null}"#, r#"{"calls":[{}],"next_page_uri":null}"#] {
            assert!(serde_json::from_str::<Page<Call>>(page).is_err(), "{page}");
        }
        assert!(serde_json::from_str::<Page<Call>>(r#"{"calls":[],"next_page_uri":null,"page":0}"#).is_ok());
    }

    #[test]
    fn no_phone_number_is_shown_for_debugging() {
        let view = view(r#""status":"queued","to":"+15558675310""#);
        assert!(!format!("{view:?}").contains("8675310"));
    }
}
