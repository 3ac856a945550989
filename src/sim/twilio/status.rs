//! What Twilio tells about a call: the form of a status callback, of the request for TwiML and of a
//! machine detection result (Twilio, call progress events).
use std::time::Instant;

use super::{
    dial::{Detection, Event, Hook, Kind},
    webhook::Parcel,
};
use crate::sim::{
    call::{Call, Status},
    callbacks::{Announcement, Parcel as AnyParcel},
    clock::Stamp,
    outcome::Outcome,
    world::World,
};

/// A callback that says what need not be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forged {
    /// `CallStatus` to report.
    pub status: Status,
    /// `SequenceNumber`; the next one when none.
    #[serde(default)]
    pub sequence: Option<u32>,
}

/// The callback for a state just entered, if the call's maker subscribed to it. Takes the next
/// sequence number: it counts the events sent, not the states passed.
pub(crate) fn announcement(call: &mut Call, status: Status, auth_token: String) -> Option<Announcement> {
    let order = call.dial.twilio()?;
    let hook = order.report.clone()?;
    if !order.events.contains(&Event::of(status)?) {
        return None;
    }
    let sequence = call.sequence;
    call.sequence += 1;
    Some(compose(call, hook, status, sequence, auth_token))
}

/// The callback for any state, whatever was subscribed to.
pub(crate) fn forge(call: &mut Call, forged: Forged, auth_token: String) -> Option<Announcement> {
    let hook = call.dial.twilio()?.report.clone()?;
    let sequence = forged.sequence.unwrap_or_else(|| {
        call.sequence += 1;
        call.sequence - 1
    });
    Some(compose(call, hook, forged.status, sequence, auth_token))
}

fn compose(call: &Call, hook: Hook, status: Status, sequence: u32, auth_token: String) -> Announcement {
    let mut form = fields(call, status);
    form.push(("Timestamp", Stamp::now().rfc2822()));
    form.push(("CallbackSource", "call-progress-events".to_owned()));
    form.push(("SequenceNumber", sequence.to_string()));
    if status.is_final() {
        let talked_ms = call.talked_ms(Instant::now());
        form.push(("CallDuration", (talked_ms.div_ceil(1000)).to_string()));
        // Billed minutes: every one that has begun.
        form.push(("Duration", talked_ms.div_ceil(60_000).to_string()));
        form.push(("SipResponseCode", call.sip.unwrap_or(status.usual_sip()).to_string()));
    }
    Announcement { parcel: AnyParcel::Twilio(Parcel::new(hook, form, auth_token)), status, sequence }
}

/// The request for TwiML, when the call was answered.
pub(crate) fn twiml_request(call: &Call, hook: Hook, auth_token: String) -> Parcel {
    // A call that comes in rings until its document says what to do.
    let mut form = fields(call, if call.dial.inbound { Status::Ringing } else { Status::InProgress });
    match call.dial.twilio().map(|order| &order.detection) {
        Some(Detection::Blocking(_)) => form.push(("MachineDetectionDuration", DETECTION_MS.to_owned())),
        // A detection beside the call is not told here.
        _ => form.retain(|(name, _)| *name != "AnsweredBy"),
    }
    Parcel::new(hook, form, auth_token)
}

/// The result of a detection that runs beside the call, if there is somebody to tell.
pub(crate) fn detection_result(call: &Call, auth_token: String) -> Option<Parcel> {
    let Detection::Beside(_, Some(hook)) = &call.dial.twilio()?.detection else { return None };
    let form = vec![
        ("CallSid", call.sid.clone()),
        ("AccountSid", call.account.clone()),
        ("AnsweredBy", call.answered_by.unwrap_or("unknown").to_owned()),
        ("MachineDetectionDuration", DETECTION_MS.to_owned()),
    ];
    Some(Parcel::new(hook.clone(), form, auth_token))
}

/// The callback that says that a recording is ready, where a URL was given.
pub(crate) fn recording_callback(call: &Call, recording: &str, world: &World) -> Option<Parcel> {
    let hook = call.dial.twilio()?.recording.clone()?;
    let form = vec![
        ("AccountSid", call.account.clone()),
        ("CallSid", call.sid.clone()),
        ("RecordingSid", recording.to_owned()),
        ("RecordingUrl", format!("https://api.twilio.com/2010-04-01/Accounts/{}/Recordings/{recording}", call.account)),
        ("RecordingStatus", "completed".to_owned()),
        ("RecordingDuration", call.talked_ms(Instant::now()).div_ceil(1000).to_string()),
        ("RecordingChannels", "2".to_owned()),
        ("RecordingSource", "OutboundAPI".to_owned()),
    ];
    Some(Parcel::new(hook, form, world.auth_token(&call.account).to_owned()))
}

/// What a detection is said to have taken.
const DETECTION_MS: &str = "2400";

/// Who answered, in Twilio's words, when detection was asked for.
pub(crate) fn answered_by(call: &Call) -> Option<&'static str> {
    let kind = match &call.dial.twilio()?.detection {
        Detection::Off => return None,
        Detection::Blocking(kind) | Detection::Beside(kind, _) => *kind,
    };
    Some(match (call.outcome, kind) {
        (Outcome::Machine, Kind::Enable) => "machine_start",
        (Outcome::Machine, Kind::DetectMessageEnd) => "machine_end_beep",
        (Outcome::Fax, _) => "fax",
        _ => "human",
    })
}

/// Who rings whom, in Twilio's word.
pub(super) fn direction(call: &Call) -> &'static str {
    if call.dial.inbound { "inbound" } else { "outbound-api" }
}

/// The fields that every request about a call carries.
fn fields(call: &Call, status: Status) -> Vec<(&'static str, String)> {
    let (to, from) = (&call.dial.to, &call.dial.from);
    let country = |number: &str| if number.starts_with("+1") { "US".to_owned() } else { String::new() };
    let mut form = vec![
        ("CallSid", call.sid.clone()),
        ("AccountSid", call.account.clone()),
        ("From", from.clone()),
        ("To", to.clone()),
        ("Caller", from.clone()),
        ("Called", to.clone()),
        ("CallStatus", status.word().to_owned()),
        ("ApiVersion", super::API_VERSION.to_owned()),
        ("Direction", direction(call).to_owned()),
    ];
    // Geography is often empty, and an empty value is signed like any other.
    for name in ["FromCity", "FromState", "FromZip", "ToCity", "ToState", "ToZip"] {
        form.push((name, String::new()));
    }
    for name in ["CallerCity", "CallerState", "CallerZip", "CalledCity", "CalledState", "CalledZip"] {
        form.push((name, String::new()));
    }
    form.push(("FromCountry", country(from)));
    form.push(("CallerCountry", country(from)));
    form.push(("ToCountry", country(to)));
    form.push(("CalledCountry", country(to)));
    if let Some(who) = call.answered_by {
        form.push(("AnsweredBy", who.to_owned()));
    }
    form
}
