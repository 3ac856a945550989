//! What was said in a call, and what came of it.

use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{auth::Viewer, body::Ids},
    calls::conversation::{self, Conversation},
    context::Context,
    error::{ApiError, Slug},
    ids::AttemptId,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(transcript))
}

/// What was said in a call with an agent, of a run or not; the id is the attempt's
#[utoipa::path(get, path = "/v1/calls/{id}/transcript", tag = "calls", operation_id = "call_transcript",
    params(("id" = AttemptId, Path)), responses((status = 200, body = Conversation)))]
async fn transcript(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(id): Ids<AttemptId>,
) -> Result<Json<Conversation>, ApiError> {
    let found = conversation::of(&ctx.stores.tenant, viewer.business, id).await?;
    found.map(Json).ok_or_else(|| ApiError::new(Slug::NotFound, "Nothing was said in this call by an agent."))
}
