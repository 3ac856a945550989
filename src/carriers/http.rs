//! How Rollcall talks HTTP to carriers: one client that does exactly what it is told, once.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Response, header};

/// Limits of the conversation with carriers. `Default` holds the values of production.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Time to connect, TLS included. Keep it well below every total limit: only what fails within it
    /// is known not to have been sent.
    pub connect: Duration,
    /// Time for one whole exchange that is not a dial.
    pub exchange: Duration,
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
            // Below the minute after which load balancers commonly drop a silent connection.
            idle: Duration::from_secs(30),
            idle_per_host: 64,
            answer_bytes: 64 * 1024,
            page_bytes: 2 * 1024 * 1024,
            page_size: 250,
            max_pages: 100,
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
