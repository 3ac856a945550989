//! What a business may be set to: names, regions, zones, numbers, URLs. Pure.
//!
//! Not here: where a value came from (the door adds its pointer), and numbers as people spell them (`leads`).

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Host, Url};

use crate::{country::Country, ids::Carrier};

/// Most calls at once of one business, as the schema has it.
pub const MAX_LIMIT: i64 = 10_000;
/// Most caller ids of one account.
pub const MAX_CALLER_IDS: usize = 1_000;

/// Why a value does not fit: a word for programs and a sentence for people.
pub type Fault = (&'static str, String);

/// A name for people, 1 to 200 characters, without the blanks around it.
///
/// # Errors
/// Where it is empty, too long, or has control characters.
pub fn name(text: &str) -> Result<String, Fault> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 200 {
        return Err(("invalid_length", "must have 1 to 200 characters".into()));
    }
    if text.chars().any(char::is_control) {
        return Err(("invalid_characters", "must not have control characters".into()));
    }
    Ok(text.to_owned())
}

/// Free text of at most `most` characters.
///
/// # Errors
/// Where it is longer.
pub fn free_text(text: &str, most: usize) -> Result<(), Fault> {
    if text.chars().count() > most {
        return Err(("invalid_length", format!("must have at most {most} characters")));
    }
    Ok(())
}

/// A whole number of calls at once.
///
/// # Errors
/// Where it is not from 1 to 10000.
pub fn limit(calls: i64) -> Result<i32, Fault> {
    let fits = i32::try_from(calls).ok().filter(|calls| (1..=MAX_LIMIT).contains(&i64::from(*calls)));
    fits.ok_or_else(|| ("out_of_range", format!("must be from 1 to {MAX_LIMIT}")))
}

/// Most calls from one number, at once or in a day.
///
/// # Errors
/// Where it is below 1.
pub fn most_calls(calls: i32) -> Result<(), Fault> {
    if calls >= 1 { Ok(()) } else { Err(("out_of_range", "must be 1 or more, or null for no limit".into())) }
}

/// For how many days something is kept.
///
/// # Errors
/// Where it is not from 1 to 3650.
pub fn days(days: i32) -> Result<(), Fault> {
    if (1..=3_650).contains(&days) { Ok(()) } else { Err(("out_of_range", "must be from 1 to 3650".into())) }
}

/// A region that has phone numbers (ISO 3166-1 alpha-2, as libphonenumber knows them).
///
/// # Errors
/// Where there is none of that name.
pub fn region(code: &str) -> Result<(), Fault> {
    if code.parse::<Country>().is_ok() {
        Ok(())
    } else {
        Err(("invalid_region", "must be a country by its two capital letters, such as US".into()))
    }
}

/// The list of countries that may be called: null is all.
///
/// # Errors
/// With the place in the list where a country is unknown or comes twice; without one where the list is empty.
pub fn countries(codes: &[String]) -> Result<(), (Option<usize>, Fault)> {
    if codes.is_empty() {
        return Err((None, ("empty", "must name a country, or be null for all".into())));
    }
    for (at, code) in codes.iter().enumerate() {
        region(code).map_err(|fault| (Some(at), fault))?;
        if codes[..at].contains(code) {
            return Err((Some(at), ("duplicate", "is in the list already".into())));
        }
    }
    Ok(())
}

/// An IANA time zone.
///
/// # Errors
/// Where there is none of that name.
pub fn time_zone(text: &str) -> Result<(), Fault> {
    match text.parse::<chrono_tz::Tz>() {
        Ok(_) => Ok(()),
        Err(_) => Err(("invalid_time_zone", "must be an IANA time zone, such as America/New_York".into())),
    }
}

/// A number in E.164: `+`, then up to 15 digits of which the first is not 0 (ITU-T E.164).
///
/// # Errors
/// Where it is written in another way.
pub fn e164(text: &str) -> Result<(), Fault> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let fits =
        (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if fits { Ok(()) } else { Err(("invalid_number", "must be in E.164, such as +12025550123".into())) }
}

/// What numbers begin with, to suppress all of them: `+`, then up to 14 digits of which the first is not 0.
///
/// # Errors
/// Where it is written in another way.
pub fn prefix(text: &str) -> Result<(), Fault> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let fits =
        (1..=14).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if fits { Ok(()) } else { Err(("invalid_prefix", "must be + and 1 to 14 digits, such as +1900".into())) }
}

/// A web address that people may open: http or https, at most 2000 characters.
///
/// # Errors
/// Where it is something else.
pub fn link(text: &str) -> Result<(), Fault> {
    let fits = text.len() <= 2_000 && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if fits {
        Ok(())
    } else {
        Err(("invalid_url", "must be an http or https address of at most 2000 characters".into()))
    }
}

