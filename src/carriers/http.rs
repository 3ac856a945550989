//! How Rollcall talks HTTP to carriers: one client that does exactly what it is told, once.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{RequestBuilder, Response, header};
use serde::de::DeserializeOwned;

use crate::carriers::{CarrierError, dial::DialAnswer};

/// Limits of the conversation with carriers. `Default` holds the values of production.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Time to connect, TLS included. Keep it well below every total limit: only what fails within it
    /// is known not to have been sent.
    pub connect: Duration,
    /// Time for one whole exchange that is not a dial.
    pub exchange: Duration,
    /// Time for a whole recording.
    pub download: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// Unused connections kept per host.
    pub idle_per_host: usize,
    /// Largest answer to a dial or hang-up, bytes.
    pub answer_bytes: usize,
    /// Largest page of a list, bytes. A row of Twilio's is about 2 KB.
    pub page_bytes: usize,
    /// Rows asked for per page (Twilio: 1 to 1000).
    pub page_size: u16,
    /// Pages read of one list before it counts as incomplete.
    pub max_pages: usize,
    /// Longest that a dial may be asked for again with the same name (Telnyx ignores doubles for 60 s).
    pub repeat_within: Duration,
    /// How the carrier is to repeat a status callback that we did not take.
    pub callback_tries: CallbackTries,
}

/// How often and how patiently the carrier sends one status callback.
#[derive(Debug, Clone)]
pub struct CallbackTries {
    /// Repeats after the first try (Twilio: 0 to 5).
    pub repeats: u8,
    /// Time for the carrier to connect to us (Twilio: 100 to 10,000 ms).
    pub connect: Duration,
    /// Time for us to answer (Twilio: 100 to 15,000 ms). Twilio stops 15 s after the first try, whatever is set.
    pub read: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            exchange: Duration::from_secs(10),
            download: Duration::from_secs(300),
            // Below the minute after which load balancers commonly drop a silent connection.
            idle: Duration::from_secs(30),
            idle_per_host: 64,
            answer_bytes: 64 * 1024,
            page_bytes: 2 * 1024 * 1024,
            page_size: 250,
            max_pages: 100,
            repeat_within: Duration::from_secs(30),
            callback_tries: CallbackTries {
                repeats: 5,
                connect: Duration::from_millis(1000),
                read: Duration::from_millis(2500),
            },
        }
    }
}

/// The client behind every request to a carrier: no proxy from the environment, no redirects, no repeats,
/// HTTP/1.1 with kept connections, rustls with ring.
///
/// A request that meets a kept connection which the other side has closed is put on another one only when
/// hyper hands it back unstarted; once its first byte may have left, it fails instead.
///
/// # Errors
/// When TLS cannot be set up, e.g. on a machine without root certificates.
pub fn http_client(limits: &HttpLimits) -> anyhow::Result<reqwest::Client> {
    // Fails only when this process has a provider already, which is then the one that is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(limits.connect)
        .pool_idle_timeout(limits.idle)
        .pool_max_idle_per_host(limits.idle_per_host)
        .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("the HTTP client for carriers cannot be built")
}

/// An answer to a dial: status, headers, and the body or why it could not be read whole.
pub(crate) type Answered = (u16, header::HeaderMap, Result<Vec<u8>, String>);

/// Sends a dial once. Without an answer, what is known then: not sent, or nobody knows.
pub(crate) async fn send_dial(
    request: RequestBuilder,
    time: Duration,
    limits: &HttpLimits,
) -> Result<Answered, DialAnswer> {
    match request.timeout(time).send().await {
        Ok(response) => {
            let (http, headers) = (response.status().as_u16(), response.headers().clone());
            Ok((http, headers, read_body(response, limits.answer_bytes).await))
        }
        // hyper calls an error one of connecting only while it has no connection to write on. A time-out
        // of the whole exchange is never one, even if it strikes while connecting.
        Err(error) if error.is_builder() || error.is_connect() => Err(DialAnswer::NotSent { why: describe(error) }),
        Err(error) => Err(DialAnswer::Unknown { why: describe(error) }),
    }
}

/// The carrier's code, and its words with numbers masked.
pub(crate) type CodeAndWords = (i64, String);

/// How a carrier writes its refusals.
#[derive(Clone, Copy)]
pub(crate) struct Refusals {
    /// Code and words of an error body with this HTTP status, if it is one of the carrier's.
    pub(crate) body: fn(u16, &[u8]) -> Option<CodeAndWords>,
    /// How long the carrier asks to wait.
    pub(crate) wait: fn(&header::HeaderMap) -> Option<Duration>,
}

