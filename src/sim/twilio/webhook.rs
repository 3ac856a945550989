//! One request to the caller's server: signed, with time limits, and tried again as Twilio would
//! (Twilio, Connection Overrides).
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Client, header};
use tokio::time::Instant;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{
    dial::{Hook, Method},
    signature::{sign, signed_url},
};

/// Voice stops 15 s after the first try, whatever the overrides say.
const CEILING: Duration = Duration::from_secs(15);
/// TwiML may be 64 kB; one byte more shows that it is too long.
const LONGEST_BODY: usize = 64 * 1024 + 1;
/// Twilio does not say how long it waits between tries; doubling from here survives a short restart.
const FIRST_GAP: Duration = Duration::from_millis(100);

/// A request ready to go. The idempotency token stays the same over retries and doubles.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    hook: Hook,
    form: Vec<(&'static str, String)>,
    auth_token: String,
    idempotency_token: String,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) tries: u32,
    pub(crate) outcome: Result<Answer, String>,
}

/// An answer of the caller's server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// At most one byte more than TwiML may have.
    pub(crate) body: Vec<u8>,
}

/// Time limits and retries, from the defaults and the URL's fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overrides {
    connect_ms: u64,
    read: Duration,
    total: Duration,
    retries: u32,
    on: Vec<Trouble>,
}

/// Why a try may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Connect,
    Read,
    ClientError,
    ServerError,
}

impl Overrides {
    /// Reads `#rc=5&rp=all&ct=1000&rt=2500&tt=9000`; values out of range are moved into it, and what
    /// is not understood is left out.
    pub(crate) fn of(url: &str) -> Self {
        let mut overrides = Self {
            connect_ms: 5000,
            read: Duration::from_secs(15),
            total: CEILING,
            retries: 1,
            on: vec![Trouble::Connect],
        };
        let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
        for (key, value) in form_urlencoded::parse(fragment.as_bytes()) {
            let number = value.parse::<u64>().ok();
            match (key.as_ref(), number) {
                ("ct", Some(ms)) => overrides.connect_ms = ms.clamp(100, 10_000),
                ("rt", Some(ms)) => overrides.read = Duration::from_millis(ms.clamp(100, 15_000)),
                ("tt", Some(ms)) => overrides.total = Duration::from_millis(ms.clamp(100, 15_000)),
                ("rc", Some(times)) => overrides.retries = u32::try_from(times.min(5)).unwrap_or(5),
                ("rp", _) => overrides.on = value.split(',').flat_map(troubles).collect(),
                _ => {}
            }
        }
        overrides
    }
}

fn troubles(policy: &str) -> Vec<Trouble> {
    match policy {
        "ct" => vec![Trouble::Connect],
        "rt" => vec![Trouble::Read],
        "4xx" => vec![Trouble::ClientError],
        "5xx" => vec![Trouble::ServerError],
        "all" => vec![Trouble::Connect, Trouble::Read, Trouble::ClientError, Trouble::ServerError],
        _ => Vec::new(),
    }
}

impl Parcel {
    pub(crate) fn new(hook: Hook, form: Vec<(&'static str, String)>, auth_token: String) -> Self {
        Self { hook, form, auth_token, idempotency_token: Uuid::new_v4().to_string() }
    }

    /// The URL to call, the body to send, and the signature over both.
    fn wrap(&self) -> Result<(Url, String, String), String> {
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.form).finish();
        let mut signed = signed_url(&self.hook.url);
        let mut target = Url::parse(&self.hook.url).map_err(|error| error.to_string())?;
        target.set_fragment(None);
        if self.hook.method == Method::Post {
            let signature = sign(&self.auth_token, &signed, &self.form);
            return Ok((target, encoded, signature));
        }
        // A GET carries its parameters in the query, where the signed URL has them already.
        signed.push(if signed.contains('?') { '&' } else { '?' });
        signed.push_str(&encoded);
        let query = target.query().map_or(encoded.clone(), |query| format!("{query}&{encoded}"));
        target.set_query(Some(&query));
        let signature = sign::<&str, &str>(&self.auth_token, &signed, &[]);
        Ok((target, String::new(), signature))
    }
}

/// The sender: one pooled client for each connect limit in use. No proxy from the environment.
#[derive(Debug, Default)]
pub(crate) struct Post {
    clients: Mutex<HashMap<u64, Client>>,
}

