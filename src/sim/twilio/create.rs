//! `POST …/Calls.json`: faults, validation, acceptance, and the answer.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use url::form_urlencoded;

use super::{
    Refusal, authenticate,
    dial::{Dial, Event, token_of, unknown_parameters},
    rows,
};
use crate::sim::{
    Shared,
    call::{CallId, Tempo},
    clock::Stamp,
    config::Millis,
    faults::{CreateFault, Rule, Subject, draw},
    figures::Whose,
    wire::Cut,
    world::{LogEntry, World},
};

/// How long `final_callback_first` waits for the end of the call before it answers all the same.
const FINAL_FIRST_LIMIT: Duration = Duration::from_secs(20);

/// How a create is answered.
enum Reply {
    Answer(Response),
    /// Never, until the client gives up.
    Silence,
    Reset,
}

pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = authenticate(&shared, &account, &headers) {
        return refusal.into_response();
    }
    // A task of its own: a client that goes away does not undo what it asked for.
    let here = Arc::clone(&shared);
    let work = shared.tasks.spawn(async move {
        here.world().in_flight += 1;
        let reply = decide(&here, account, &body).await;
        here.world().in_flight -= 1;
        here.touch();
        reply
    });
    match work.await {
        Ok(Reply::Answer(response)) => response,
        Ok(Reply::Silence) => {
            shared.stop.cancelled().await;
            Refusal::unavailable().into_response()
        }
        Ok(Reply::Reset) => {
            cut.pull();
            Refusal::unavailable().into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a create broke off");
            Refusal::server_error().into_response()
        }
    }
}

async fn decide(shared: &Arc<Shared>, account: String, body: &[u8]) -> Reply {
    let received = Instant::now();
    let form: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut entry = LogEntry {
        at_ms: Stamp::now().unix_ms(),
        account,
        to: value("To").unwrap_or_default(),
        from: value("From").unwrap_or_default(),
        token: value("StatusCallback").as_deref().and_then(token_of),
        verdict: "accepted".to_owned(),
        code: None,
        sid: None,
        ignored: unknown_parameters(&form),
    };
    let (delay, fault) = receive(shared, &entry);
    shared.touch();
    // The call exists from the middle of the wait on: a client may die before and after that.
    pause(delay / 2).await;
    if let Some(rule) = &fault
        && let Some(reply) = turn_away(shared, &mut entry, rule)
    {
        return reply;
    }
    let accepted = Dial::read(form).and_then(|dial| {
        let hurried = fault.as_ref().is_some_and(|rule| rule.kind == CreateFault::FinalCallbackFirst);
        shared.accept(&entry.account, dial, if hurried { Tempo::Hurried } else { Tempo::Natural }, received)
    });
    let id = match accepted {
        Ok(id) => id,
        Err(refusal) => {
            "refused".clone_into(&mut entry.verdict);
            return Reply::Answer(refuse(shared, &mut entry, refusal));
        }
    };
    entry.sid = Some(shared.world().call(id).sid.clone());
    if let Some(rule) = &fault {
        entry.verdict = fault_name(rule.kind);
    }
    shared.log(entry);
    pause(delay / 2).await;
    answer(shared, id, fault).await
}

/// Counts the request and draws what is to happen to it.
fn receive(shared: &Shared, entry: &LogEntry) -> (Duration, Option<Rule<CreateFault>>) {
    let mut world = shared.world();
    let world = &mut *world;
    world.tally.requested(Whose { account: &entry.account, from: &entry.from }, entry.token.as_deref());
    let subject = Subject { to: &entry.to, from: &entry.from, status: "" };
    let fault = draw(&mut world.faults.create, subject, &mut world.random);
    (shared.config.accept_delay_ms.draw(&mut world.random), fault)
}

/// The faults that strike before a call exists.
fn turn_away(shared: &Shared, entry: &mut LogEntry, rule: &Rule<CreateFault>) -> Option<Reply> {
    let refusal = match rule.kind {
        CreateFault::Http429 => Refusal::too_many_requests(rule.retry_after_secs),
        CreateFault::Http500BeforeAccept => Refusal::server_error(),
        CreateFault::Unauthorized => Refusal::credentials(),
        CreateFault::Refuse => {
            let code = rule.code.unwrap_or_default();
            Refusal::new(rule.http_status.unwrap_or(400), code, format!("Refused on demand with {code}"))
        }
        CreateFault::TimeoutBeforeAccept | CreateFault::ResetBeforeAccept => Refusal::unavailable(),
        _ => return None,
    };
    entry.verdict = fault_name(rule.kind);
    let response = refuse(shared, entry, refusal);
    Some(match rule.kind {
        CreateFault::TimeoutBeforeAccept => Reply::Silence,
        CreateFault::ResetBeforeAccept => Reply::Reset,
        _ => Reply::Answer(response),
    })
}

/// The answer for a call that exists, spoiled where a fault says so.
async fn answer(shared: &Arc<Shared>, id: CallId, fault: Option<Rule<CreateFault>>) -> Reply {
    let ms = fault.as_ref().and_then(|rule| rule.ms);
    match fault.map(|rule| rule.kind) {
        Some(CreateFault::Http500AfterAccept) => return Reply::Answer(Refusal::server_error().into_response()),
        Some(CreateFault::TimeoutAfterAccept) => return Reply::Silence,
        Some(CreateFault::ResetAfterAccept) => return Reply::Reset,
        Some(CreateFault::GarbageAfterAccept) => {
            let body = "<html><body>\u{fffd}502 upstream said somethi";
            let html = [(header::CONTENT_TYPE, "application/json")];
            return Reply::Answer((StatusCode::CREATED, html, body).into_response());
        }
        Some(CreateFault::Slow) => {
            let length = ms.unwrap_or(Millis::exactly(2000)).draw(&mut shared.world().random);
            pause(length).await;
        }
        Some(CreateFault::FinalCallbackFirst) => shared.ended_and_told(id, FINAL_FIRST_LIMIT).await,
        _ => {}
    }
    let row = rows::fresh(shared.world().call(id));
    Reply::Answer((StatusCode::CREATED, Json(row)).into_response())
}

fn refuse(shared: &Shared, entry: &mut LogEntry, refusal: Refusal) -> Response {
    entry.code = Some(refusal.code);
    shared.world().tally.refused(Whose { account: &entry.account, from: &entry.from }, refusal.code);
    shared.log(entry.clone());
    refusal.into_response()
}

fn fault_name(kind: CreateFault) -> String {
    serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

async fn pause(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}

impl Shared {
    /// Keeps a line for `GET /_log`.
    fn log(&self, entry: LogEntry) {
        self.world().log.push(entry);
        self.touch();
    }

    /// Waits until a call is over and its final callback has been answered (or given up).
    async fn ended_and_told(&self, id: CallId, limit: Duration) {
        let done = |world: &World| {
            let call = world.call(id);
            let silent = call.dial.report.is_none() || !call.dial.events.contains(&Event::Completed);
            let told = silent || call.callbacks.iter().any(|callback| callback.status == call.status().word());
            call.status().is_final() && told
        };
        // Past the limit the create is answered all the same.
        self.until(done, limit).await.ok();
    }
}
