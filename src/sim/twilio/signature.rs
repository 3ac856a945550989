//! `X-Twilio-Signature`: what is signed, and with what (Twilio, Security).
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Base64 of the HMAC-SHA1 over the URL followed by every distinct name and value in byte order.
/// `url` is taken as it is: see [`signed_url`].
#[must_use]
pub fn sign<N: AsRef<str>, V: AsRef<str>>(auth_token: &str, url: &str, form: &[(N, V)]) -> String {
    let mut pairs: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    pairs.sort_unstable();
    // A repeated value of one name counts once.
    pairs.dedup();
    // A key of any length is legal for an HMAC; the other arm cannot be reached.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(auth_token.as_bytes()) else { return String::new() };
    mac.update(url.as_bytes());
    for (name, value) in pairs {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The URL as Twilio signs it: without fragment and user info; the port goes with https and wss and
/// stays with http. Nothing else changes.
#[must_use]
pub fn signed_url(url: &str) -> String {
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if matches!(scheme, "https" | "wss") && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name
        }
        _ => host,
    };
    format!("{scheme}://{host}{path}")
}
