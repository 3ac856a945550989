//! Calls that come in: who rings whom, and the commands that take such a call or turn it away.
//!
//! Source: Telnyx, "Answer call", "Reject a call" (SDK 4.189.0), and the schema of `call.initiated`. A call that came in is parked
//! until it is answered, and takes no other command before that.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;

use super::client::{Telnyx, repeats};
use super::list::spoken;
use super::mark;
use crate::carriers::CarrierError;
use crate::carriers::call::{Away, HangUp, PickUp};
use crate::carriers::dial::Speech;

/// What an event of a call that came in says beside what every event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// The number that was rung.
    pub ours: String,
    /// Whoever rings, as Telnyx writes it: a number, a SIP URI, or a word for a number that is hidden.
    pub theirs: String,
    /// False for a call that was made here, such as the other leg of one that was put through. Only the first event says so.
    pub incoming: bool,
    /// How far it is turned away, where it is.
    pub away: Option<Away>,
    /// The call that was put through by making this one, its other leg.
    pub leg_of: Option<String>,
}

/// Stands on the other leg of a call that is put through, before the call's id.
const LEG: &str = "~leg ";

/// What is written on the other leg of a call that is put through.
pub(super) fn on_leg_of(call_id: &str) -> String {
    BASE64_STANDARD.encode(format!("{LEG}{call_id}"))
}

#[derive(Deserialize)]
struct Envelope {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    payload: Payload,
}

#[derive(Deserialize, Default)]
struct Payload {
    from: Option<String>,
    to: Option<String>,
    direction: Option<String>,
    client_state: Option<String>,
}

/// Reads what [`super::webhook::read`] leaves out of an event; nothing where it is no event.
#[must_use]
pub fn rung(body: &[u8]) -> Option<Rung> {
    let Envelope { data: Data { payload } } = serde_json::from_slice(body).ok()?;
    let mark = mark(payload.client_state.as_deref());
    Some(Rung {
        ours: payload.to.unwrap_or_default(),
        theirs: payload.from.unwrap_or_default(),
        incoming: payload.direction.as_deref() == Some("incoming"),
        away: mark.as_deref().and_then(Away::read),
        leg_of: mark.as_deref().and_then(|mark| mark.strip_prefix(LEG)).map(str::to_owned),
    })
}

impl Telnyx<'_> {
    pub(in crate::carriers) async fn pick_up(
        &self,
        call_id: &str,
        pick_up: &PickUp<'_>,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        let mut body = json!({
            "client_state": BASE64_STANDARD.encode(pick_up.mark),
            "command_id": key,
            "webhook_retries_policies": repeats(&[]),
        });
        if let Some(url) = pick_up.tell_at {
            body["webhook_url"] = json!(url);
            body["webhook_url_method"] = json!("POST");
        }
        self.command(call_id, "answer", &body).await
    }

    /// The caller hears that the line is busy.
    pub(in crate::carriers) async fn reject(&self, call_id: &str, key: &str) -> Result<HangUp, CarrierError> {
        self.command(call_id, "reject", &json!({ "cause": "USER_BUSY", "command_id": key })).await
    }

    pub(in crate::carriers) async fn say_no_room(
        &self,
        call_id: &str,
        speech: &Speech,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        let mut body = spoken(speech, key);
        body["client_state"] = json!(BASE64_STANDARD.encode(Away::Said.mark()));
        self.command(call_id, "speak", &body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn of(payload: Value) -> Rung {
        rung(json!({ "data": { "event_type": "call.initiated", "payload": payload } }).to_string().as_bytes())
            .expect("an event")
    }

    #[test]
    fn an_event_says_who_rings_whom_and_how_far_it_is_turned_away() {
        let rings =
            of(json!({ "from": "+12125550177", "to": "+12055550100", "direction": "incoming", "state": "parked" }));
        let expected = Rung {
            ours: "+12055550100".to_owned(),
            theirs: "+12125550177".to_owned(),
            incoming: true,
            away: None,
            leg_of: None,
        };
        assert_eq!(rings, expected);
        assert!(!of(json!({ "direction": "outgoing" })).incoming && !of(json!({})).incoming);
        for away in [Away::Answered, Away::Said] {
            let state = BASE64_STANDARD.encode(away.mark());
            assert_eq!(of(json!({ "client_state": state })).away, Some(away));
        }
        for state in [json!(null), json!("%"), json!(BASE64_STANDARD.encode("a token"))] {
            assert_eq!(of(json!({ "client_state": state })).away, None, "{state}");
        }
        assert_eq!(of(json!({ "client_state": on_leg_of("v3:a") })).leg_of.as_deref(), Some("v3:a"));
        assert_eq!(rung(b"[]"), None);
    }
}
