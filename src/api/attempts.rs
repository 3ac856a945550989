//! One dial, as the ledger has it.

use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{auth::Viewer, body::Ids},
    attempts::{Attempt, store},
    context::Context,
    error::ApiError,
    ids::AttemptId,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(one))
}

/// One attempt with everything that happened to it.
#[utoipa::path(get, path = "/v1/attempts/{id}", tag = "jobs", params(("id" = AttemptId, Path)),
    operation_id = "one_attempt", responses((status = 200, body = Attempt)))]
async fn one(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<AttemptId>) -> Result<Json<Attempt>, ApiError> {
    let attempt = store::list(&ctx.stores.tenant, viewer.business, Some(id), None).await?.pop();
    attempt.map(Json).ok_or_else(|| ApiError::not_found("attempt"))
}