/// Numbers to call from.
///
/// # Errors
/// With the place in the list where a number does not fit or comes twice; without one where there are none or too many.
pub fn caller_ids(numbers: &[String]) -> Result<(), (Option<usize>, Fault)> {
    if !(1..=MAX_CALLER_IDS).contains(&numbers.len()) {
        return Err((None, ("invalid_length", format!("must have 1 to {MAX_CALLER_IDS} numbers"))));
    }
    let mut seen = std::collections::HashSet::new();
    for (at, number) in numbers.iter().enumerate() {
        e164(number).map_err(|fault| (Some(at), fault))?;
        if !seen.insert(number) {
            return Err((Some(at), ("duplicate", "is in the list already".into())));
        }
    }
    Ok(())
}

/// Calls created per second.
///
/// # Errors
/// Where it is not above 0 and at most 10000.
pub fn calls_per_second(rate: f64) -> Result<(), Fault> {
    if rate > 0.0 && rate <= 10_000.0 {
        Ok(())
    } else {
        Err(("out_of_range", "must be above 0 and at most 10000".into()))
    }
}

/// The carriers of a business, in the order in which they are tried.
///
/// # Errors
/// Where there is none, or one comes twice.
pub fn carriers(list: &[Carrier]) -> Result<(), Fault> {
    let each_once = list.iter().enumerate().all(|(at, carrier)| !list[..at].contains(carrier));
    if !list.is_empty() && each_once { Ok(()) } else { Err(("invalid_value", "must name each carrier once".into())) }
}

/// Twilio's AccountSid: `AC` and 32 hex digits (Twilio, Account resource).
///
/// # Errors
/// Where it is something else.
pub fn account_sid(text: &str) -> Result<(), Fault> {
    let hex = text.strip_prefix("AC").unwrap_or_default();
    let fits = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(()) } else { Err(("invalid_account_sid", "must be AC and 32 hex digits".into())) }
}

/// A Telnyx connection (Call Control application) id: digits.
///
/// # Errors
/// Where it is something else.
pub fn connection_id(text: &str) -> Result<(), Fault> {
    let fits = (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { Ok(()) } else { Err(("invalid_connection_id", "must be the digits of the application's id".into())) }
}

/// An Ed25519 public key: 32 bytes in base64.
///
/// # Errors
/// Where it is something else.
pub fn public_key(text: &str) -> Result<(), Fault> {
    let fits = STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
    if fits { Ok(()) } else { Err(("invalid_public_key", "must be 32 bytes in base64, as the portal shows it".into())) }
}

/// A secret that travels in an HTTP header: 1 to 256 visible ASCII characters.
///
/// # Errors
/// Where it is something else; the text never shows the secret.
pub fn secret(text: &str) -> Result<(), Fault> {
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(()) } else { Err(("invalid_secret", "must be 1 to 256 visible ASCII characters".into())) }
}

/// Where a carrier's API is, without its trailing slash. Credentials travel in clear text over http, so that is for this
/// machine only.
///
/// # Errors
/// Where it is no http(s) URL, has a query, fragment or user, or is http to another machine.
pub fn base_url(text: &str) -> Result<String, Fault> {
    let fault = |detail: &str| ("invalid_url", detail.to_owned());
    let url = Url::parse(text).map_err(|_| fault("must be a URL, such as https://api.example.com"))?;
    if !matches!(url.scheme(), "http" | "https") || text.len() > 2_000 {
        return Err(fault("must be http:// or https:// and at most 2000 characters long"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(fault("must have no query, fragment or user"));
    }
    let this_machine = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err(fault("must name a host")),
    };
    if url.scheme() == "http" && !this_machine {
        return Err(fault("must be https:// unless the host is this machine, because credentials travel over it"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_travel_unencrypted_on_this_machine_only() {
        for good in ["http://127.0.0.1:9099", "http://localhost/x", "http://[::1]:1", "https://api.example.com/"] {
            assert_eq!(base_url(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "http://example.com",
            "ftp://127.0.0.1",
            "https://a.example/?x=1",
            "https://u:p@a.example",
            "x",
            "http://127.0.0.1.example.com",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_regions_that_exist_are_taken() {
        for good in ["US", "DE", "GB", "IN", "ZA"] {
            region(good).unwrap();
        }
        for bad in ["", "us", "XX", "USA", "ZZ", "001"] {
            assert!(region(bad).is_err(), "{bad}");
        }
        assert_eq!(countries(&["US".into(), "CA".into(), "US".into()]).unwrap_err().0, Some(2));
    }

    #[test]
    fn numbers_limits_and_rates_keep_to_their_ranges() {
        for bad in ["", "+", "12025550123", "+0123", "+1202555012x", "+1234567890123456"] {
            assert!(e164(bad).is_err(), "{bad}");
        }
        e164("+12025550123").unwrap();
        for bad in [0, -1, 10_001, i64::MAX] {
            assert!(limit(bad).is_err());
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 10_000.1] {
            assert!(calls_per_second(bad).is_err());
        }
        assert!(time_zone("Mars/Base").is_err());
        time_zone("America/New_York").unwrap();
    }
}
