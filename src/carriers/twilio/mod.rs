//! Twilio Programmable Voice, API version 2010-04-01: requests, answers, callbacks, signatures, TwiML.
//!
//! Invariant: no word of Twilio's leaves here except in `raw_status`, `carrier_status`, codes and messages.
//! Not here: which key belongs to whom, what a token in a URL means, and what an event does to an attempt.
//!
//! Sources: Twilio's OpenAPI description of the API, its documentation pages and its SDKs, as of 2026.

pub mod callback;
pub mod form;
pub mod resource;
pub mod signature;
pub mod twiml;

mod classify;
mod client;
mod codes;
mod list;

pub(super) use client::Twilio;

use crate::carriers::call::{AnsweredBy, CallState, Disposition};

/// True for a Call SID.
fn is_call_id(text: &str) -> bool {
    is_sid("CA", text)
}

/// True for an id of Twilio's: a prefix of its kind and 32 hexadecimal digits.
fn is_sid(kind: &str, text: &str) -> bool {
    text.strip_prefix(kind).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Our state for Twilio's `CallStatus` or `status`; `None` for a word it does not document.
/// `completed` says only that somebody or something picked up; `AnsweredBy` says more where it was asked for.
fn call_state(status: &str, answered_by: Option<AnsweredBy>) -> Option<CallState> {
    Some(match status {
        "queued" => CallState::Queued,
        "initiated" => CallState::Initiated,
        "ringing" => CallState::Ringing,
        "in-progress" => CallState::Answered,
        "completed" => CallState::Ended(match answered_by {
            Some(AnsweredBy::Machine) => Disposition::Machine,
            Some(AnsweredBy::Fax) => Disposition::Fax,
            Some(AnsweredBy::Human | AnsweredBy::Unknown) | None => Disposition::Answered,
        }),
        "busy" => CallState::Ended(Disposition::Busy),
        "no-answer" => CallState::Ended(Disposition::NoAnswer),
        "failed" => CallState::Ended(Disposition::Failed),
        // The API writes one l; a page of the documentation once writes two.
        "canceled" | "cancelled" => CallState::Ended(Disposition::Cancelled),
        _ => return None,
    })
}

/// Who picked up, from `AnsweredBy`: `human`, `fax`, `unknown`, `machine_start` or `machine_end_…`.
fn answered_by(word: &str) -> Option<AnsweredBy> {
    Some(match word {
        "human" => AnsweredBy::Human,
        "fax" => AnsweredBy::Fax,
        "unknown" => AnsweredBy::Unknown,
        _ if word.starts_with("machine_") => AnsweredBy::Machine,
        _ => return None,
    })
}
