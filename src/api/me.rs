//! `GET /v1/me`: whose key is this, and what may it do?

use axum::{Json, extract::State, http::HeaderMap};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{BUSINESS_HEADER, Caller, Viewer},
        businesses::BusinessView,
        keys::KeyView,
    },
    businesses::{keys::Role, store},
    context::Context,
    error::ApiError,
    ids::BusinessId,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(me))
}

/// What a key may do.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Rights {
    Operator,
    Viewer,
    Manager,
}

/// Whose key it is and what it may do.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Me {
    role: Rights,
    /// Null for the operator key without the header Rollcall-Business.
    business: Option<BusinessView>,
    /// Null for the operator key.
    key: Option<KeyView>,
}

/// Whose key is this?
#[utoipa::path(get, path = "/v1/me", tag = "me", responses((status = 200, body = Me)))]
async fn me(
    caller: Caller,
    viewer: Result<Viewer, ApiError>,
    State(ctx): State<Context>,
    headers: HeaderMap,
) -> Result<Json<Me>, ApiError> {
    let me = match caller {
        Caller::Key(key) => Me {
            role: match key.role {
                Role::Viewer => Rights::Viewer,
                Role::Manager => Rights::Manager,
            },
            business: business(&ctx, key.business).await?,
            key: Some(key.into()),
        },
        Caller::Operator if headers.contains_key(BUSINESS_HEADER) => {
            Me { role: Rights::Operator, business: business(&ctx, viewer?.business).await?, key: None }
        }
        Caller::Operator => Me { role: Rights::Operator, business: None, key: None },
    };
    Ok(Json(me))
}

async fn business(ctx: &Context, id: BusinessId) -> Result<Option<BusinessView>, ApiError> {
    Ok(store::get(&ctx.stores.tenant, id).await?.map(Into::into))
}
