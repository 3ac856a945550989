//! Call events as Telnyx lists them, put together into calls.
//!
//! Source: Telnyx, "List call events". An item holds the name, the time and, in `metadata`, the raw event, whose wrapping is not
//! documented: the payload is taken from where one is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::list::PageMeta;
use super::{answered_by, end_of, end_of_answered, is_call_id, is_leaving, is_whole, mark};
use crate::carriers::CarrierError;
use crate::carriers::call::{AnsweredBy, CallState, CallView, Disposition};

/// One page of call events.
#[derive(Deserialize)]
pub(super) struct EventPage {
    pub(super) data: Vec<Event>,
    #[serde(default)]
    pub(super) meta: PageMeta,
}

/// One event of a call.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Event {
    name: String,
    event_timestamp: String,
    call_leg_id: Option<String>,
    #[serde(default)]
    metadata: Value,
}

impl Event {
    fn at(&self) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(&self.event_timestamp).ok().map(|at| at.to_utc())
    }

    /// A field of the raw event's payload.
    fn text(&self, name: &str) -> Option<&str> {
        let places = ["/payload", "/data/payload", "/event/payload", "/event/data/payload", ""];
        places.iter().find_map(|place| self.metadata.pointer(place)?.get(name)?.as_str())
    }

    /// The call, where the event names it: those of machines do not.
    fn call(&self) -> Option<&str> {
        self.text("call_control_id").filter(|id| is_call_id(id))
    }

    /// The leg, which belongs to one call only.
    fn leg(&self) -> Option<&str> {
        self.call_leg_id.as_deref().or_else(|| self.text("call_leg_id"))
    }

    fn sip(&self) -> Option<u16> {
        self.text("sip_hangup_cause")?.parse().ok()
    }
}

/// The calls that these events are of, each once, newest first.
///
/// # Errors
/// Where no event of a leg names its call, and one bears a mark as ours do: what a list does not show might be there all the same.
/// Without a mark it is a call of somebody else's, who may do on the same connection what we never do.
pub(super) fn calls(events: &[Event]) -> Result<Vec<CallView>, CarrierError> {
    let named = events.iter().filter_map(|event| event.leg().zip(event.call()));
    let of_leg: BTreeMap<&str, &str> = named.collect();
    let mut of: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        match event.call().or_else(|| of_leg.get(event.leg()?).copied()) {
            Some(id) => of.entry(id).or_default().push(event),
            None if mark(event.text("client_state")).is_some() => {
                return Err(CarrierError::Unreadable { why: format!("a {} event names no call", event.name) });
            }
            None => {}
        }
    }
    let mut views: Vec<CallView> = of.into_iter().map(|(id, events)| view(id, &events)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.created_at));
    Ok(views)
}

/// One call from its events, in whatever order they come.
pub(super) fn view(call_id: &str, events: &[&Event]) -> CallView {
    let named = |name: &str| events.iter().copied().find(|event| event.name == name);
    let text = |name: &str| events.iter().find_map(|event| event.text(name)).map(str::to_owned);
    let (initiated, answered, ended) = (named("call.initiated"), named("call.answered"), named("call.hangup"));
    let detected = events.iter().filter(|event| event.name.ends_with("detection.ended"));
    let by = detected.filter_map(|event| answered_by(event.text("result")?)).next_back();
    let beep = |event: &&Event| event.name.ends_with("greeting.ended");
    let said = |left: bool| {
        let whole = |event: &&&Event| event.name == "call.speak.ended" && is_whole(event.text("status"));
        events.iter().filter(whole).any(|event| is_leaving(event.text("client_state")) == left)
    };
    let at = |event: Option<&Event>| event.and_then(Event::at);
    let talked = at(ended).zip(at(answered)).map(|(end, begin)| (end - begin).num_seconds());
    CallView {
        call_id: call_id.to_owned(),
        state: state(initiated, answered, ended, by),
        to: text("to"),
        from: text("from"),
        // An incoming call of the same connection says so; what we made carries our mark.
        direction_outbound_api: text("direction").is_none_or(|direction| direction == "outgoing"),
        created_at: events.iter().filter_map(|event| event.at()).min(),
        started_at: at(initiated),
        ended_at: at(ended),
        duration_secs: talked.and_then(|secs| u32::try_from(secs).ok()),
        answered_by: by,
        price: None,
        currency: None,
        // An event that shows none leaves open whose call it is.
        marks: text("client_state").map(|state| mark(Some(&state)).into_iter().collect()),
        speech_over: said(false),
        greeting_over: events.iter().copied().any(|event| beep(&event)),
        message_left: said(true),
        raw_status: text("hangup_cause")
            .unwrap_or_else(|| if answered.is_some() { "answered" } else { "initiated" }.to_owned()),
    }
}

