//! What Telnyx tells of a call: the event of each state, those of commands, and all of them as a list.
use std::time::Instant;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::webhook::Parcel;
use crate::sim::{
    call::{Call, Status},
    callbacks::{self, Announcement},
    clock::Stamp,
    twilio::Forged,
};

/// Events of a machine name their leg and session and not their call (Telnyx' OpenAPI description, in each of its examples).
const OF_A_MACHINE: &str = "call.machine.";

/// One event of a call.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(super) name: &'static str,
    pub(super) at: Stamp,
    pub(super) payload: Value,
}

/// The event of a state just entered. Telnyx tells nothing of ringing.
pub(crate) fn announcement(call: &mut Call, status: Status) -> Option<Announcement> {
    let (name, more) = of_status(call, status)?;
    event(call, status, name, more)
}

/// The event of any state, whether or not the call is in it. It does not count as one of the call's.
pub(crate) fn forge(call: &mut Call, forged: Forged) -> Option<Announcement> {
    let known = call.events.len();
    let (name, more) = of_status(call, forged.status)?;
    let announcement = event(call, forged.status, name, more);
    call.events.truncate(known);
    announcement
}

/// Any event of a call; it is one of the call's from now on, and told where a URL was given.
pub(crate) fn event(
    call: &mut Call,
    status: Status,
    name: &'static str,
    more: Map<String, Value>,
) -> Option<Announcement> {
    let order = call.dial.telnyx()?;
    let mut payload = Map::from_iter([
        ("call_control_id".to_owned(), json!(call.sid)),
        ("connection_id".to_owned(), json!(call.account)),
        ("call_leg_id".to_owned(), json!(order.leg)),
        ("call_session_id".to_owned(), json!(order.session)),
        ("client_state".to_owned(), json!(order.client_state)),
        ("from".to_owned(), json!(call.dial.from)),
        ("to".to_owned(), json!(call.dial.to)),
    ]);
    payload.extend(more);
    if name.starts_with(OF_A_MACHINE) {
        payload.remove("call_control_id");
    }
    let event = Event { name, at: Stamp::now(), payload: Value::Object(payload) };
    let parcel = order.webhook_url.clone().map(|url| Parcel {
        url,
        pauses_ms: order.retries.get(name).map(|policy| pauses(&policy["retries_ms"])),
        body: body(&event),
    });
    call.events.push(event);
    let sequence = call.sequence;
    call.sequence += 1;
    Some(Announcement { parcel: callbacks::Parcel::Telnyx(parcel?), status, sequence })
}

fn pauses(list: &Value) -> Vec<u64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// The envelope of API version 2, but for `meta`, which counts the tries.
fn body(event: &Event) -> Value {
    json!({
        "record_type": "event", "event_type": event.name, "id": Uuid::new_v4(), "occurred_at": rfc3339(event.at),
        "payload": event.payload,
    })
}

pub(super) fn rfc3339(at: Stamp) -> String {
    at.wall.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn of_status(call: &Call, status: Status) -> Option<(&'static str, Map<String, Value>)> {
    let start = call.history.first().map(|(stamp, _)| rfc3339(*stamp));
    let fields = |more: &[(&str, Value)]| {
        let start = ("start_time".to_owned(), json!(start));
        Map::from_iter(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain([start]))
    };
    Some(match status {
        Status::Queued | Status::Ringing => return None,
        Status::Initiated => {
            let (direction, state) = if call.dial.inbound { ("incoming", "parked") } else { ("outgoing", "bridging") };
            ("call.initiated", fields(&[("direction", json!(direction)), ("state", json!(state))]))
        }
        Status::InProgress => ("call.answered", fields(&[("state", json!("answered"))])),
        _ => {
            let (cause, source) = cause(call, status);
            let sip = match call.sip.unwrap_or(status.usual_sip()) {
                0 => "unspecified".to_owned(),
                code => code.to_string(),
            };
            let end = [
                ("state", json!("hangup")),
                ("hangup_cause", json!(cause)),
                ("hangup_source", json!(source)),
                ("sip_hangup_cause", json!(sip)),
                ("call_quality_stats", Value::Null),
            ];
            ("call.hangup", fields(&end))
        }
    })
}

/// Why a call ended, and who ended it.
fn cause(call: &Call, status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Completed if call.notes.iter().any(|note| note == "time limit") => ("time_limit", "unknown"),
        Status::Completed => ("normal_clearing", "callee"),
        Status::Busy => ("user_busy", "callee"),
        Status::Canceled => ("originator_cancel", "caller"),
        Status::Failed if call.sip == Some(404) || call.sip.is_none() => ("not_found", "unknown"),
        Status::Failed => ("call_rejected", "unknown"),
        _ => ("no_answer", "unknown"),
    }
}

/// Whether a call answers to an id of its leg or session.
pub(super) fn is_of(call: &Call, leg: Option<&str>, session: Option<&str>) -> bool {
    let Some(order) = call.dial.telnyx() else { return false };
    leg.is_none_or(|leg| leg == order.leg.to_string()) && session.is_none_or(|id| id == order.session.to_string())
}

/// An event as a list shows it.
pub(super) fn item(call: &Call, event: &Event) -> Value {
    let order = call.dial.telnyx();
    json!({
        "record_type": "call_event", "type": "webhook", "name": event.name, "event_timestamp": rfc3339(event.at),
        "call_leg_id": order.map(|order| order.leg), "call_session_id": order.map(|order| order.session),
        "metadata": { "event_type": event.name, "occurred_at": rfc3339(event.at), "payload": event.payload },
    })
}

/// The events that a list shows as things stood at a moment.
pub(super) fn seen(call: &Call, moment: Instant) -> impl Iterator<Item = &Event> {
    call.events.iter().filter(move |event| event.at.at <= moment)
}
