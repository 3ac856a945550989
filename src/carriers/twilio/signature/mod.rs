//! `X-Twilio-Signature`: whether a request was written by Twilio for this URL.
//!
//! Source: Twilio, "Security", and the request validators of its SDKs. The signed text is the URL as Twilio
//! was given it (without its fragment) and, for forms, every distinct key and value, sorted and run together.
//! The URL is the configured public base with the raw path and query; never a Host or forwarded header.
//! A key and its value are not separated in that text, so a signature alone does not say where one ends: our
//! own token in the URL must fit, too.
//!
//! Invariant: a request that no given key signed is never believed, and none makes this panic.
//! Not here: whose keys to try, and what the request says.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::carriers::twilio::form::Form;

/// Name of the header that holds the signature.
pub const SIGNATURE_HEADER: &str = "x-twilio-signature";
/// Name of the header that says how it was made; mostly absent.
pub const SETTINGS_HEADER: &str = "x-twilio-webhooks-signature-settings";

/// What may have signed. Several of a kind while one is being replaced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys<'a> {
    /// Auth Tokens of the account: the primary one signs. Used with HMAC-SHA1.
    pub auth_tokens: &'a [SecretString],
    /// Secrets of shared keys, used with HMAC-SHA256. Empty where the account has none.
    pub shared_keys: &'a [SecretString],
}

/// What the request carried; pass what will be read afterwards.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// A form: what is signed are its decoded values.
    Form(&'a Form),
    /// JSON, undecoded; the URL holds its hash.
    Json(&'a [u8]),
    /// A GET, or the opening of a WebSocket.
    None,
}

/// Why a request is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The settings header asks for an algorithm that is not known.
    #[error("the signature's algorithm is not known")]
    Algorithm,
    /// The public URL is no URL. A fault of ours.
    #[error("the public URL is not a URL")]
    PublicUrl,
    /// The URL does not hold one `bodySHA256` that fits the body.
    #[error("the body does not fit its hash in the URL")]
    BodyHash,
    /// No key made this signature for this request.
    #[error("the signature does not fit")]
    Mismatch,
}

/// Whether `signature` (`SIGNATURE_HEADER`) fits. `settings` is `SETTINGS_HEADER`: without one, HMAC-SHA1 with
/// an Auth Token.
///
/// # Errors
/// When it does not. Nothing of the request may then be believed.
pub fn verify(
    keys: Keys<'_>,
    signature: &str,
    settings: Option<&str>,
    public_url: &str,
    body: Body<'_>,
) -> Result<(), SignatureError> {
    let algorithm = algorithm(settings)?;
    let secrets = match algorithm {
        Algorithm::Sha1 => keys.auth_tokens,
        Algorithm::Sha256 => keys.shared_keys,
    };
    let given = BASE64_STANDARD.decode(signature).map_err(|_| SignatureError::Mismatch)?;
    let urls = signed_urls(public_url).ok_or(SignatureError::PublicUrl)?;
    let fields = match body {
        Body::Form(form) => signed_fields(form),
        Body::Json(_) | Body::None => String::new(),
    };
    // An empty secret is a key that anybody has.
    let mut secrets = secrets.iter().map(|secret| secret.expose_secret().as_bytes()).filter(|key| !key.is_empty());
    if !secrets.any(|key| urls.iter().any(|url| fits(algorithm, key, &[url, &fields], &given))) {
        return Err(SignatureError::Mismatch);
    }
    match body {
        Body::Json(raw) if !body_hash_fits(public_url, raw) => Err(SignatureError::BodyHash),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Sha1,
    Sha256,
}

/// From e.g. `key=webhooks_sharedkey_x,algorithm=HMAC_SHA256`.
fn algorithm(settings: Option<&str>) -> Result<Algorithm, SignatureError> {
    let pairs = settings.unwrap_or_default().split(',').filter_map(|part| part.split_once('='));
    let named: Vec<&str> =
        pairs.filter(|(name, _)| name.trim() == "algorithm").map(|(_, value)| value.trim()).collect();
    match named.as_slice() {
        [] | ["HMAC_SHA1"] => Ok(Algorithm::Sha1),
        ["HMAC_SHA256"] => Ok(Algorithm::Sha256),
        _ => Err(SignatureError::Algorithm),
    }
}

fn fits(algorithm: Algorithm, key: &[u8], parts: &[&str], given: &[u8]) -> bool {
    match algorithm {
        Algorithm::Sha1 => fits_mac::<Hmac<Sha1>>(key, parts, given),
        Algorithm::Sha256 => fits_mac::<Hmac<Sha256>>(key, parts, given),
    }
}

/// Compares in constant time.
fn fits_mac<M: Mac + KeyInit>(key: &[u8], parts: &[&str], given: &[u8]) -> bool {
    <M as KeyInit>::new_from_slice(key).is_ok_and(|mut mac| {
        parts.iter().for_each(|part| mac.update(part.as_bytes()));
        mac.verify_slice(given).is_ok()
    })
}

/// Every distinct key and value, sorted by bytes. Empty values still lend their key.
fn signed_fields(form: &Form) -> String {
    let mut pairs: Vec<_> = form.pairs().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()
}

/// The ways in which Twilio may have written this URL when it signed it: with or without its port (dropped
/// over HTTPS, kept over HTTP), without its user and password, with an apostrophe of the query escaped.
fn signed_urls(url: &str) -> Option<Vec<String>> {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let (scheme, rest) = url.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host_port) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let (host, port) = match host_port.rsplit_once(':') {
        // The colons of an IPv6 address stand inside brackets.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (host_port, ""),
    };
    let port = match (port, scheme) {
        ("", "https" | "wss") => "443",
        ("", _) => "80",
        (given, _) => given,
    };
    let mut tails = vec![tail.to_owned()];
    if let Some((path, query)) = tail.split_once('?')
        && query.contains('\'')
    {
        tails.push(format!("{path}?{}", query.replace('\'', "%27")));
    }
    let mut urls = Vec::new();
    for tail in &tails {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            urls.push(format!("{scheme}://{host}{tail}"));
            if !user.is_empty() {
                urls.push(format!("{scheme}://{user}{host}{tail}"));
            }
        }
    }
    Some(urls)
}

/// Whether the one `bodySHA256` of the query is the hash of the raw body.
fn body_hash_fits(url: &str, raw: &[u8]) -> bool {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut hashes = query.split('&').filter_map(|pair| pair.strip_prefix("bodySHA256="));
    match (hashes.next().map(hex::decode), hashes.next()) {
        (Some(Ok(hash)), None) => bool::from(Sha256::digest(raw).as_slice().ct_eq(&hash)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
