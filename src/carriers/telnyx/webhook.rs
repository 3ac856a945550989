//! Telnyx's webhooks (API version 2), as events of ours.
//!
//! Source: Telnyx, "Receiving webhooks" and the schemas of its events. Unknown fields and events are ignored, because Telnyx adds
//! both without notice. Fields that are only evidence are left out when they cannot be read: an end must not be lost over them.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{
    End, answered_by,
    client::{REPEATED_EVENTS, WEBHOOK_REPEATS_MS},
    end_of, end_of_answered, is_call_id, is_leaving, is_whole,
};
use crate::carriers::call::{AnsweredBy, CallEvent, CallState, Disposition, Recording, Told};

/// Why a body is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// It is not the envelope of version 2. The application's `webhook_api_version` must be `2`.
    #[error("the body is not an event of API version 2, at `{0}`")]
    Envelope(String),
    /// A field has a value that cannot be one.
    #[error("{0} has a value that cannot be one")]
    Value(&'static str),
}

#[derive(Deserialize)]
struct Envelope {
    data: Data,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize, Default)]
struct Meta {
    /// How often this was delivered, this time included.
    attempt: Option<usize>,
}

#[derive(Deserialize)]
struct Data {
    event_type: String,
    occurred_at: Option<String>,
    #[serde(default)]
    payload: Payload,
}

/// The fields that are read, of whichever event. A few events leave out what their schema promises.
#[derive(Deserialize, Default)]
struct Payload {
    call_control_id: Option<String>,
    connection_id: Option<String>,
    hangup_cause: Option<String>,
    sip_hangup_cause: Option<String>,
    result: Option<String>,
    status: Option<String>,
    client_state: Option<String>,
    recording_id: Option<String>,
    recording_started_at: Option<String>,
    recording_ended_at: Option<String>,
    channels: Option<String>,
}

/// Reads the body of a webhook. Verify its signature first; then compare `account` with the connection whose key verified it.
///
/// # Errors
/// When it is not an event of version 2, or names its call in a way that cannot be.
pub fn read(body: &[u8]) -> Result<Told, WebhookError> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    let Envelope { data, meta } =
        serde_path_to_error::deserialize(json).map_err(|error| WebhookError::Envelope(error.path().to_string()))?;
    let Data { event_type, occurred_at, payload } = data;
    if payload.call_control_id.as_deref().is_some_and(|id| !is_call_id(id)) {
        return Err(WebhookError::Value("call_control_id"));
    }
    let event = |state| CallEvent {
        call_id: payload.call_control_id.clone(),
        account: payload.connection_id.clone(),
        state,
        unclear: false,
        comes_again: REPEATED_EVENTS.contains(&event_type.as_str())
            && meta.attempt.is_some_and(|times| times <= WEBHOOK_REPEATS_MS.len()),
        // Telnyx does not number its events.
        sequence: None,
        at: time(occurred_at.as_deref()),
        duration_secs: None,
        answered_by: None,
        sip_code: None,
        carrier_code: None,
        carrier_status: event_type.clone(),
    };
    Ok(match event_type.as_str() {
        "call.initiated" => Told::Moved(event(CallState::Initiated)),
        "call.answered" => Told::Moved(event(CallState::Answered)),
        "call.hangup" => Told::Moved(hangup(event(CallState::Ended(Disposition::Failed)), &payload)),
        "call.machine.detection.ended" | "call.machine.premium.detection.ended" => {
            let by = payload.result.as_deref().and_then(answered_by);
            Told::Detected(CallEvent { answered_by: by, ..event(CallState::Answered) })
        }
        // A beep that comes before the detection's own result comes in its place, and only machines beep. Whether the greeting
        // ended with one or not, it is over.
        "call.machine.greeting.ended" | "call.machine.premium.greeting.ended" => {
            let beep = payload.result.as_deref() == Some("beep_detected");
            Told::GreetingOver(CallEvent {
                answered_by: beep.then_some(AnsweredBy::Machine),
                ..event(CallState::Answered)
            })
        }
        "call.speak.ended" if is_whole(payload.status.as_deref()) => {
            if is_leaving(payload.client_state.as_deref()) {
                Told::MessageLeft(event(CallState::Answered))
            } else {
                Told::SpeechOver(event(CallState::Answered))
            }
        }
        "streaming.stopped" | "streaming.failed" => Told::StreamOver(event(CallState::Answered)),
        "call.recording.saved" => match &payload.recording_id {
            Some(id) if is_recording_id(id) => Told::Recorded(event(CallState::Answered), recording(id, &payload)),
            Some(_) => return Err(WebhookError::Value("recording_id")),
            // As in Telnyx' own example, which has addresses of the sound that end in ten minutes, and no name.
            None => Told::RecordedSomewhere(event(CallState::Answered)),
        },
        _ => Told::Other(event_type),
    })
}

