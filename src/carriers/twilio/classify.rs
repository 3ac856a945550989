//! What an answer to `POST …/Calls.json` proves.
//!
//! A refusal is definite only where the HTTP status says so (401, 403, 404, 409, 429), or where another 4xx
//! except 408 carries Twilio's own error body: a proxy's 4xx proves nothing about what Twilio has done.

use std::time::Duration;

use serde::Deserialize;

use super::codes::{self, Meaning};
use crate::carriers::dial::{DialAnswer, RefusalClass};
use crate::carriers::http::masked;
use crate::carriers::twilio::is_call_id;

/// Twilio's error body: `code`, `message` and `status`, or RFC 9457's `code`, `title` and `detail`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// Twilio's error code.
    pub(super) code: i64,
    /// Its words, numbers masked, at most 300 characters.
    pub(super) message: String,
}

#[derive(Deserialize)]
struct RawError {
    code: i64,
    status: Option<u16>,
    message: Option<String>,
    detail: Option<String>,
    title: Option<String>,
}

impl ErrorBody {
    /// The error body of an answer with HTTP status `http`, if it is one of Twilio's. One that names
    /// another status was not written for this answer.
    pub(super) fn parse(http: u16, body: &[u8]) -> Option<Self> {
        let raw: RawError = serde_json::from_slice(body).ok()?;
        let words = raw.message.or(raw.detail).or(raw.title)?;
        raw.status.is_none_or(|status| status == http).then(|| Self { code: raw.code, message: masked(&words) })
    }
}

/// What is known after an answer with this status and body. A body that could not be read whole is an
/// error text.
pub(super) fn create(http: u16, retry_after: Option<Duration>, body: Result<&[u8], &str>) -> DialAnswer {
    match http {
        200..=299 => placed(http, body),
        400..=499 => refused(http, retry_after, body),
        _ => DialAnswer::Unknown { why: format!("HTTP {http}") },
    }
}

#[derive(Deserialize)]
struct Created {
    sid: String,
    status: Option<String>,
}

fn placed(http: u16, body: Result<&[u8], &str>) -> DialAnswer {
    let unknown = |why: &str| DialAnswer::Unknown { why: format!("HTTP {http} without a call id: {why}") };
    match body.map(serde_json::from_slice::<Created>) {
        Ok(Ok(call)) if is_call_id(&call.sid) => {
            DialAnswer::Placed { call_id: call.sid, carrier_status: call.status.unwrap_or_default() }
        }
        Ok(Ok(_)) => unknown("its `sid` is none"),
        Ok(Err(_)) => unknown("its body is not a call"),
        Err(why) => unknown(why),
    }
}

fn refused(http: u16, retry_after: Option<Duration>, body: Result<&[u8], &str>) -> DialAnswer {
    let error = body.ok().and_then(|body| ErrorBody::parse(http, body));
    let code = error.as_ref().map(|error| error.code);
    match refusal_class(http, code) {
        Some(class) => DialAnswer::Refused {
            class,
            http,
            code,
            message: error.map_or_else(|| format!("HTTP {http} without words of the carrier"), |error| error.message),
            retry_after,
        },
        None => DialAnswer::Unknown {
            why: match (body, code) {
                (_, Some(code)) => format!("HTTP {http} with code {code}"),
                (Ok(_), None) => format!("HTTP {http} without the carrier's error body"),
                (Err(why), None) => format!("HTTP {http}: {why}"),
            },
        },
    }
}