/// One exchange that may be repeated: the body of a 2xx of at most `limit` bytes.
pub(crate) async fn exchange(
    request: RequestBuilder,
    limits: &HttpLimits,
    limit: usize,
    refusals: Refusals,
) -> Result<Vec<u8>, CarrierError> {
    let response = request
        .timeout(limits.exchange)
        .send()
        .await
        .map_err(|error| CarrierError::Unavailable { why: describe(error) })?;
    if !response.status().is_success() {
        return Err(refusal(response, limit, refusals).await);
    }
    read_body(response, limit).await.map_err(|why| CarrierError::Unreadable { why })
}

/// A body to be read as it comes; `None` where there is none. The time is for all of it.
pub(crate) async fn download(
    request: RequestBuilder,
    limits: &HttpLimits,
    refusals: Refusals,
) -> Result<Option<Response>, CarrierError> {
    let response = request
        .timeout(limits.download)
        .send()
        .await
        .map_err(|error| CarrierError::Unavailable { why: describe(error) })?;
    match response.status().as_u16() {
        200..=299 => Ok(Some(response)),
        404 | 410 => Ok(None),
        _ => Err(refusal(response, limits.answer_bytes, refusals).await),
    }
}

/// Why an answer that is not 2xx does not help.
async fn refusal(response: Response, limit: usize, refusals: Refusals) -> CarrierError {
    let http = response.status().as_u16();
    let wait = (refusals.wait)(response.headers());
    match http {
        401 | 403 => CarrierError::Unauthorized { http },
        429 => CarrierError::Busy { retry_after: wait },
        400..=499 => match read_body(response, limit).await.ok().and_then(|body| (refusals.body)(http, &body)) {
            Some((code, message)) => CarrierError::Refused { http, code, message },
            None => CarrierError::Unreadable { why: format!("HTTP {http} without the carrier's error body") },
        },
        _ => CarrierError::Unavailable { why: format!("HTTP {http}") },
    }
}

/// Reads a body as JSON of the carrier's documented shape.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CarrierError> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    // The path of the field, never its value: it may be a number to call.
    serde_path_to_error::deserialize(json)
        .map_err(|error| CarrierError::Unreadable { why: format!("at `{}`", error.path()) })
}

/// The body of an answer, read in pieces and given up beyond `limit` bytes.
pub(crate) async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(describe)? {
        if body.len() + piece.len() > limit {
            return Err(format!("the answer is longer than {limit} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// What went wrong, with its causes and without the URL: a list's names a phone number.
pub(crate) fn describe(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

/// How long `Retry-After` asks to wait (RFC 9110, section 10.2.3). A date is measured against the answer's
/// own `Date`, so that no clock of ours is asked; without one it is not understood.
pub(crate) fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(header::RETRY_AFTER)?;
    if !asked.is_empty() && asked.bytes().all(|b| b.is_ascii_digit()) {
        // No sum of times overflows by the largest wait that this can say, 136 years.
        return Some(Duration::from_secs(asked.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let now = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// `text` without whole phone numbers (of seven digits or more only the last four stay), cut to 300 characters.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(start);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (run, after) = digits.split_at(end);
        out.push_str(before);
        if run.len() >= 7 {
            out.push('…');
            out.push_str(&run[run.len() - 4..]);
        } else {
            out.push_str(run);
        }
        rest = after;
    }
    out.push_str(rest);
    out.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let secs = |pairs: &[_]| retry_after(&headers(pairs)).map(|d| d.as_secs());
        assert_eq!(secs(&[(header::RETRY_AFTER, "7")]), Some(7));
        assert_eq!(secs(&[(header::RETRY_AFTER, "99999999999999999999")]), Some(u32::MAX.into()));
        let date = (header::DATE, "Fri, 20 Nov 2026 17:30:00 GMT");
        assert_eq!(secs(&[(header::RETRY_AFTER, "Fri, 20 Nov 2026 17:30:09 GMT"), date.clone()]), Some(9));
        assert_eq!(secs(&[(header::RETRY_AFTER, "Fri, 20 Nov 2026 17:29:00 GMT"), date]), Some(0));
        assert_eq!(secs(&[(header::RETRY_AFTER, "Fri, 20 Nov 2026 17:30:09 GMT")]), None);
        assert_eq!(secs(&[(header::RETRY_AFTER, "-1")]), None);
        assert_eq!(secs(&[(header::RETRY_AFTER, "")]), None);
        assert_eq!(secs(&[]), None);
    }
}
