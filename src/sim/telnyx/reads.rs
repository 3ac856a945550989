//! Reading calls: the status of one, the active ones of a connection, and events.
use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, header},
};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    Refusal, authenticate,
    commands::find,
    events::{is_of, item, rfc3339, seen},
    key, struck,
};
use crate::sim::{
    Shared,
    call::{Call, Status},
    faults::{ApiFault, Faults, Rule, Subject, draw},
    world::Live,
};

type Here = State<Arc<Shared>>;
type Answer = Result<Json<Value>, Refusal>;

/// Telnyx's largest page.
const MAX_PAGE: usize = 250;

/// `GET /calls/{id}`: whether it lives, and no more.
pub(crate) async fn fetch(State(shared): Here, Path(sid): Path<String>, headers: HeaderMap) -> Answer {
    let id = find(&shared, &sid, &headers)?;
    fault(&shared, |faults| &mut faults.fetch)?;
    let world = shared.world();
    let call = world.call(id);
    let order = call.dial.telnyx().ok_or_else(Refusal::not_found)?;
    let now = Instant::now();
    let ended = call.entered(now, Status::is_final);
    let mut data = json!({
        "record_type": "call", "call_control_id": call.sid, "call_leg_id": order.leg, "call_session_id": order.session,
        "client_state": order.client_state, "is_alive": ended.is_none() && call.status() != Status::Queued,
        "call_duration": call.talked_ms(now) / 1000, "start_time": call.history.first().map(|(stamp, _)| rfc3339(*stamp)),
    });
    if let Some(ended) = ended {
        data["end_time"] = json!(rfc3339(ended));
    }
    Ok(Json(json!({ "data": data })))
}

/// `GET /connections/{connection}/active_calls`, as things stood a lag ago.
pub(crate) async fn active_calls(
    State(shared): Here,
    Path(connection): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    authenticate(&shared, &connection, &headers)?;
    fault(&shared, |faults| &mut faults.list)?;
    let query = Query::read(query);
    let size =
        if query.get("page[limit]").is_some() { query.size("page[limit]")? } else { query.size("page[size]")? };
    let skipped = (query.number("page[number]")? - 1) * size;
    let mut world = shared.world();
    let moment = shared.seen_at(&world.faults);
    let ids = world.candidates(&connection, None, Live::Only, moment);
    let below = query.get("page[after]").and_then(|after| world.find(after));
    let live =
        |call: &Call| call.dial.telnyx().is_some() && call.status_at(moment).is_some_and(|status| !status.is_final());
    let fitting = ids.into_iter().filter(|id| below.is_none_or(|below| *id < below)).map(|id| world.call(id));
    let fitting: Vec<&Call> = fitting.filter(|call| live(call)).collect();
    let total = fitting.len();
    let shown: Vec<&Call> = fitting.into_iter().skip(skipped).take(size).collect();
    let more = skipped + shown.len() < total;
    let after = shown.last().filter(|_| more).map(|call| call.sid.clone());
    let rows: Vec<Value> = shown
        .iter()
        .filter_map(|call| {
            let order = call.dial.telnyx()?;
            Some(json!({
                "record_type": "call", "call_control_id": call.sid, "call_leg_id": order.leg, "call_session_id": order.session,
                "client_state": order.client_state, "call_duration": 0,
            }))
        })
        .collect();
    let next = after.as_ref().map(|after| format!("/v2/connections/{connection}/active_calls?page[after]={after}"));
    // Telnyx's description shows cursors, its SDKs count pages.
    let meta = json!({
        "total_items": total, "cursors": { "after": after, "before": null }, "next": next, "previous": null,
        "page_number": skipped / size + 1, "page_size": size, "total_pages": total.div_ceil(size).max(1), "total_results": total,
    });
    Ok(Json(json!({ "data": rows, "meta": meta })))
}

