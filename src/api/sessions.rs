//! Sessions without a carrier: an agent tried from a browser or a script.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{auth::Manager, body::Body, idempotency::NewId},
    context::Context,
    dialing::trial::{self, Frames},
    error::ApiError,
    ids::{AgentId, AttemptId},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(create))
}

/// A session to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSession {
    /// Who talks.
    agent_id: AgentId,
    /// What the agent's `{{names}}` stand for.
    #[serde(default)]
    #[schema(value_type = Object)]
    variables: Map<String, Value>,
    /// What the binary messages hold, both ways, at 8 kHz: `mulaw` (the default) or `pcm16`, 16-bit samples, little-endian.
    /// `twilio`: text messages as in Twilio Media Streams, `start` first and marks given back.
    #[serde(default)]
    frames: Frames,
}

/// A session that waits for its socket.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TrialSession)]
struct Session {
    /// `GET /v1/calls/{id}/transcript` shows what was said.
    id: AttemptId,
    /// Open a WebSocket here within a minute; it is good for one. Send and get binary messages of sound; the text
    /// `{"event":"clear"}` says to drop what was not played yet, and the text `stop` ends it. Sound is to come all the time, silence too,
    /// as from a carrier: after 5 s without any it ends as `dead_stream`. A message has at most 64 KiB.
    ws_url: String,
}

/// Make a session without a carrier, to try an agent
#[utoipa::path(post, path = "/v1/sessions", tag = "agents", operation_id = "create_session", request_body = NewSession,
    responses((status = 201, body = Session)))]
async fn create(
    manager: Manager,
    State(ctx): State<Context>,
    NewId(id): NewId,
    Body(new): Body<NewSession>,
) -> Result<(StatusCode, Json<Session>), ApiError> {
    let id = AttemptId(id);
    let url = trial::open(&ctx, manager.business, id, (new.agent_id, new.variables), new.frames).await?;
    Ok((StatusCode::CREATED, Json(Session { id, ws_url: url.into() })))
}
