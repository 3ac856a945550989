//! Reading and ending calls: list, fetch, events, update.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    Refusal, authenticate,
    dial::{Hook, Method, Script},
    filter::Filter,
    rows::{self, Page},
};
use crate::sim::{
    Shared,
    call::{Call, CallId, Status},
    faults::{ApiFault, Faults, Rule, Subject, draw},
    recording::sound,
    world::Live,
};

type Here = State<Arc<Shared>>;

/// `GET …/Calls.json`, newest first, as things stood a lag ago.
pub(crate) async fn list(
    State(shared): Here,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.list)?;
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let filter = Filter::read(&query)?;
    let mut world = shared.world();
    let moment = shared.seen_at(&world.faults);
    let live = if filter.only_live() { Live::Only } else { Live::AndEnded };
    let candidates = world.candidates(&account, filter.to.as_deref(), live, moment);
    let below = match &filter.page_token {
        Some(sid) => Some(world.find(sid).ok_or_else(|| Refusal::parameter(20001, "Unknown PageToken"))?),
        None => None,
    };
    let mut fitting = candidates
        .into_iter()
        .filter(|id| below.is_none_or(|below| *id < below))
        .map(|id| world.call(id))
        .filter(|call| filter.fits(call, moment));
    let shown: Vec<&Call> = fitting.by_ref().take(filter.page_size).collect();
    let next = match (shown.last(), fitting.next()) {
        (Some(last), Some(_)) => Some(format!("PA{}", last.sid)),
        _ => None,
    };
    let rows = shown.into_iter().map(|call| rows::at(call, moment)).collect();
    let base = filter.address(&format!("/{}/Accounts/{account}/Calls.json", super::API_VERSION));
    let page = Page { name: "calls", rows, base: &base, number: filter.page, size: filter.page_size, next };
    Ok(Json(page.body()))
}

/// `GET …/Calls/{sid}.json`.
pub(crate) async fn fetch(
    State(shared): Here,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.fetch)?;
    let id = find(&shared, &account, &file)?;
    let row = rows::at(shared.world().call(id), Instant::now());
    Ok(Json(row))
}

/// `GET …/Calls/{sid}/Events.json`: our requests and Twilio's own. They come with the list's lag.
pub(crate) async fn events(
    State(shared): Here,
    Path((account, sid)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.fetch)?;
    let id = find(&shared, &account, &sid)?;
    let world = shared.world();
    let moment = shared.seen_at(&world.faults);
    let call = world.call(id);
    let rows = if call.status_at(moment).is_some() { event_rows(call) } else { Vec::new() };
    let base = format!("/{}/Accounts/{account}/Calls/{sid}/Events.json", super::API_VERSION);
    let page = Page { name: "events", rows, base: &base, number: 0, size: 50, next: None };
    Ok(Json(page.body()))
}

/// `POST …/Calls/{sid}.json`: `canceled` ends what is not answered, `completed` ends anything; `Url` or `Twiml` sends an
/// answered call on to another document.
pub(crate) async fn update(
    State(shared): Here,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.update)?;
    let id = find(&shared, &account, &file)?;
    shared.world().call_mut(id).updates += 1;
    let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let value = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let orders = match (value("Url"), value("Twiml")) {
        (Some(url), _) => Some(Script::Fetch(Hook { url, method: Method::Post })),
        (None, twiml) => twiml.map(Script::Inline),
    };
    let now = shared.status(id);
    if now.is_final() {
        return Err(Refusal::call_state());
    }
    let answered = now == Status::InProgress;
    match value("Status").as_deref() {
        Some("canceled") if answered => {}
        // Before the answer there is nothing to complete: the call counts as cancelled.
        Some("canceled" | "completed") if !answered => _ = shared.advance(id, Status::Canceled, None),
        Some("completed") => _ = shared.advance(id, Status::Completed, None),
        Some(other) => return Err(Refusal::parameter(20001, format!("Invalid Status: {other}"))),
        None if orders.is_none() => {
            return Err(Refusal::parameter(20001, "The sandbox changes nothing but Status, Url and Twiml"));
        }
        None if !answered => return Err(Refusal::call_state()),
        None => shared.order(id, orders),
    }
    let row = rows::at(shared.world().call(id), Instant::now());
    Ok(Json(row).into_response())
}

impl Shared {
    /// Sends an answered call on: what it is in the middle of ends.
    fn order(&self, id: CallId, orders: Option<Script>) {
        let mut world = self.world();
        let call = world.call_mut(id);
        call.detour = orders;
        call.nudge.notify_waiters();
    }
}

