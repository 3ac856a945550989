//! From the carriers' words, already made ours by `carriers`, to the ledger's.

use crate::{
    attempts::{
        ledger::Said,
        state::{AttemptState, Disposition},
    },
    carriers::{self, CallState, CallView},
};

/// The ledger's state for a carrier's.
#[must_use]
pub fn state(state: CallState) -> (AttemptState, Option<Disposition>) {
    match state {
        CallState::Queued => (AttemptState::Placed, None),
        CallState::Initiated => (AttemptState::Initiated, None),
        CallState::Ringing => (AttemptState::Ringing, None),
        CallState::Answered => (AttemptState::Answered, None),
        CallState::Ended(disposition) => (AttemptState::Ended, Some(self::disposition(disposition))),
    }
}

/// The ledger's disposition for a carrier's.
#[must_use]
pub fn disposition(disposition: carriers::Disposition) -> Disposition {
    match disposition {
        carriers::Disposition::Answered => Disposition::Answered,
        carriers::Disposition::Machine => Disposition::Machine,
        carriers::Disposition::Fax => Disposition::Fax,
        carriers::Disposition::Busy => Disposition::Busy,
        carriers::Disposition::NoAnswer => Disposition::NoAnswer,
        // Told apart before, by `finish::turned_away`.
        carriers::Disposition::Failed | carriers::Disposition::TurnedAway => Disposition::Failed,
        carriers::Disposition::Cancelled => Disposition::Cancelled,
    }
}

/// What a look at the carrier says of a call.
#[must_use]
pub fn said(view: &CallView) -> Said<'_> {
    Said {
        call_id: Some(&view.call_id),
        duration_secs: view.duration_secs.and_then(|secs| i32::try_from(secs).ok()),
        answered_by: view.answered_by.map(carriers::AnsweredBy::as_str),
        carrier_status: Some(&view.raw_status),
        price: view.price.as_deref().zip(view.currency.as_deref()),
        ..Said::default()
    }
}