fn state(
    initiated: Option<&Event>,
    answered: Option<&Event>,
    ended: Option<&Event>,
    by: Option<AnsweredBy>,
) -> Option<CallState> {
    match (ended, answered, initiated) {
        (Some(ended), answered, _) => {
            let end = end_of(ended.text("hangup_cause").unwrap_or_default(), ended.sip());
            let was_answered = answered.is_some() || end.disposition == Disposition::Answered;
            Some(CallState::Ended(if was_answered { end_of_answered(by) } else { end.disposition }))
        }
        (None, Some(_), _) => Some(CallState::Answered),
        (None, None, Some(_)) => Some(CallState::Initiated),
        (None, None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(call: &str, name: &str, at: &str, payload: Value) -> Event {
        let mut payload = payload;
        payload["call_control_id"] = json!(call);
        let item = json!({
            "record_type": "call_event", "call_leg_id": format!("leg of {call}"), "call_session_id": "s", "type": "webhook", "name": name,
            "event_timestamp": format!("2026-11-20T17:{at}.127783Z"), "metadata": { "payload": payload },
        });
        serde_json::from_value(item).expect("an event")
    }

    fn one(mut events: Vec<Event>) -> CallView {
        events.reverse();
        let mut views = calls(&events).expect("calls");
        assert_eq!(views.len(), 1);
        views.remove(0)
    }

    #[test]
    fn a_call_is_what_its_events_say_in_any_order() {
        let initiated =
            event("v3:a", "call.initiated", "30:00", json!({ "to": "+1", "from": "+2", "client_state": "dA==" }));
        let answered = event("v3:a", "call.answered", "30:05", json!({}));
        let cleared = event("v3:a", "call.hangup", "30:25", json!({ "hangup_cause": "normal_clearing" }));
        let machine = event("v3:a", "call.machine.detection.ended", "30:07", json!({ "result": "machine" }));
        let view = one(vec![initiated.clone(), answered.clone(), cleared.clone()]);
        assert_eq!(view.state, Some(CallState::Ended(Disposition::Answered)));
        assert_eq!((view.duration_secs, view.to.as_deref()), (Some(20), Some("+1")));
        assert_eq!(view.marks, Some(vec!["t".to_owned()]));
        let view = one(vec![initiated.clone(), answered.clone(), machine, cleared.clone()]);
        assert_eq!(view.state, Some(CallState::Ended(Disposition::Machine)));
        let with_sip = json!({ "hangup_cause": "normal_clearing", "sip_hangup_cause": "200" });
        let cleared_with_sip = event("v3:a", "call.hangup", "30:25", with_sip);
        let unanswered = one(vec![initiated.clone(), cleared_with_sip]);
        assert_eq!(unanswered.state, Some(CallState::Ended(Disposition::NoAnswer)), "nobody is known to have answered");
        assert_eq!(one(vec![initiated.clone(), cleared]).state, Some(CallState::Ended(Disposition::NoAnswer)));
        assert_eq!(one(vec![initiated.clone(), answered]).state, Some(CallState::Answered));
        assert_eq!(one(vec![initiated]).state, Some(CallState::Initiated));
    }

    #[test]
    fn calls_are_kept_apart_and_an_event_that_names_none_is_of_the_call_of_its_leg() {
        let busy = json!({ "hangup_cause": "user_busy", "sip_hangup_cause": "486" });
        let events = [event("v3:a", "call.initiated", "30:00", json!({})), event("v3:b", "call.hangup", "31:00", busy)];
        let views = calls(&events).expect("calls");
        let states: Vec<_> = views.iter().map(|view| (view.call_id.as_str(), view.state)).collect();
        let busy = Some(CallState::Ended(Disposition::Busy));
        assert_eq!(states, [("v3:b", busy), ("v3:a", Some(CallState::Initiated))]);
        assert_eq!(views[0].marks, None, "it shows no mark, so that it may be anybody's");
        // As in each example of Telnyx' of such an event.
        let mut machine = event(
            "v3:a",
            "call.machine.detection.ended",
            "30:07",
            json!({ "result": "machine", "client_state": "dA==" }),
        );
        machine.metadata["payload"].as_object_mut().expect("a payload").remove("call_control_id");
        let answered = event("v3:a", "call.answered", "30:05", json!({}));
        for events in [[machine.clone(), answered.clone()], [answered, machine.clone()]] {
            let views = calls(&events).expect("calls");
            let seen: Vec<_> = views.iter().map(|view| (view.call_id.as_str(), view.answered_by)).collect();
            assert_eq!(seen, [("v3:a", Some(AnsweredBy::Machine))]);
        }
        // A leg that nothing names: it may be ours where it bears a mark, and is nobody's we know where it bears none.
        assert!(calls(std::slice::from_ref(&machine)).is_err());
        machine.metadata = json!({});
        assert_eq!(calls(&[machine]).expect("calls"), []);
    }
}