/// `GET …/Calls/{sid}/Recordings.json`: of one call, so that one page is all.
pub(crate) async fn recordings(
    State(shared): Here,
    Path((account, sid)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.list)?;
    let id = find(&shared, &account, &sid)?;
    let rows: Vec<Value> = shared.kept_of(id).iter().map(|kept| {
        json!({
            "sid": kept.id, "call_sid": sid, "account_sid": account, "status": "completed", "channels": 2, "duration": "1",
            "source": "OutboundAPI", "api_version": super::API_VERSION,
        })
    }).collect();
    Ok(Json(json!({ "recordings": rows, "page": 0, "page_size": 50, "start": 0, "next_page_uri": null }))
        .into_response())
}

/// `GET …/Recordings/{sid}.mp3`.
pub(crate) async fn recording(
    State(shared): Here,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.fetch)?;
    let kept = file.strip_suffix(".mp3").and_then(|id| shared.kept(id));
    let kept = kept.filter(|kept| shared.world().call(kept.call).account == account);
    kept.map(|kept| sound(&kept)).ok_or_else(|| Refusal::not_found(&file))
}

/// `DELETE …/Recordings/{sid}.json`.
pub(crate) async fn delete_recording(
    State(shared): Here,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    open(&shared, &account, &headers, |faults| &mut faults.fetch)?;
    let kept = file.strip_suffix(".json").and_then(|id| shared.kept(id));
    let kept = kept.filter(|kept| shared.world().call(kept.call).account == account);
    shared.delete_recording(&kept.ok_or_else(|| Refusal::not_found(&file))?.id);
    Ok(StatusCode::NO_CONTENT)
}

/// Which rules a request falls under.
type Rules = fn(&mut Faults) -> &mut Vec<Rule<ApiFault>>;

/// Credentials first, then the faults.
fn open(shared: &Shared, account: &str, headers: &HeaderMap, rules: Rules) -> Result<(), Refusal> {
    authenticate(shared, account, headers)?;
    let mut world = shared.world();
    let world = &mut *world;
    let struck = draw(rules(&mut world.faults), Subject::default(), &mut world.random);
    match struck.map(|rule| (rule.kind, rule.retry_after_secs)) {
        None => Ok(()),
        Some((ApiFault::Unavailable | ApiFault::LostAnswer, _)) => Err(Refusal::unavailable()),
        Some((ApiFault::Unauthorized, _)) => Err(Refusal::credentials()),
        Some((ApiFault::Http429, seconds)) => Err(Refusal::too_many_requests(seconds)),
    }
}

fn find(shared: &Shared, account: &str, file: &str) -> Result<CallId, Refusal> {
    let sid = file.strip_suffix(".json").unwrap_or(file);
    let world = shared.world();
    let found = world.find(sid).filter(|id| world.call(*id).account == account);
    found.ok_or_else(|| Refusal::not_found(&format!("/{}/Accounts/{account}/Calls/{sid}.json", super::API_VERSION)))
}

fn event_rows(call: &Call) -> Vec<Value> {
    let created = call.history.first().map(|(stamp, _)| stamp.rfc2822());
    let mut parameters = serde_json::Map::new();
    for (name, value) in call.dial.twilio().into_iter().flat_map(|order| &order.form) {
        let known = parameters.entry(snake_case(name)).or_insert_with(|| json!(""));
        // A repeated parameter shows as one, separated by commas.
        *known = match known.as_str() {
            Some("") | None => json!(value),
            Some(before) => json!(format!("{before},{value}")),
        };
    }
    parameters.insert("account_sid".to_owned(), json!(call.account));
    let url = format!("https://api.twilio.com/{}/Accounts/{}/Calls.json", super::API_VERSION, call.account);
    let mut rows = vec![json!({
        "request": { "method": "POST", "url": url, "parameters": parameters },
        "response": {
            "response_code": 201,
            "request_duration": 50,
            "content_type": "application/json",
            "response_body": json!({ "sid": call.sid }).to_string(),
            "date_created": created,
        },
    })];
    let report_url = call.dial.twilio().and_then(|order| order.report.as_ref()).map(|hook| hook.url.as_str());
    for callback in call.callbacks.iter().filter(|callback| callback.tries > 0) {
        rows.push(json!({
            "request": { "method": "POST", "url": report_url, "parameters": {
                "call_sid": call.sid, "call_status": callback.status, "sequence_number": callback.sequence.to_string(),
            } },
            "response": {
                "response_code": callback.answer, "request_duration": null, "content_type": null,
                "response_body": null, "date_created": created,
            },
        }));
    }
    rows
}

/// `StatusCallbackEvent` as `status_callback_event`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

impl Shared {
    /// The moment that lists show.
    pub(crate) fn seen_at(&self, faults: &Faults) -> Instant {
        let lag = Duration::from_millis(faults.list_lag_ms.unwrap_or(self.config.list_lag_ms));
        let now = Instant::now();
        now.checked_sub(lag).unwrap_or(now)
    }
}
