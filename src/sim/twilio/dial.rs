//! A create request as Twilio reads it: which parameters there are, and the code for each bad one.
use std::time::Duration;

use url::Url;

use super::Refusal;
use crate::sim::{call::Status, dial::Dial};

/// Every parameter of `POST …/Calls.json` (Twilio, Call resource; SDK 9.13.0).
const KNOWN: [&str; 40] = [
    "To",
    "From",
    "Url",
    "Twiml",
    "ApplicationSid",
    "Method",
    "FallbackUrl",
    "FallbackMethod",
    "StatusCallback",
    "StatusCallbackEvent",
    "StatusCallbackMethod",
    "SendDigits",
    "Timeout",
    "TimeLimit",
    "Record",
    "RecordingChannels",
    "RecordingStatusCallback",
    "RecordingStatusCallbackMethod",
    "RecordingStatusCallbackEvent",
    "RecordingTrack",
    "RecordingConfigurationId",
    "Trim",
    "SipAuthUsername",
    "SipAuthPassword",
    "MachineDetection",
    "MachineDetectionTimeout",
    "MachineDetectionSpeechThreshold",
    "MachineDetectionSpeechEndThreshold",
    "MachineDetectionSilenceTimeout",
    "AsyncAmd",
    "AsyncAmdStatusCallback",
    "AsyncAmdStatusCallbackMethod",
    "CallerId",
    "CallReason",
    "CallToken",
    "Byoc",
    "ClientNotificationUrl",
    "Passports",
    "Channel",
    "CallerName",
];

/// Twilio's own default for `TimeLimit` is four hours.
const TIME_LIMIT_SECS: u64 = 4 * 3600;

/// What only Twilio's create asks for.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) script: Script,
    pub(crate) fallback: Option<Hook>,
    pub(crate) report: Option<Hook>,
    pub(crate) events: Vec<Event>,
    pub(crate) detection: Detection,
    pub(crate) record: bool,
    pub(crate) recording: Option<Hook>,
    /// All parameters, as received.
    pub(crate) form: Vec<(String, String)>,
}

/// Where the words of the call come from.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    Fetch(Hook),
    Inline(String),
    /// An application's URL is set in Twilio's console, which the sandbox has not.
    Application,
}

/// A URL that the carrier calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) method: Method,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// A progress event that can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Initiated,
    Ringing,
    Answered,
    Completed,
}

/// Answering machine detection.
#[derive(Debug, Clone)]
pub(crate) enum Detection {
    Off,
    /// Before the words are fetched.
    Blocking(Kind),
    /// Beside the call, with a callback of its own.
    Beside(Kind, Option<Hook>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Enable,
    DetectMessageEnd,
}

impl Event {
    /// The event that reports a state; none for `queued`.
    pub(crate) const fn of(status: Status) -> Option<Self> {
        match status {
            Status::Queued => None,
            Status::Initiated => Some(Self::Initiated),
            Status::Ringing => Some(Self::Ringing),
            Status::InProgress => Some(Self::Answered),
            _ => Some(Self::Completed),
        }
    }
}

/// Reads a form, or says what Twilio would refuse it with.
pub(crate) fn read(form: Vec<(String, String)>) -> Result<Dial, Refusal> {
    let get = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let given = |name: &str| get(name).filter(|value| !value.is_empty());
    let to = given("To").ok_or_else(|| Refusal::parameter(21201, "No 'To' number is specified"))?;
    let from = given("From").ok_or_else(|| Refusal::parameter(21213, "No 'From' number is specified"))?;
    if !is_callable(to) || to == from {
        return Err(Refusal::parameter(21211, format!("Invalid 'To' Phone Number: {to}")));
    }
    if !is_callable(from) {
        return Err(Refusal::parameter(21212, format!("Invalid 'From' Number: {from}")));
    }
    let hook = |url: &str, method: &str, code: u32| match given(url) {
        Some(text) => {
            Ok(Some(Hook { url: web_address(url, text, code)?, method: http_method(method, given(method))? }))
        }
        None => http_method(method, given(method)).map(|_| None),
    };
    let application = given("ApplicationSid");
    let main = hook("Url", "Method", 21205)?;
    let script = match (application, main, given("Twiml")) {
        (Some(sid), ..) if super::is_sid("AP", sid) => Script::Application,
        (Some(_), ..) => return Err(Refusal::parameter(21218, "Invalid ApplicationSid")),
        (None, Some(hook), _) => Script::Fetch(hook),
        (None, None, Some(twiml)) if twiml.chars().count() > 4000 => {
            return Err(Refusal::parameter(20001, "Twiml is longer than 4000 characters"));
        }
        (None, None, Some(twiml)) => Script::Inline(twiml.to_owned()),
        (None, None, None) => return Err(Refusal::parameter(21205, "Url, Twiml or ApplicationSid is required")),
    };
    if given("SendDigits").is_some_and(|digits| digits.len() > 32 || digits.contains(|c| !is_digit_to_send(c))) {
        return Err(Refusal::parameter(21206, "Invalid SendDigits"));
    }
    let fallback = hook("FallbackUrl", "FallbackMethod", 21205)?;
    let report = hook("StatusCallback", "StatusCallbackMethod", 21609)?;
    let ring = seconds("Timeout", given("Timeout"), 1..=600, 21208)?.unwrap_or(60);
    let talk = seconds("TimeLimit", given("TimeLimit"), 1..=86_400, 20001)?.unwrap_or(TIME_LIMIT_SECS);
    let recording = hook("RecordingStatusCallback", "RecordingStatusCallbackMethod", 21205)?;
    let record = given("Record") == Some("true");
    let beside = hook("AsyncAmdStatusCallback", "AsyncAmdStatusCallbackMethod", 21205)?;
    // An application overrides the callbacks of the request.
    let report = report.filter(|_| application.is_none());
    let token = report.as_ref().and_then(|hook| token_of(&hook.url));
    let (to, from) = (to.to_owned(), from.to_owned());
    let order = Order {
        script,
        fallback: fallback.filter(|_| application.is_none()),
        report,
        events: events(&form)?,
        detection: detection(given("MachineDetection"), given("AsyncAmd"), given("SendDigits"), beside)?,
        record,
        recording,
        form,
    };
    Ok(Dial {
        to,
        from,
        ring_limit: Duration::from_secs(ring),
        time_limit: Duration::from_secs(talk),
        token,
        order: crate::sim::dial::Order::Twilio(order),
        inbound: false,
    })
}

/// A call from somebody to a number of an account whose voice URL and status callback are `url`.
pub(crate) fn inbound(from: &str, to: &str, url: &str) -> Dial {
    let hook = Hook { url: url.to_owned(), method: Method::Post };
    let order = Order {
        script: Script::Fetch(hook.clone()),
        fallback: None,
        report: Some(hook),
        events: vec![Event::Completed],
        detection: Detection::Off,
        record: false,
        recording: None,
        form: Vec::new(),
    };
    Dial {
        to: to.to_owned(),
        from: from.to_owned(),
        ring_limit: Duration::from_secs(60),
        time_limit: Duration::from_secs(TIME_LIMIT_SECS),
        token: None,
        order: crate::sim::dial::Order::Twilio(order),
        inbound: true,
    }
}

/// Names that Twilio would not know, each once. Case matters.
pub(crate) fn unknown_parameters(form: &[(String, String)]) -> Vec<String> {
    let mut names: Vec<String> =
        form.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())).map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The last segment of a URL's path, without query and fragment.