impl Post {
    /// Sends a parcel, with its retries, within its time.
    pub(crate) async fn send(&self, parcel: &Parcel) -> Receipt {
        let overrides = Overrides::of(&parcel.hook.url);
        let deadline = Instant::now() + overrides.total.min(CEILING);
        let wrapped = parcel.wrap().and_then(|wrapped| Ok((wrapped, self.client(overrides.connect_ms)?)));
        let ((url, body, signature), client) = match wrapped {
            Ok(ready) => ready,
            Err(error) => return Receipt { tries: 0, outcome: Err(error) },
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let limit = (overrides.read + Duration::from_millis(overrides.connect_ms))
                .min(deadline.saturating_duration_since(Instant::now()));
            let request = match parcel.hook.method {
                Method::Get => client.get(url.clone()),
                Method::Post => client
                    .post(url.clone())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
                    .body(body.clone()),
            };
            let request = request
                .header("X-Twilio-Signature", &signature)
                .header("I-Twilio-Idempotency-Token", &parcel.idempotency_token)
                .timeout(limit);
            let (outcome, trouble) = attempt(request).await;
            let gap = FIRST_GAP * 2u32.pow(tries - 1);
            let again = trouble.is_some_and(|trouble| overrides.on.contains(&trouble)) && tries <= overrides.retries;
            if !again || Instant::now() + gap >= deadline {
                return Receipt { tries, outcome };
            }
            tokio::time::sleep(gap).await;
        }
    }

    pub(crate) fn client(&self, connect_ms: u64) -> Result<Client, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&connect_ms) {
            return Ok(client.clone());
        }
        crate::sim::wire::provide_tls();
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_millis(connect_ms))
            .user_agent("TwilioProxy/1.1")
            .build()
            .map_err(|error| error.to_string())?;
        clients.insert(connect_ms, client.clone());
        Ok(client)
    }
}

async fn attempt(request: reqwest::RequestBuilder) -> (Result<Answer, String>, Option<Trouble>) {
    match read(request).await {
        Ok(answer) => {
            let trouble = match answer.status {
                400..500 => Some(Trouble::ClientError),
                500..600 => Some(Trouble::ServerError),
                _ => None,
            };
            (Ok(answer), trouble)
        }
        Err(error) => {
            let trouble = if error.is_connect() { Trouble::Connect } else { Trouble::Read };
            (Err(reason(&error)), Some(trouble))
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let mut response = request.send().await?;
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut answer = Answer {
        status: response.status().as_u16(),
        content_type: content_type.unwrap_or_default().to_owned(),
        body: Vec::new(),
    };
    while let Some(chunk) = response.chunk().await? {
        let room = LONGEST_BODY - answer.body.len();
        answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.body.len() == LONGEST_BODY {
            break;
        }
    }
    Ok(answer)
}

/// The innermost cause: the outer layers only repeat the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_fragment_has_the_documented_defaults() {
        let defaults = Overrides::of("https://a.example/x");
        assert_eq!((defaults.connect_ms, defaults.retries), (5000, 1));
        assert_eq!((defaults.read, defaults.total), (CEILING, CEILING));
        assert_eq!(defaults.on, [Trouble::Connect]);
    }

    #[test]
    fn overrides_are_read_moved_into_their_range_and_else_left_alone() {
        let set = Overrides::of("https://a.example/x?rc=0#rc=9&rp=rt,5xx,tea&ct=1&rt=2500&tt=99999&sni=y&e=dublin");
        assert_eq!((set.connect_ms, set.retries), (100, 5));
        assert_eq!((set.read, set.total), (Duration::from_millis(2500), CEILING));
        assert_eq!(set.on, [Trouble::Read, Trouble::ServerError]);
        assert_eq!(Overrides::of("https://a.example/#rc=x&ct=-1"), Overrides::of("https://a.example/"));
    }

    #[test]
    fn a_get_carries_its_form_in_the_query_that_is_signed() {
        let hook = Hook { url: "http://a.example:81/x?y=1#rc=1".to_owned(), method: Method::Get };
        let (url, body, signature) = Parcel::new(hook, vec![("To", "+1 2".to_owned())], "t".to_owned()).wrap().unwrap();
        assert_eq!((url.as_str(), &*body), ("http://a.example:81/x?y=1&To=%2B1+2", ""));
        assert_eq!(signature, sign::<&str, &str>("t", url.as_str(), &[]));
    }
}
