//! `GET /v1/me`: whose key is this, and what may it do?
use crate::{api::auth::Caller, context::Context, error::ApiError};
use axum::Json;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(me))
}

/// Who am I?
#[utoipa::path(get, path = "/v1/me", tag = "me", responses((status = 200, body = String)))]
async fn me(caller: Caller) -> Result<Json<String>, ApiError> {
    Ok(Json(caller.actor()))
}