pub(crate) fn token_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.path_segments()?.next_back().filter(|segment| !segment.is_empty()).map(str::to_owned)
}

fn is_digit_to_send(c: char) -> bool {
    c.is_ascii_digit() || "ABCD#*wW".contains(c)
}

/// E.164, or a SIP or client address.
fn is_callable(address: &str) -> bool {
    match address.strip_prefix('+') {
        Some(digits) => {
            (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
        }
        None => ["sip:", "client:"].iter().any(|scheme| address.starts_with(scheme) && address.len() > scheme.len()),
    }
}

fn web_address(name: &str, text: &str, code: u32) -> Result<String, Refusal> {
    let usable = Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.contains('_'))
    });
    if usable {
        Ok(text.to_owned())
    } else {
        Err(Refusal::parameter(code, format!("{name} is not a valid URL: {text}")))
    }
}

fn http_method(name: &str, value: Option<&str>) -> Result<Method, Refusal> {
    match value.map(str::to_ascii_uppercase).as_deref() {
        None | Some("POST") => Ok(Method::Post),
        Some("GET") => Ok(Method::Get),
        Some(other) => Err(Refusal::parameter(21209, format!("{name} is not GET or POST: {other}"))),
    }
}

fn seconds(
    name: &str,
    value: Option<&str>,
    range: std::ops::RangeInclusive<u64>,
    code: u32,
) -> Result<Option<u64>, Refusal> {
    let Some(text) = value else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(seconds) if range.contains(&seconds) => Ok(Some(seconds)),
        _ => Err(Refusal::parameter(code, format!("{name} is not a number of seconds that can be used: {text}"))),
    }
}

/// Only `completed` unless the request names events.
fn events(form: &[(String, String)]) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::new();
    for (_, value) in form.iter().filter(|(name, _)| name == "StatusCallbackEvent") {
        events.push(match value.as_str() {
            "initiated" => Event::Initiated,
            "ringing" => Event::Ringing,
            "answered" => Event::Answered,
            "completed" => Event::Completed,
            other => return Err(Refusal::parameter(21626, format!("Invalid StatusCallbackEvent: {other}"))),
        });
    }
    Ok(if events.is_empty() { vec![Event::Completed] } else { events })
}

fn detection(
    wish: Option<&str>,
    aside: Option<&str>,
    send_digits: Option<&str>,
    hook: Option<Hook>,
) -> Result<Detection, Refusal> {
    let kind = match wish {
        Some("Enable") => Kind::Enable,
        Some("DetectMessageEnd") => Kind::DetectMessageEnd,
        None => return Ok(Detection::Off),
        Some(other) => return Err(Refusal::parameter(20001, format!("Invalid MachineDetection: {other}"))),
    };
    Ok(match (send_digits, aside) {
        // Twilio ignores the wish when digits are to be sent.
        (Some(_), _) => Detection::Off,
        (None, Some("true")) => Detection::Beside(kind, hook),
        (None, _) => Detection::Blocking(kind),
    })
}
