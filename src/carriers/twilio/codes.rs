//! Twilio's error codes and what each means for a dial.
//!
//! Codes and (shortened) titles: Twilio's error dictionary. The meaning is Rollcall's judgement.
//! The HTTP status is judged first, in `classify`; a code only refines it.

use crate::carriers::dial::RefusalClass::{
    self, BackOff, LeadPermanent, RequestBug, Requeue, StopAccount, StopDestination, StopRun,
};
use Meaning::{AlreadyEnded, Ambiguous, Elsewhere, Refusal};

/// What a code means where it answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The call was surely not taken.
    Refusal(RefusalClass),
    /// The call may have been taken.
    Ambiguous,
    /// To a hang-up: the call is over already.
    AlreadyEnded,
    /// Belongs in Twilio's debugger (our webhook, TwiML or media socket): odd as an answer.
    Elsewhere,
}

/// No such resource.
pub(super) const NOT_FOUND: i64 = 20404;

/// The meaning of `code`, where it is known.
pub(super) fn meaning(code: i64) -> Option<Meaning> {
    CODES.binary_search_by_key(&code, |row| row.0).ok().and_then(|at| CODES.get(at)).map(|row| row.1)
}

/// Sorted by code.
const CODES: &[(i64, Meaning)] = &[
    (10001, Refusal(StopAccount)),     // account not active
    (10002, Refusal(StopAccount)),     // feature not available on trial
    (10004, Refusal(Requeue)),         // call concurrency limit exceeded
    (11200, Elsewhere),                // HTTP retrieval failure of our URL
    (11205, Elsewhere),                // HTTP connection failure to our URL
    (11206, Elsewhere),                // HTTP protocol violation
    (11210, Elsewhere),                // bad host name
    (11215, Elsewhere),                // too many redirects
    (11220, Elsewhere),                // TLS handshake error
    (11750, Elsewhere),                // TwiML larger than 64 kB
    (12100, Elsewhere),                // TwiML not parseable
    (12200, Elsewhere),                // TwiML schema warning
    (12300, Elsewhere),                // invalid Content-Type
    (13214, Elsewhere),                // Dial: invalid callerId
    (13223, Elsewhere),                // Dial: bad number format
    (13224, Elsewhere),                // Dial: number unsupported or invalid
    (13225, Elsewhere),                // Dial: blocked by Twilio
    (13226, Elsewhere),                // Dial: bad country code
    (13227, Refusal(StopDestination)), // Dial/API: geographic permission
    (20003, Refusal(StopAccount)),     // bad credentials or no permission
    (20005, Refusal(StopAccount)),     // account not active
    // A create names no resource but the account and the API itself, so this is no fault of the lead's:
    // a wrong account name or base URL must not fail every job of a run.
    (20404, Refusal(StopAccount)),     // resource not found
    (20409, Refusal(Requeue)),         // conflict with resource state
    (20429, Refusal(BackOff)),         // too many concurrent API requests; never processed
    (20500, Ambiguous),                // internal server error
    (20503, Ambiguous),                // service unavailable
    (21201, Refusal(RequestBug)),      // no To
    (21202, Refusal(LeadPermanent)),   // premium number
    (21203, Refusal(StopDestination)), // international not enabled
    (21205, Refusal(RequestBug)),      // Url invalid or missing
    (21206, Refusal(RequestBug)),      // SendDigits invalid
    (21208, Refusal(RequestBug)),      // Timeout invalid
    (21209, Refusal(RequestBug)),      // Method invalid
    (21210, Refusal(StopRun)),         // From not verified
    (21211, Refusal(LeadPermanent)),   // To invalid
    (21212, Refusal(StopRun)),         // From invalid or do-not-originate
    (21213, Refusal(RequestBug)),      // no From
    (21214, Refusal(LeadPermanent)),   // To cannot be reached
    (21215, Refusal(StopDestination)), // geographic permission missing
    (21216, Refusal(LeadPermanent)),   // To on Twilio blocklist
    (21217, Refusal(LeadPermanent)),   // To does not appear valid
    (21218, Refusal(RequestBug)),      // ApplicationSid invalid
    (21219, Refusal(LeadPermanent)),   // trial: To not verified
    (21220, AlreadyEnded),             // call not in a state for this operation
    (21262, Elsewhere),                // AMD callback URL missing (warning)
    (21263, Elsewhere),                // AMD parameters misplaced (warning)
    (22005, Refusal(Requeue)),         // call queue holds more than 24 h of calls
    (31900, Elsewhere),                // unknown stream error
    (31901, Elsewhere),                // ws connect timeout
    (31902, Elsewhere),                // ws connection refused
    (31903, Elsewhere),                // ws broken pipe
    (31904, Elsewhere),                // ws host unreachable
    (31910, Elsewhere),                // ws TLS error
    (31920, Elsewhere),                // ws handshake not 101
    (31921, Elsewhere),                // ws closed by us with abnormal code
    (31922, Elsewhere),                // ws url scheme unsupported
    (31923, Elsewhere),                // ws url malformed
    (31924, Elsewhere),                // ws protocol error
    (31930, Elsewhere),                // our upstream too slow, audio dropped
    (31931, Elsewhere),                // more than 10 min buffered, audio dropped
    (31941, Elsewhere),                // invalid track (Connect allows inbound_track only)
    (31950, Elsewhere),                // binary/malformed frame
    (31951, Elsewhere),                // unknown event, missing/extra field or wrong streamSid
    (32017, Refusal(StopRun)),         // carrier analytics blocked our caller id
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
