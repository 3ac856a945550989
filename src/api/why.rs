//! Why a run is not dialing, or not faster.

use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{auth::Viewer, body::Ids},
    context::Context,
    dialing::why::{self, Why},
    error::ApiError,
    ids::RunId,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(why))
}

/// What keeps the run from dialing now.
#[utoipa::path(get, path = "/v1/runs/{id}/why", tag = "runs", operation_id = "why_not_dialing", params(("id" = RunId, Path)), responses((status = 200, body = Why)))]
async fn why(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<RunId>) -> Result<Json<Why>, ApiError> {
    let installation = (&ctx.stores, &ctx.gate, &*ctx.settings);
    Ok(Json(why::of_run(installation, &ctx.stores.tenant, viewer.business, id).await?))
}
