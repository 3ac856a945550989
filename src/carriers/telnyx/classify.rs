//! What an answer to `POST /calls` proves.
//!
//! A refusal is definite only where the HTTP status says so (401, 403, 404, 409, 429), or where another 4xx except 408 carries
//! Telnyx's own error body: a proxy's 4xx proves nothing about what Telnyx has done.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::codes::{self, Meaning};
use super::is_call_id;
use crate::carriers::dial::{DialAnswer, RefusalClass};
use crate::carriers::http::{masked, retry_after};

/// What the answer to a dial says for the state, in our own word: Telnyx has none.
const TAKEN: &str = "dialed";
/// Values of `x-ratelimit-reset` above this are Unix times, not seconds to wait: the documentation shows both.
const EPOCH: u64 = 1_000_000_000;

/// One error of Telnyx's `{"errors":[…]}`: the one that decides, where there are several.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// Telnyx's error code.
    pub(super) code: i64,
    /// The field that it is about, e.g. `/to`.
    pub(super) pointer: Option<String>,
    /// Its words, numbers masked, at most 300 characters.
    pub(super) message: String,
}

#[derive(Deserialize)]
struct RawErrors {
    errors: Vec<RawError>,
}

#[derive(Deserialize)]
struct RawError {
    code: String,
    title: Option<String>,
    #[serde(alias = "description")]
    detail: Option<String>,
    source: Option<RawSource>,
}

#[derive(Deserialize)]
struct RawSource {
    pointer: Option<String>,
}

impl ErrorBody {
    /// The error body of an answer, if it is one of Telnyx's.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let raw: RawErrors = serde_json::from_slice(body).ok()?;
        let read = |error: RawError| {
            let words = error.detail.or(error.title).unwrap_or_default();
            let pointer = error.source.and_then(|source| source.pointer);
            Some(Self { code: error.code.parse().ok()?, pointer, message: masked(&words) })
        };
        let mut errors: Vec<Self> = raw.errors.into_iter().filter_map(read).collect();
        let known = errors.iter().position(|error| codes::meaning(error.code).is_some()).unwrap_or(0);
        (known < errors.len()).then(|| errors.swap_remove(known))
    }
}

/// How long the answer asks to wait: `Retry-After`, or `x-ratelimit-reset` in seconds or as a Unix time, which is measured
/// against the answer's own `Date`.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    if let Some(asked) = retry_after(headers) {
        return Some(asked);
    }
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let reset: u64 = text("x-ratelimit-reset")?.parse().ok()?;
    if reset <= EPOCH {
        return Some(Duration::from_secs(reset));
    }
    let now = httpdate::parse_http_date(text("date")?).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(reset.saturating_sub(now.as_secs())))
}

/// What is known after an answer with this status and body. A body that could not be read whole is an error text.
pub(super) fn create(http: u16, retry_after: Option<Duration>, body: Result<&[u8], &str>) -> DialAnswer {
    match http {
        200..=299 => placed(http, body),
        400..=499 => refused(http, retry_after, body),
        _ => DialAnswer::Unknown { why: format!("HTTP {http}") },
    }
}

#[derive(Deserialize)]
struct Created {
    data: CreatedCall,
}

#[derive(Deserialize)]
struct CreatedCall {
    call_control_id: String,
}

fn placed(http: u16, body: Result<&[u8], &str>) -> DialAnswer {
    let unknown = |why: &str| DialAnswer::Unknown { why: format!("HTTP {http} without a call id: {why}") };
    match body.map(serde_json::from_slice::<Created>) {
        Ok(Ok(Created { data })) if is_call_id(&data.call_control_id) => {
            DialAnswer::Placed { call_id: data.call_control_id, carrier_status: TAKEN.to_owned() }
        }
        Ok(Ok(_)) => unknown("its `call_control_id` is none"),
        Ok(Err(_)) => unknown("its body is not a call"),
        Err(why) => unknown(why),
    }
}