/// The class of a definite refusal, or `None` where the call may have been taken.
fn refusal_class(http: u16, code: Option<i64>) -> Option<RefusalClass> {
    let known = code.and_then(codes::meaning);
    // Definite whatever the body says, with what the status alone would mean.
    let by_status = match http {
        408 => return None,
        // Twilio: 429 was never processed. No code makes it worse than a wait.
        429 => return Some(RefusalClass::BackOff),
        // 401 and 404 are about the account that the request named, never about its lead.
        401 | 404 => return Some(RefusalClass::StopAccount),
        403 => RefusalClass::StopAccount,
        409 => RefusalClass::Requeue,
        _ => match (code, known) {
            (None, _) | (_, Some(Meaning::Ambiguous)) => return None,
            _ => RefusalClass::Unrecognised,
        },
    };
    Some(match known {
        Some(Meaning::Refusal(class)) => class,
        _ => by_status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use RefusalClass::*;

    fn class(http: u16, body: &str) -> Option<RefusalClass> {
        match create(http, None, Ok(body.as_bytes())) {
            DialAnswer::Refused { class, .. } => Some(class),
            DialAnswer::Unknown { .. } => None,
            other => panic!("{http} {body}: {other:?}"),
        }
    }

    fn error(code: i64) -> String {
        format!(r#"{{"code":{code},"message":"m","more_info":"x","new_field":{{}}}}"#)
    }

    #[test]
    fn a_2xx_with_a_call_id_is_placed_and_without_one_unknown() {
        let sid = format!("CA{}", "aB09".repeat(8));
        let body = format!(r#"{{"sid":"{sid}","status":"queued","start_time":null,"news":[1]}}"#);
        let placed = DialAnswer::Placed { call_id: sid.clone(), carrier_status: "queued".into() };
        assert_eq!(create(201, None, Ok(body.as_bytes())), placed);
        for body in ["", "{}", "[]", "null", r#"{"sid":null}"#, r#"{"sid":""}"#, r#"{"sid":"CA12"}"#, "<html>"] {
            assert_eq!(class(201, body), None, "{body}");
        }
        let foreign = format!(r#"{{"sid":"SM{}"}}"#, "a".repeat(32));
        assert_eq!(class(201, &foreign), None);
        assert_eq!(class(200, &error(21211)), None);
        assert!(matches!(create(201, None, Err("cut")), DialAnswer::Unknown { .. }));
    }

    #[test]
    fn the_status_decides_before_the_code() {
        for http in [100, 300, 302, 307, 408, 500, 502, 503, 504, 599] {
            assert_eq!(class(http, &error(21211)), None, "{http}");
        }
        assert_eq!(class(429, &error(21211)), Some(BackOff));
        assert_eq!(class(401, &error(21211)), Some(StopAccount));
        assert_eq!(class(404, &error(20404)), Some(StopAccount));
        assert_eq!(class(403, &error(21215)), Some(StopDestination));
        assert_eq!(class(409, &error(20409)), Some(Requeue));
        assert_eq!(class(409, &error(10004)), Some(Requeue));
    }

    #[test]
    fn another_4xx_is_definite_only_with_the_carriers_error_body() {
        for (code, expected) in [
            (21211, LeadPermanent),
            (21217, LeadPermanent),
            (10004, Requeue),
            (22005, Requeue),
            (20003, StopAccount),
            (21212, StopRun),
            (21215, StopDestination),
            (21205, RequestBug),
            (77777, Unrecognised),
            (12100, Unrecognised),
            (21220, Unrecognised),
        ] {
            assert_eq!(class(400, &error(code)), Some(expected), "{code}");
        }
        for body in ["", "<html>bad request</html>", "{}", r#"{"code":"21211","message":"m"}"#, r#"{"message":"m"}"#] {
            assert_eq!(class(400, body), None, "{body}");
        }
        assert_eq!(class(400, &error(20500)), None);
        assert_eq!(class(400, r#"{"code":21211,"message":"m","status":500}"#), None);
        assert_eq!(class(422, r#"{"code":21211,"title":"t","detail":"d","status":422}"#), Some(LeadPermanent));
    }

    #[test]
    fn the_named_refusals_need_no_body() {
        for (http, expected) in
            [(401, StopAccount), (403, StopAccount), (404, StopAccount), (409, Requeue), (429, BackOff)]
        {
            assert_eq!(class(http, "<html>"), Some(expected), "{http}");
            assert!(matches!(create(http, None, Err("reset")), DialAnswer::Refused { code: None, .. }), "{http}");
        }
        assert!(matches!(create(400, None, Err("reset")), DialAnswer::Unknown { .. }));
    }

    #[test]
    fn the_carriers_words_never_hold_a_whole_number() {
        let body = br#"{"code":21211,"message":"The 'To' number +15558675310 is not valid, see 21211."}"#;
        let words = ErrorBody::parse(400, body).expect("an error body").message;
        assert_eq!(words, "The 'To' number +…5310 is not valid, see 21211.");
        assert_eq!(masked(&"é1".repeat(400)).chars().count(), 300);
    }
}
