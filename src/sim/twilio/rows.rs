//! The Call resource and its pages as JSON. Nothing of the caller's URLs appears in a row.
use std::time::Instant;

use serde_json::{Value, json};

use crate::sim::{
    call::{Call, Status},
    clock::Stamp,
};

/// The answer to a create: dates are still null there (Twilio, AMD sample).
pub(crate) fn fresh(call: &Call) -> Value {
    let mut row = at(call, Instant::now());
    for name in ["date_created", "date_updated", "start_time", "end_time", "duration", "answered_by"] {
        row[name] = Value::Null;
    }
    row["status"] = json!("queued");
    // Captured creates say 0 where nothing was in the way; otherwise this is an estimate.
    row["queue_time"] = json!(call.queue_ms.to_string());
    row
}

/// A call as it was at a moment.
pub(crate) fn at(call: &Call, moment: Instant) -> Value {
    let status = call.status_at(moment).unwrap_or(Status::Queued);
    let date = |stamp: Option<Stamp>| stamp.map(Stamp::rfc2822);
    let created = call.history.first().map(|(stamp, _)| *stamp);
    let updated = call.history.iter().rev().find(|(stamp, _)| stamp.at <= moment).map(|(stamp, _)| *stamp);
    let ended = call.entered(moment, Status::is_final);
    let uri = format!("/{}/Accounts/{}/Calls/{}", super::API_VERSION, call.account, call.sid);
    json!({
        "sid": call.sid,
        "date_created": date(created),
        "date_updated": date(updated),
        "parent_call_sid": null,
        "account_sid": call.account,
        "to": call.dial.to,
        "to_formatted": formatted(&call.dial.to),
        "from": call.dial.from,
        "from_formatted": formatted(&call.dial.from),
        "phone_number_sid": null,
        "status": word(status),
        "start_time": date(started(call, moment)),
        "end_time": date(ended),
        "duration": ended.map(|_| call.talked_ms(moment).div_ceil(1000).to_string()),
        "price": null,
        "price_unit": "USD",
        "direction": super::status::direction(call),
        "answered_by": call.answered_by,
        "annotation": null,
        "api_version": super::API_VERSION,
        "forwarded_from": null,
        "group_sid": null,
        "caller_name": null,
        "queue_time": call.queue_ms.to_string(),
        "trunk_sid": "",
        "uri": format!("{uri}.json"),
        "subresource_uris": {
            "events": format!("{uri}/Events.json"),
            "notifications": format!("{uri}/Notifications.json"),
            "recordings": format!("{uri}/Recordings.json"),
            "streams": format!("{uri}/Streams.json"),
            "transcriptions": format!("{uri}/Transcriptions.json"),
            "siprec": format!("{uri}/Siprec.json"),
            "payments": format!("{uri}/Payments.json"),
            "user_defined_messages": format!("{uri}/UserDefinedMessages.json"),
            "user_defined_message_subscriptions": format!("{uri}/UserDefinedMessageSubscriptions.json"),
        },
    })
}

/// When dialing began; a call cancelled in the queue never has it.
pub(crate) fn started(call: &Call, moment: Instant) -> Option<Stamp> {
    call.entered(moment, |status| status == Status::Initiated)
}

/// The REST interface has no `initiated`: a call that is being dialed shows as ringing.
pub(crate) const fn word(status: Status) -> &'static str {
    match status {
        Status::Initiated => "ringing",
        other => other.word(),
    }
}

/// One page of a list. `base` is path and query without the page's own parameters.
pub(crate) struct Page<'a> {
    pub(crate) name: &'a str,
    pub(crate) rows: Vec<Value>,
    pub(crate) base: &'a str,
    pub(crate) number: u64,
    pub(crate) size: usize,
    /// Token of the page after this one, where there is one.
    pub(crate) next: Option<String>,
}

impl Page<'_> {
    /// The page as Twilio writes it; addresses are relative to the host.
    pub(crate) fn body(self) -> Value {
        let glue = if self.base.contains('?') { '&' } else { '?' };
        let address = |number: u64| format!("{}{glue}PageSize={}&Page={number}", self.base, self.size);
        let start = self.number * self.size as u64;
        json!({
            "first_page_uri": address(0),
            "next_page_uri": self.next.map(|token| format!("{}&PageToken={token}", address(self.number + 1))),
            "previous_page_uri": (self.number > 0).then(|| address(self.number - 1)),
            "page": self.number,
            "page_size": self.size,
            "start": start,
            "end": start + (self.rows.len() as u64).saturating_sub(1),
            "uri": address(self.number),
            (self.name): self.rows,
        })
    }
}

/// North American numbers as `(415) 555-0100`, others as they are.
fn formatted(number: &str) -> String {
    match number.strip_prefix("+1") {
        Some(rest) if rest.len() == 10 => format!("({}) {}-{}", &rest[..3], &rest[3..6], &rest[6..]),
        _ => number.to_owned(),
    }
}
