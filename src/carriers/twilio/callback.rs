//! Twilio's status callbacks, as events of ours.
//!
//! Source: Twilio, "StatusCallback HTTP parameters" of the Call resource. Unknown fields are ignored, because
//! Twilio adds fields without notice. Fields that are only evidence (times, lengths, codes) are left out when
//! they cannot be read: a final status must not be lost over them.

use chrono::{DateTime, Utc};

use super::form::Form;
use super::{answered_by, call_state, is_call_id, is_sid};
use crate::carriers::call::{AnsweredBy, CallEvent, CallState, Recording};

/// Why a callback is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// A field is missing or empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has a value that Twilio does not document.
    #[error("{0} has a value that is not known")]
    Unknown(&'static str),
}

/// Reads a status callback. Verify its signature first; then compare `account` with the account
/// whose key verified it.
///
/// # Errors
/// When `CallSid`, `AccountSid` or `CallStatus` is missing or not what Twilio sends.
pub fn call_event(form: &Form) -> Result<CallEvent, CallbackError> {
    let field = |name| form.get(name).ok_or(CallbackError::Missing(name));
    let call_id = field("CallSid")?;
    let account = field("AccountSid")?;
    let status = field("CallStatus")?;
    if !is_call_id(call_id) {
        return Err(CallbackError::Unknown("CallSid"));
    }
    let answered_by = form.get("AnsweredBy").and_then(answered_by);
    Ok(CallEvent {
        call_id: Some(call_id.to_owned()),
        account: Some(account.to_owned()),
        state: call_state(status, answered_by).ok_or(CallbackError::Unknown("CallStatus"))?,
        unclear: false,
        comes_again: false,
        sequence: number(form, "SequenceNumber"),
        at: form.get("Timestamp").and_then(rfc_2822),
        // `Duration` would be minutes, as billed.
        duration_secs: number(form, "CallDuration"),
        answered_by,
        sip_code: number(form, "SipResponseCode"),
        carrier_code: number(form, "ErrorCode"),
        carrier_status: status.to_owned(),
    })
}

/// Reads a machine detection's callback: who picked up. It says nothing else of the call than that it was answered.
/// Verify its signature first; then compare `account` with the account whose key verified it.
///
/// # Errors
/// When it does not name its call, account and answer as Twilio does.
pub fn detection(form: &Form) -> Result<CallEvent, CallbackError> {
    let field = |name| form.get(name).ok_or(CallbackError::Missing(name));
    let (call_id, account, who) = (field("CallSid")?, field("AccountSid")?, field("AnsweredBy")?);
    if !is_call_id(call_id) {
        return Err(CallbackError::Unknown("CallSid"));
    }
    Ok(CallEvent {
        call_id: Some(call_id.to_owned()),
        account: Some(account.to_owned()),
        state: CallState::Answered,
        unclear: false,
        comes_again: false,
        sequence: None,
        at: None,
        duration_secs: None,
        // A word of tomorrow is no machine that is known.
        answered_by: answered_by(who).or(Some(AnsweredBy::Unknown)),
        sip_code: None,
        carrier_code: None,
        carrier_status: "in-progress".to_owned(),
    })
}

/// Reads a recording's callback: the call's id, and the recording where it is ready; `None` where it is not.
///
/// # Errors
/// When it does not name its call and recording as Twilio does.
pub fn recording(form: &Form) -> Result<Option<Recording>, CallbackError> {
    let id = form.get("RecordingSid").ok_or(CallbackError::Missing("RecordingSid"))?;
    if !is_sid("RE", id) {
        return Err(CallbackError::Unknown("RecordingSid"));
    }
    let ready = form.get("RecordingStatus").is_none_or(|status| status == "completed");
    Ok(ready.then(|| Recording {
        id: id.to_owned(),
        duration_secs: number(form, "RecordingDuration"),
        channels: number(form, "RecordingChannels"),
    }))
}

/// Who rings, and which number; empty where that is not said.
#[must_use]
pub fn numbers(form: &Form) -> (String, String) {
    let field = |name| form.get(name).unwrap_or_default().to_owned();
    (field("From"), field("To"))
}

/// The account that a callback says it is of.
///
/// # Errors
/// When it names none.
pub fn account(form: &Form) -> Result<String, CallbackError> {
    form.get("AccountSid").map(str::to_owned).ok_or(CallbackError::Missing("AccountSid"))
}

/// A date as Twilio writes it, e.g. `Fri, 20 Nov 2026 17:30:13 +0000`.
pub(super) fn rfc_2822(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|at| at.to_utc())
}

