//! The sandbox's own routes, all under `/_` but `/healthz`: figures, calls, log, faults, waiting,
//! and driving a call by hand.
use std::{fmt::Write, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, CallReport, Callee, Faults, Figures, Forged, ProviderRule, SessionReport, Shared, Status, Undrivable, Until,
};

type Here = State<Arc<Shared>>;

/// Longest wait of `GET /_wait`, ms.
const LONGEST_WAIT_MS: u64 = 600_000;

/// A request that makes no sense, with the reason.
struct Wrong(StatusCode, String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<QueryRejection> for Wrong {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<JsonRejection> for Wrong {
    fn from(rejection: JsonRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<Undrivable> for Wrong {
    fn from(why: Undrivable) -> Self {
        let status = match why {
            Undrivable::Unknown => StatusCode::NOT_FOUND,
            Undrivable::State | Undrivable::Silent => StatusCode::CONFLICT,
        };
        Self(status, why.to_string())
    }
}

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/_figures", get(figures).delete(reset))
        .route("/_faults", get(faults).put(set_faults).delete(clear_faults))
        .route("/_answers", get(answers).put(set_answers))
        .route("/_provider_faults", get(provider_faults).put(set_provider_faults))
        .route("/_sessions", get(sessions))
        .route("/_callees", get(callees).put(set_callees))
        .route("/_calls", get(calls))
        .route("/_calls/{sid}/answer", post(answer))
        .route("/_calls/{sid}/end", post(end))
        .route("/_calls/{sid}/callback", post(callback))
        .route("/_log", get(log))
        .route("/_ring", post(ring))
        .route("/_wait", get(wait))
}

async fn figures(State(shared): Here) -> Json<Figures> {
    Json(shared.figures())
}

async fn reset(State(shared): Here) -> StatusCode {
    shared.reset();
    StatusCode::NO_CONTENT
}

async fn faults(State(shared): Here) -> Json<Faults> {
    Json(shared.world().faults.clone())
}

async fn set_faults(State(shared): Here, body: Result<Json<Faults>, JsonRejection>) -> Result<Json<Faults>, Wrong> {
    let Json(faults) = body?;
    faults.check().map_err(|why| Wrong(StatusCode::BAD_REQUEST, why))?;
    shared.world().faults = faults.clone();
    Ok(Json(faults))
}

async fn clear_faults(State(shared): Here) -> StatusCode {
    shared.world().faults = Faults::default();
    StatusCode::NO_CONTENT
}

async fn answers(State(shared): Here) -> Json<Vec<Answer>> {
    Json(shared.switchboard().answers.clone())
}

async fn set_answers(
    State(shared): Here,
    body: Result<Json<Vec<Answer>>, JsonRejection>,
) -> Result<Json<Vec<Answer>>, Wrong> {
    let Json(answers) = body?;
    shared.switchboard().answers = answers.clone();
    Ok(Json(answers))
}

async fn provider_faults(State(shared): Here) -> Json<Vec<ProviderRule>> {
    Json(shared.switchboard().rules.clone())
}

async fn set_provider_faults(
    State(shared): Here,
    body: Result<Json<Vec<ProviderRule>>, JsonRejection>,
) -> Result<Json<Vec<ProviderRule>>, Wrong> {
    let Json(rules) = body?;
    super::providers::check(&rules).map_err(|why| Wrong(StatusCode::BAD_REQUEST, why))?;
    shared.switchboard().rules = rules.clone();
    Ok(Json(rules))
}

async fn sessions(State(shared): Here) -> Json<Vec<SessionReport>> {
    Json(shared.switchboard().sessions())
}

async fn callees(State(shared): Here) -> Json<Vec<Callee>> {
    Json(shared.world().callees.clone())
}

async fn set_callees(
    State(shared): Here,
    body: Result<Json<Vec<Callee>>, JsonRejection>,
) -> Result<Json<Vec<Callee>>, Wrong> {
    let Json(callees) = body?;
    shared.world().callees = callees.clone();
    Ok(Json(callees))
}

/// Which calls `GET /_calls` shows; all when nothing is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(alias = "To")]
    to: Option<String>,
    #[serde(alias = "From")]
    from: Option<String>,
    account: Option<String>,
    token: Option<String>,
    sid: Option<String>,
}

async fn calls(
    State(shared): Here,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<CallReport>>, Wrong> {
    let Query(which) = which?;
    let is = |wish: &Option<String>, value: &str| wish.as_deref().is_none_or(|wish| wish == value);
    Ok(Json(shared.reports(|call| {
        is(&which.to, &call.dial.to)
            && is(&which.from, &call.dial.from)
            && is(&which.account, &call.account)
            && is(&which.token, call.token.as_deref().unwrap_or_default())
            && is(&which.sid, &call.sid)
    })))
}

async fn log(State(shared): Here) -> Result<Response, Wrong> {
    let mut lines = String::new();
    for entry in &shared.world().log {
        let line = serde_json::to_string(entry).map_err(|e| Wrong(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
        // Writing to a String cannot fail.
        writeln!(lines, "{line}").ok();
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// What `GET /_wait` waits for: the first of these that is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    requests: Option<u64>,
    created: Option<u64>,
    ended: Option<u64>,
    idle: Option<u8>,
    streams: Option<u64>,
    sessions: Option<u64>,
    timeout_ms: Option<u64>,
}

async fn wait(State(shared): Here, what: Result<Query<What>, QueryRejection>) -> Result<Response, Wrong> {
    let Query(what) = what?;
    let limit = Duration::from_millis(what.timeout_ms.unwrap_or(30_000).min(LONGEST_WAIT_MS));
    let wishes = [
        what.requests.map(Until::Requests),
        what.created.map(Until::Created),
        what.ended.map(Until::Ended),
        what.idle.map(|_| Until::Idle),
        what.streams.map(Until::Streams),
        what.sessions.map(Until::Sessions),
    ];
    let Some(until) = wishes.into_iter().flatten().next() else {
        let choice = "wait for requests, created, ended, idle, streams or sessions";
        return Err(Wrong(StatusCode::BAD_REQUEST, choice.to_owned()));
    };
    let reached = shared.until(|world| until.is_met(world, &shared), limit).await.is_ok();
    let status = if reached { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
    let world = shared.world();
    let counts = json!({
        "reached": reached, "requests": world.tally.requests(), "created": world.tally.created(),
        "ended": world.tally.ended(), "live": world.tally.live(), "under_way": world.in_flight,
    });
    Ok((status, Json(counts)).into_response())
}

/// A call that comes in: `POST /_ring`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ring {
    /// The account that is rung, and its secret: Twilio's SID and auth token, or Telnyx' connection id and API key.
    account: String,
    auth_token: String,
    from: String,
    to: String,
    /// Twilio: the number's voice URL, which is its status callback, too. Telnyx: where the connection's webhooks go.
    url: String,
}

async fn ring(State(shared): Here, body: Result<Json<Ring>, JsonRejection>) -> Result<Response, Wrong> {
    let Json(ring) = body?;
    let rung = shared.ring((&ring.account, &ring.auth_token), &ring.from, &ring.to, &ring.url);
    let sid = rung.map_err(|why| Wrong(StatusCode::CONFLICT, why))?;
    Ok((StatusCode::CREATED, Json(json!({ "sid": sid }))).into_response())
}

async fn answer(State(shared): Here, Path(sid): Path<String>) -> Result<StatusCode, Wrong> {
    shared.answer(&sid).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How `POST /_calls/{sid}/end` ends a call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    status: Option<Status>,
}

async fn end(
    State(shared): Here,
    Path(sid): Path<String>,
    how: Result<Query<How>, QueryRejection>,
) -> Result<StatusCode, Wrong> {
    let Query(how) = how?;
    shared.end(&sid, how.status.unwrap_or(Status::Completed))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn callback(
    State(shared): Here,
    Path(sid): Path<String>,
    body: Result<Json<Forged>, JsonRejection>,
) -> Result<Response, Wrong> {
    let Json(forged) = body?;
    let id = shared.world().find(&sid).ok_or(Undrivable::Unknown)?;
    let receipt = shared.forge(id, forged).await.ok_or(Undrivable::Silent)?;
    Ok(Json(receipt).into_response())
}
