//! Telnyx's error codes and what each means for a dial.
//!
//! Codes and (shortened) titles: Telnyx's error reference. The meaning is Rollcall's judgement.
//! The HTTP status is judged first, in `classify`: some codes mean different things under different statuses.

use crate::carriers::dial::RefusalClass::{self, LeadPermanent, RequestBug, Requeue, StopAccount};
use Meaning::{AlreadyEnded, Ambiguous, Elsewhere, Refusal};

/// What a code means where it answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The call was surely not taken.
    Refusal(RefusalClass),
    /// The call may have been taken.
    Ambiguous,
    /// To a command: the call is over already.
    AlreadyEnded,
    /// Answers a command on a call, not a dial.
    Elsewhere,
}

/// The number to call is not one.
pub(super) const NUMBER_FORMAT: i64 = 10016;

/// Another command on the call is not done yet.
pub(super) const STILL_PROCESSING: i64 = 10036;
/// A command on a call that nobody has answered yet.
pub(super) const NOT_ANSWERED_YET: i64 = 90034;
/// A second media stream for a call that has one.
pub(super) const STREAMING_ALREADY: i64 = 90045;

/// The meaning of `code`, where it is known.
pub(super) fn meaning(code: i64) -> Option<Meaning> {
    CODES.binary_search_by_key(&code, |row| row.0).ok().and_then(|at| CODES.get(at)).map(|row| row.1)
}

/// Sorted by code.
const CODES: &[(i64, Meaning)] = &[
    (10004, Refusal(RequestBug)),            // missing parameter
    (10005, Refusal(StopAccount)),           // not found; on a dial also: no Authorization header
    (10007, Ambiguous),                      // unexpected error
    (10008, Ambiguous),                      // request timeout
    (10009, Refusal(StopAccount)),           // authentication failed
    (10010, Refusal(StopAccount)),           // authorization failed
    (10011, Refusal(RequestBug)),            // media encryption to the telephone network; with 429: too many requests
    (10015, Refusal(RequestBug)),            // bad request
    (NUMBER_FORMAT, Refusal(LeadPermanent)), // number not +E.164
    (10026, Refusal(RequestBug)),            // wrong type
    (10032, Refusal(RequestBug)),            // bad enum value
    (10033, Refusal(RequestBug)),            // value out of range
    (STILL_PROCESSING, Refusal(Requeue)),    // still being processed
    (10037, Ambiguous),                      // service unavailable
    (10038, Refusal(StopAccount)),           // feature not permitted
    (10039, Refusal(StopAccount)),           // feature limited
    (20012, Refusal(StopAccount)),           // account inactive
    (20013, Refusal(StopAccount)),           // account blocked
    (20014, Refusal(StopAccount)),           // account unverified
    (20016, Refusal(StopAccount)),           // level 1 verification required
    (20017, Refusal(StopAccount)),           // level 2 verification required
    (20100, Refusal(StopAccount)),           // insufficient funds
    (90015, Refusal(RequestBug)),            // invalid call_control_id
    (90017, Refusal(RequestBug)),            // client_state not base64
    (90018, AlreadyEnded),                   // call has already ended
    (90028, Refusal(RequestBug)),            // bad timeout_secs
    (90029, Refusal(RequestBug)),            // bad time_limit_secs
    (NOT_ANSWERED_YET, Elsewhere),           // call not answered yet
    (90041, Refusal(Requeue)),               // channel limit of the account
    (90042, Refusal(Requeue)),               // channel limit of the outbound voice profile
    (90043, Refusal(Requeue)),               // channel limit of the connection
    (90045, Elsewhere),                      // media streaming is used
    (90046, Elsewhere),                      // media streaming failed
    (90048, Elsewhere),                      // media streaming is not used
    (90103, Refusal(RefusalClass::BackOff)), // dials per second
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_code_is_found() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        for (code, known) in CODES {
            assert_eq!(meaning(*code), Some(*known));
        }
        assert_eq!(meaning(1), None);
    }
}