fn number<T: std::str::FromStr>(form: &Form, name: &str) -> Option<T> {
    form.get(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carriers::call::Disposition;

    const CALL: &str = "CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn event(fields: &str) -> Result<CallEvent, CallbackError> {
        whole(&format!("CallSid={CALL}&AccountSid=ACa&{fields}"))
    }

    fn whole(fields: &str) -> Result<CallEvent, CallbackError> {
        call_event(&form(fields))
    }

    fn form(fields: &str) -> Form {
        Form::parse(fields.as_bytes()).expect("a form")
    }

    #[test]
    fn a_final_callback_is_read_whole() {
        let event = event(
            "CallStatus=completed&CallDuration=10&Duration=1&SequenceNumber=3&SipResponseCode=200&ErrorCode=13224\
             &Timestamp=Fri%2C+20+Nov+2026+17%3A30%3A13+%2B0000&AnsweredBy=machine_end_beep&ToCity=&Novelty=1",
        );
        let expected = CallEvent {
            call_id: Some(CALL.into()),
            account: Some("ACa".into()),
            unclear: false,
            comes_again: false,
            state: CallState::Ended(Disposition::Machine),
            sequence: Some(3),
            at: rfc_2822("Fri, 20 Nov 2026 17:30:13 +0000"),
            duration_secs: Some(10),
            answered_by: Some(AnsweredBy::Machine),
            sip_code: Some(200),
            carrier_code: Some(13224),
            carrier_status: "completed".into(),
        };
        assert!(expected.at.is_some());
        assert_eq!(event, Ok(expected));
    }

    #[test]
    fn every_status_has_one_state() {
        use Disposition::*;
        for (status, state) in [
            ("queued", CallState::Queued),
            ("initiated", CallState::Initiated),
            ("ringing", CallState::Ringing),
            ("in-progress", CallState::Answered),
            ("completed", CallState::Ended(Answered)),
            ("completed&AnsweredBy=human", CallState::Ended(Answered)),
            ("completed&AnsweredBy=unknown", CallState::Ended(Answered)),
            ("completed&AnsweredBy=machine_start", CallState::Ended(Machine)),
            ("completed&AnsweredBy=fax", CallState::Ended(Fax)),
            ("busy&AnsweredBy=machine_start", CallState::Ended(Busy)),
            ("no-answer", CallState::Ended(NoAnswer)),
            ("failed", CallState::Ended(Failed)),
            ("canceled", CallState::Ended(Cancelled)),
            ("cancelled", CallState::Ended(Cancelled)),
        ] {
            assert_eq!(event(&format!("CallStatus={status}")).map(|e| e.state), Ok(state), "{status}");
        }
    }

    #[test]
    fn a_callback_without_its_main_fields_names_the_one_that_is_missing() {
        assert_eq!(whole(""), Err(CallbackError::Missing("CallSid")));
        assert_eq!(whole("CallSid=&AccountSid=AC1"), Err(CallbackError::Missing("CallSid")));
        assert_eq!(whole(&format!("CallSid={CALL}")), Err(CallbackError::Missing("AccountSid")));
        assert_eq!(event(""), Err(CallbackError::Missing("CallStatus")));
        assert_eq!(event("CallStatus=asleep"), Err(CallbackError::Unknown("CallStatus")));
        assert_eq!(whole("CallSid=../x&AccountSid=a&CallStatus=busy"), Err(CallbackError::Unknown("CallSid")));
    }

    #[test]
    fn a_detection_says_who_answered_and_nothing_of_the_end() {
        let heard = |who: &str| detection(&form(&format!("CallSid={CALL}&AccountSid=ACa&AnsweredBy={who}")));
        for (who, by) in [
            ("human", AnsweredBy::Human),
            ("machine_start", AnsweredBy::Machine),
            ("machine_end_silence", AnsweredBy::Machine),
            ("fax", AnsweredBy::Fax),
            ("unknown", AnsweredBy::Unknown),
            ("a_parrot", AnsweredBy::Unknown),
        ] {
            let event = heard(who).unwrap();
            assert_eq!((event.state, event.answered_by), (CallState::Answered, Some(by)), "{who}");
        }
        assert_eq!(heard(""), Err(CallbackError::Missing("AnsweredBy")));
        assert_eq!(detection(&form("CallSid=x&AccountSid=a&AnsweredBy=human")), Err(CallbackError::Unknown("CallSid")));
    }

    #[test]
    fn evidence_that_cannot_be_read_does_not_lose_the_status() {
        let event = event("CallStatus=busy&CallDuration=-1&SequenceNumber=x&Timestamp=yesterday&SipResponseCode=99999");
        let event = event.expect("an event");
        assert_eq!(event.state, CallState::Ended(Disposition::Busy));
        assert_eq!((event.sequence, event.at, event.duration_secs, event.sip_code), (None, None, None, None));
    }
}