fn hangup(event: CallEvent, payload: &Payload) -> CallEvent {
    let cause = payload.hangup_cause.as_deref().unwrap_or_default();
    let sip = payload.sip_hangup_cause.as_deref().and_then(|code| code.parse().ok());
    let End { disposition, unclear } = end_of(cause, sip);
    let disposition = if disposition == Disposition::Answered { end_of_answered(None) } else { disposition };
    CallEvent {
        state: CallState::Ended(disposition),
        unclear,
        sip_code: sip,
        carrier_status: if cause.is_empty() { event.carrier_status.clone() } else { cause.to_owned() },
        ..event
    }
}

/// Recording ids are UUIDs.
fn is_recording_id(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok()
}

fn recording(id: &str, payload: &Payload) -> Recording {
    let (begin, end) = (time(payload.recording_started_at.as_deref()), time(payload.recording_ended_at.as_deref()));
    Recording {
        id: id.to_owned(),
        duration_secs: end.zip(begin).and_then(|(end, begin)| u32::try_from((end - begin).num_seconds()).ok()),
        channels: match payload.channels.as_deref() {
            Some("single") => Some(1),
            Some("dual") => Some(2),
            _ => None,
        },
    }
}

fn time(text: Option<&str>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text?).ok().map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carriers::telnyx::leaving;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const CALL: &str = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg";

    fn body(event: &str, payload: Value) -> Vec<u8> {
        let mut payload = payload;
        payload["call_control_id"] = json!(CALL);
        payload["connection_id"] = json!("1293384261075731461");
        let data = json!({ "record_type": "event", "event_type": event, "id": "e", "occurred_at": "2026-11-20T17:30:13.5Z",
            "payload": payload });
        json!({ "data": data, "meta": { "attempt": 1 } }).to_string().into_bytes()
    }

    fn told(event: &str, payload: Value) -> Told {
        read(&body(event, payload)).expect("an event")
    }

    fn moved(event: &str, payload: Value) -> CallEvent {
        match told(event, payload) {
            Told::Moved(event) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hangup_is_read_whole() {
        let payload =
            json!({ "hangup_cause": "user_busy", "hangup_source": "callee", "sip_hangup_cause": "486", "novelty": 1 });
        let expected = CallEvent {
            call_id: Some(CALL.into()),
            account: Some("1293384261075731461".into()),
            state: CallState::Ended(Disposition::Busy),
            unclear: false,
            comes_again: true,
            sequence: None,
            at: time(Some("2026-11-20T17:30:13.5Z")),
            duration_secs: None,
            answered_by: None,
            sip_code: Some(486),
            carrier_code: None,
            carrier_status: "user_busy".into(),
        };
        assert_eq!(moved("call.hangup", payload), expected);
        let end = moved("call.hangup", json!({ "hangup_cause": "normal_clearing", "sip_hangup_cause": "unspecified" }));
        assert_eq!((end.state, end.unclear, end.sip_code), (CallState::Ended(Disposition::NoAnswer), true, None));
        let end = moved("call.hangup", json!({}));
        assert_eq!((end.unclear, end.carrier_status.as_str()), (true, "call.hangup"));
    }

    #[test]
    fn an_event_that_frees_a_slot_comes_again_until_its_last_repeat() {
        let comes_again = |event: &str, attempt: Value| {
            let mut body: Value = serde_json::from_slice(&body(event, json!({}))).expect("ours");
            body["meta"]["attempt"] = attempt;
            read(body.to_string().as_bytes()).expect("an event").event().is_some_and(|event| event.comes_again)
        };
        assert!(comes_again("call.hangup", json!(1)) && comes_again("call.hangup", json!(5)));
        assert!(!comes_again("call.hangup", json!(6)) && !comes_again("call.hangup", Value::Null));
        assert!(!comes_again("call.machine.detection.ended", json!(1)));
    }

    #[test]
    fn every_event_that_matters_is_told_and_the_rest_has_a_name() {
        assert_eq!(moved("call.initiated", json!({ "state": "parked" })).state, CallState::Initiated);
        assert_eq!(moved("call.answered", json!({})).state, CallState::Answered);
        for (event, result, by) in [
            ("call.machine.detection.ended", "human", Some(AnsweredBy::Human)),
            ("call.machine.detection.ended", "not_sure", Some(AnsweredBy::Unknown)),
            ("call.machine.premium.detection.ended", "machine", Some(AnsweredBy::Machine)),
            ("call.machine.premium.detection.ended", "fax_detected", Some(AnsweredBy::Fax)),
            ("call.machine.detection.ended", "a result of tomorrow", None),
        ] {
            let Told::Detected(heard) = told(event, json!({ "result": result })) else { panic!("{event}") };
            assert_eq!(heard.answered_by, by, "{event} {result}");
        }
        for (result, by) in [("beep_detected", Some(AnsweredBy::Machine)), ("ended", None), ("not_sure", None)] {
            let heard = told("call.machine.greeting.ended", json!({ "result": result }));
            let Told::GreetingOver(heard) = heard else { panic!("{result}") };
            assert_eq!(heard.answered_by, by, "{result}");
        }
        assert!(matches!(told("call.speak.ended", json!({ "status": "completed" })), Told::SpeechOver(_)));
        let left = json!({ "status": "completed", "client_state": leaving("token") });
        assert!(matches!(told("call.speak.ended", left), Told::MessageLeft(_)));
        let cut = json!({ "status": "cancelled_amd", "client_state": leaving("token") });
        assert!(matches!(told("call.speak.ended", cut), Told::Other(_)), "what was cut was not said");
        for event in ["streaming.stopped", "streaming.failed"] {
            assert!(matches!(told(event, json!({})), Told::StreamOver(_)), "{event}");
        }
        for event in ["streaming.started", "call.dtmf.received", "call.new"] {
            assert_eq!(told(event, json!({})), Told::Other(event.to_owned()));
        }
    }

    #[test]
    fn a_recording_has_its_id_length_and_channels() {
        let id = "d7e9c1d4-8b2a-4b8f-b3a7-9a671c9e9b0a";
        let saved = json!({ "recording_id": id, "channels": "dual", "recording_started_at": "2026-11-20T17:30:00Z",
            "recording_ended_at": "2026-11-20T17:30:12.9Z" });
        let Told::Recorded(_, recording) = told("call.recording.saved", saved) else { panic!("a recording") };
        assert_eq!(recording, Recording { id: id.to_owned(), duration_secs: Some(12), channels: Some(2) });
        assert!(read(&body("call.recording.saved", json!({ "recording_id": "../../calls" }))).is_err());
        let nameless =
            told("call.recording.saved", json!({ "channels": "dual", "recording_urls": { "mp3": "https://x" } }));
        assert!(matches!(nameless, Told::RecordedSomewhere(_)), "{nameless:?}");
    }

    #[test]
    fn what_is_not_an_event_of_version_two_is_refused() {
        for text in ["", "{}", "[]", r#"{"metadata":{"event":{}}}"#, r#"{"data":{"payload":{}}}"#, "\u{0}"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        let other = json!({ "data": { "event_type": "call.hangup", "payload": { "call_control_id": "a b" } } });
        assert_eq!(read(other.to_string().as_bytes()), Err(WebhookError::Value("call_control_id")));
        // Some events do not name their call: the token in the URL does.
        let nameless = json!({ "data": { "event_type": "call.answered", "payload": {} } });
        assert!(matches!(read(nameless.to_string().as_bytes()), Ok(Told::Moved(CallEvent { call_id: None, .. }))));
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&body).is_err());
        }
    }
}