fn refused(http: u16, retry_after: Option<Duration>, body: Result<&[u8], &str>) -> DialAnswer {
    let error = body.ok().and_then(ErrorBody::parse);
    let code = error.as_ref().map(|error| error.code);
    match refusal_class(http, error.as_ref()) {
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
fn refusal_class(http: u16, error: Option<&ErrorBody>) -> Option<RefusalClass> {
    let known = error.and_then(|error| codes::meaning(error.code));
    // Definite whatever the body says, with what the status alone would mean.
    let by_status = match http {
        408 => return None,
        // Rejected, not queued. No code makes it worse than a wait (10011 means something else under 422).
        429 => return Some(RefusalClass::BackOff),
        // About the credentials or the path, never about the lead.
        401 | 404 => return Some(RefusalClass::StopAccount),
        403 => RefusalClass::StopAccount,
        409 => RefusalClass::Requeue,
        _ => match (error, known) {
            (None, _) | (_, Some(Meaning::Ambiguous)) => return None,
            _ => RefusalClass::Unrecognised,
        },
    };
    // The field that is wrong says more than the code: our number, the lead's, or the account's own application.
    match error.and_then(|error| error.pointer.as_deref()) {
        Some("/from") => return Some(RefusalClass::StopRun),
        Some("/connection_id") => return Some(RefusalClass::StopAccount),
        Some("/to") if error.is_some_and(|error| error.code == codes::NUMBER_FORMAT) => {
            return Some(RefusalClass::LeadPermanent);
        }
        _ => {}
    }
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
        format!(r#"{{"errors":[{{"code":"{code}","title":"t","detail":"d","meta":{{"url":"x"}}}}]}}"#)
    }

    fn about(code: i64, pointer: &str) -> String {
        format!(r#"{{"errors":[{{"code":"{code}","title":"t","source":{{"pointer":"{pointer}"}}}}]}}"#)
    }

    #[test]
    fn the_status_decides_before_the_code() {
        assert_eq!(class(429, &error(10011)), Some(BackOff));
        assert_eq!(class(429, &error(90103)), Some(BackOff));
        assert_eq!(class(429, "<html>"), Some(BackOff));
        assert_eq!(class(422, &about(10011, "/media_encryption")), Some(RequestBug));
        assert_eq!(class(401, &error(10009)), Some(StopAccount));
        assert_eq!(class(404, &error(10005)), Some(StopAccount));
        assert_eq!(class(403, "<html>"), Some(StopAccount));
        assert_eq!(class(409, &error(10036)), Some(Requeue));
        assert_eq!(class(408, &error(10016)), None);
    }

    #[test]
    fn limits_go_back_whatever_the_status_of_the_refusal() {
        for code in [90041, 90042, 90043] {
            for http in [400, 403, 422] {
                assert_eq!(class(http, &error(code)), Some(Requeue), "{http} {code}");
            }
            assert_eq!(class(429, &error(code)), Some(BackOff));
            assert_eq!(class(503, &error(code)), None);
        }
    }

    #[test]
    fn the_field_that_is_wrong_says_whose_fault_it_is() {
        assert_eq!(class(422, &about(10016, "/to")), Some(LeadPermanent));
        assert_eq!(class(422, &about(10016, "/from")), Some(StopRun));
        assert_eq!(class(422, &about(10015, "/connection_id")), Some(StopAccount));
        assert_eq!(class(422, &about(10015, "/webhook_url")), Some(RequestBug));
        assert_eq!(class(422, &error(77777)), Some(Unrecognised));
    }

    #[test]
    fn what_is_not_a_refusal_of_the_carriers_own_is_unknown() {
        for (http, body) in [
            (400, "<html>bad request</html>"),
            (422, r#"{"errors":[]}"#),
            (422, r#"{"errors":[{"title":"no code"}]}"#),
            (400, r#"{"code":21211,"message":"another carrier's"}"#),
            (422, &error(10007)),
            (500, &error(10007)),
            (503, &error(10037)),
            (302, ""),
            (200, r#"{"data":{}}"#),
            (200, r#"{"data":{"call_control_id":""}}"#),
            (200, "<html>"),
        ] {
            assert_eq!(class(http, body), None, "{http} {body}");
        }
    }

    #[test]
    fn of_several_errors_the_first_that_is_known_decides() {
        let body = br#"{"errors":[{"code":"1","title":"x"},{"code":"20100","title":"no funds"}]}"#;
        let error = ErrorBody::parse(body).expect("an error");
        assert_eq!((error.code, error.message.as_str()), (20100, "no funds"));
    }

    #[test]
    fn the_wait_is_seconds_or_a_time() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let secs = |pairs: &[_]| wait(&headers(pairs)).map(|d| d.as_secs());
        assert_eq!(secs(&[("x-ratelimit-reset", "3")]), Some(3));
        let date = ("date", "Fri, 20 Nov 2026 17:30:00 GMT");
        assert_eq!(secs(&[("x-ratelimit-reset", "1795195809"), date]), Some(9));
        assert_eq!(secs(&[("x-ratelimit-reset", "1795195809")]), None);
        assert_eq!(secs(&[("retry-after", "7"), ("x-ratelimit-reset", "3")]), Some(7));
        assert_eq!(secs(&[]), None);
    }
}
