//! Telnyx Voice API (Call Control v2): requests, answers, webhooks, signatures.
//!
//! Invariant: no word of Telnyx's leaves here except in `raw_status`, `carrier_status`, codes and messages; a dial is repeated
//! only with the same bytes, while Telnyx surely ignores its double.
//! Not here: which key belongs to whom, what a token means, and what an event does to an attempt.
//!
//! Sources: Telnyx's OpenAPI description (2026-07), its documentation pages and its SDKs, as of 2026.

pub mod incoming;
pub mod signature;
pub mod webhook;

mod classify;
mod client;
mod codes;
mod events;
mod list;
mod recordings;
mod streams;

pub(super) use client::Telnyx;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::carriers::call::{AnsweredBy, Disposition};

/// Longest call id that is believed, bytes; those seen have some 60.
const MAX_CALL_ID: usize = 255;

/// True for what can be a `call_control_id`: it is opaque, so only its alphabet is checked.
fn is_call_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_CALL_ID && text.bytes().all(|b| b.is_ascii_graphic())
}

/// How a call ended that may not have been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    disposition: Disposition,
    /// True where it is so only if nobody had picked up: Telnyx does not say.
    unclear: bool,
}

/// The end behind a `hangup_cause` and the `sip_hangup_cause` beside it. The list of causes grows: one that is not known
/// counts as failed unless somebody had picked up.
fn end_of(cause: &str, sip: Option<u16>) -> End {
    let sure = |disposition| End { disposition, unclear: false };
    match (cause, sip) {
        ("user_busy", _) | ("call_rejected", Some(486 | 600)) => sure(Disposition::Busy),
        ("timeout" | "no_answer", _) => sure(Disposition::NoAnswer),
        ("originator_cancel", _) => sure(Disposition::Cancelled),
        ("not_found", _) => sure(Disposition::Failed),
        // SIP 403 is Telnyx's own: a limit of channels or of a profile. Nobody was called.
        ("call_rejected", Some(403)) => sure(Disposition::TurnedAway),
        // Declined: 603, 607 (unwanted), 608 (rejected).
        ("call_rejected", Some(603 | 607 | 608)) => sure(Disposition::NoAnswer),
        ("call_rejected", _) => sure(Disposition::Failed),
        ("time_limit", _) => sure(Disposition::Answered),
        // Also with SIP 200: that it was answered only the event of the answer says.
        ("normal_clearing", _) => End { disposition: Disposition::NoAnswer, unclear: true },
        _ => End { disposition: Disposition::Failed, unclear: true },
    }
}

/// The same where somebody had picked up.
fn end_of_answered(by: Option<AnsweredBy>) -> Disposition {
    match by {
        Some(AnsweredBy::Machine) => Disposition::Machine,
        Some(AnsweredBy::Fax) => Disposition::Fax,
        Some(AnsweredBy::Human | AnsweredBy::Unknown) | None => Disposition::Answered,
    }
}

/// Who picked up, from the `result` of a detection.
fn answered_by(result: &str) -> Option<AnsweredBy> {
    Some(match result {
        "human" | "human_residence" | "human_business" => AnsweredBy::Human,
        "machine" => AnsweredBy::Machine,
        "fax_detected" => AnsweredBy::Fax,
        "not_sure" | "silence" => AnsweredBy::Unknown,
        _ => return None,
    })
}

/// Stands behind our token in the state of the message for machines, so that the word of its end is told from any other.
/// It is in no token.
const LEFT: &str = "~left";

/// What we wrote on a call, from `client_state`: base64 of our token.
fn mark(client_state: Option<&str>) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(client_state?).ok()?).ok()?;
    Some(text.strip_suffix(LEFT).map(str::to_owned).unwrap_or(text))
}

/// The state of the message for machines.
fn leaving(mark: &str) -> String {
    BASE64_STANDARD.encode(format!("{mark}{LEFT}"))
}

/// True where a `client_state` is that of the message for machines.
fn is_leaving(client_state: Option<&str>) -> bool {
    let state = client_state.and_then(|state| BASE64_STANDARD.decode(state).ok());
    state.is_some_and(|state| state.ends_with(LEFT.as_bytes()))
}

/// True for a speech that was said to its end: one that was cut, by a hang-up or by what answered, says so.
fn is_whole(status: Option<&str>) -> bool {
    status.is_none_or(|status| status == "completed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_end_and_what_is_unclear_says_so() {
        for (cause, sip, disposition, unclear) in [
            ("user_busy", Some(486), Disposition::Busy, false),
            ("timeout", None, Disposition::NoAnswer, false),
            ("no_answer", Some(487), Disposition::NoAnswer, false),
            ("originator_cancel", Some(487), Disposition::Cancelled, false),
            ("not_found", Some(404), Disposition::Failed, false),
            ("call_rejected", Some(603), Disposition::NoAnswer, false),
            ("call_rejected", Some(608), Disposition::NoAnswer, false),
            ("call_rejected", Some(486), Disposition::Busy, false),
            ("call_rejected", Some(403), Disposition::TurnedAway, false),
            ("call_rejected", None, Disposition::Failed, false),
            ("time_limit", None, Disposition::Answered, false),
            ("normal_clearing", Some(200), Disposition::NoAnswer, true),
            ("normal_clearing", None, Disposition::NoAnswer, true),
            ("normal_clearing", Some(480), Disposition::NoAnswer, true),
            ("unspecified", None, Disposition::Failed, true),
            ("a cause of tomorrow", Some(500), Disposition::Failed, true),
        ] {
            assert_eq!(end_of(cause, sip), End { disposition, unclear }, "{cause} {sip:?}");
        }
    }

    #[test]
    fn the_state_of_a_message_for_machines_still_names_the_call() {
        assert_eq!(mark(Some(&leaving("token"))).as_deref(), Some("token"));
        assert!(is_leaving(Some(&leaving("token"))));
        assert!(!is_leaving(Some(&BASE64_STANDARD.encode("token"))) && !is_leaving(None) && !is_leaving(Some("%")));
    }

    #[test]
    fn a_call_id_is_opaque_but_no_path_of_its_own() {
        assert!(is_call_id("v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"));
        for text in ["", "v3 x", "v3:\n", "v3:é", &"a".repeat(256)] {
            assert!(!is_call_id(text), "{text}");
        }
    }
}