/// `GET /call_events`, newest first, with the list's lag.
pub(crate) async fn call_events(State(shared): Here, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let key = key(&headers)?;
    let query = Query::read(query);
    fault(&shared, |faults| if query.get("filter[leg_id]").is_some() { &mut faults.fetch } else { &mut faults.list })?;
    let (size, number) = (query.size("page[size]")?, query.number("page[number]")?);
    let world = shared.world();
    let moment = shared.seen_at(&world.faults);
    let is = |name: &str, value: &str| query.get(name).is_none_or(|wish| wish == value);
    let time = |name: &str| query.get(&format!("filter[occurred_at][{name}]"));
    let calls = world.calls.iter().rev().filter(|call| {
        world.auth_token(&call.account) == key
            && is("filter[connection_id]", &call.account)
            && is("filter[to]", &call.dial.to)
            && is("filter[from]", &call.dial.from)
            && is_of(call, query.get("filter[leg_id]"), query.get("filter[application_session_id]"))
    });
    let mut rows = Vec::new();
    for call in calls {
        let fitting = seen(call, moment).filter(|event| {
            let at = rfc3339(event.at);
            // Both are UTC in one format, so that the texts compare as the times do.
            is("filter[name]", event.name)
                && is("filter[type]", "webhook")
                && time("gte").is_none_or(|since| at.as_str() >= since)
                && time("lt").is_none_or(|until| at.as_str() < until)
        });
        rows.extend(fitting.map(|event| item(call, event)));
    }
    let (total, pages) = (rows.len(), rows.len().div_ceil(size).max(1));
    let page: Vec<Value> = rows.into_iter().skip((number - 1) * size).take(size).collect();
    let meta = json!({ "page_number": number, "page_size": size, "total_pages": pages, "total_results": total });
    Ok(Json(json!({ "data": page, "meta": meta })))
}

/// `GET /recordings`: of a connection and a number; one page is all.
pub(crate) async fn recordings(State(shared): Here, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let query = Query::read(query);
    let connection = query.get("filter[connection_id]").unwrap_or_default().to_owned();
    authenticate(&shared, &connection, &headers)?;
    fault(&shared, |faults| &mut faults.list)?;
    let to = query.get("filter[to]");
    let world = shared.world();
    let ours = world
        .recordings
        .iter()
        .map(|kept| (kept, world.call(kept.call)))
        .filter(|(_, call)| call.account == connection && to.is_none_or(|to| to == call.dial.to));
    let rows: Vec<Value> = ours
        .map(|(kept, call)| {
            json!({
                "record_type": "recording", "id": kept.id, "call_control_id": call.sid, "connection_id": call.account,
                "channels": "dual", "status": "completed", "duration_millis": call.talked_ms(Instant::now()),
            })
        })
        .collect();
    let meta = json!({ "page_number": 1, "page_size": rows.len(), "total_pages": 1, "total_results": rows.len() });
    Ok(Json(json!({ "data": rows, "meta": meta })))
}

/// `GET /recordings/{id}`: where the sound is, at the address that the client asked at.
pub(crate) async fn recording(State(shared): Here, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).ok_or_else(Refusal::not_found)?;
    Ok(Json(json!({ "data": saved(&shared, &id, &headers, host)? })))
}

/// `DELETE /recordings/{id}`: the recording as it was.
pub(crate) async fn delete_recording(State(shared): Here, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let data = saved(&shared, &id, &headers, "")?;
    shared.delete_recording(&id);
    Ok(Json(json!({ "data": data })))
}

/// A recording of the account whose key this is.
fn saved(shared: &Shared, id: &str, headers: &HeaderMap, host: &str) -> Result<Value, Refusal> {
    let key = key(headers)?;
    fault(shared, |faults| &mut faults.fetch)?;
    let kept = shared.kept(id).ok_or_else(Refusal::not_found)?;
    let world = shared.world();
    let call = world.call(kept.call);
    if world.auth_token(&call.account) != key {
        return Err(Refusal::not_found());
    }
    Ok(json!({
        "record_type": "recording", "id": kept.id, "call_control_id": call.sid, "connection_id": call.account,
        "channels": "dual", "status": "completed", "download_urls": { "mp3": format!("http://{host}/_recordings/{id}") },
    }))
}

/// The fault of a kind of read.
fn fault(shared: &Shared, rules: impl Fn(&mut Faults) -> &mut Vec<Rule<ApiFault>>) -> Result<(), Refusal> {
    let mut world = shared.world();
    let world = &mut *world;
    let rule = draw(rules(&mut world.faults), Subject::default(), &mut world.random);
    struck(rule.map(|rule| (rule.kind, rule.retry_after_secs)))
}

/// The parameters of a question.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: Option<String>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &'static str) -> Result<usize, Refusal> {
        match self.get(name).map(str::parse) {
            None => Ok(1),
            Some(Ok(number @ 1..)) => Ok(number),
            Some(_) => Err(Refusal::new(400, 10015, format!("{name} is not a number"))),
        }
    }

    fn size(&self, name: &'static str) -> Result<usize, Refusal> {
        match self.get(name).map(str::parse) {
            None => Ok(20),
            Some(Ok(size @ 1..=MAX_PAGE)) => Ok(size),
            Some(_) => Err(Refusal::new(400, 10015, format!("{name} is not within 1 and {MAX_PAGE}"))),
        }
    }
}
