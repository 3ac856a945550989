//! The operator's routes of a business's keys.

use axum::{Json, extract::State, http::StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::Operator,
        body::{Body, Ids, Query},
        check::Check,
        page::{List, PageQuery},
    },
    businesses::{
        keys::{self, Key, Role},
        rules, store,
    },
    clock::Time,
    context::Context,
    error::ApiError,
    ids::{BusinessId, KeyId},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}

/// A key without the key itself, which is shown once.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    id: KeyId,
    prefix: String,
    role: Role,
    name: Option<String>,
    created_at: Time,
    revoked_at: Option<Time>,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        Self {
            id: key.id,
            prefix: key.prefix,
            role: key.role,
            name: key.name,
            created_at: key.created_at.into(),
            revoked_at: key.revoked_at.map(Into::into),
        }
    }
}

/// A key that was just made.
#[derive(Serialize, utoipa::ToSchema)]
struct MadeKey {
    #[serde(flatten)]
    made: KeyView,
    /// The key itself. It is kept nowhere and never shown again.
    key: String,
}

/// A key to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// What people call it.
    name: Option<String>,
    /// What it may do.
    role: Role,
}

/// Make a key; it is shown this once
#[utoipa::path(post, path = "/v1/businesses/{id}/keys", tag = "businesses", operation_id = "create_key", params(("id" = BusinessId, Path)),
    request_body = NewKey, responses((status = 201, body = MadeKey)))]
async fn create(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<MadeKey>), ApiError> {
    let mut check = Check::new();
    let name = new.name.as_deref().and_then(|name| check.field("/name", rules::name(name)));
    check.done()?;
    let made = keys::create(&ctx.stores.pg, business, name.as_deref(), new.role).await?;
    let (key, text) = made.ok_or_else(|| ApiError::not_found("business"))?;
    Ok((StatusCode::CREATED, Json(MadeKey { made: key.into(), key: text.expose_secret().to_owned() })))
}

/// List keys, revoked ones too
#[utoipa::path(get, path = "/v1/businesses/{id}/keys", tag = "businesses", operation_id = "list_keys", params(("id" = BusinessId, Path), PageQuery),
    responses((status = 200, body = List<KeyView>)))]
async fn list(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<KeyView>>, ApiError> {
    let page = query.page::<KeyId>("keys")?;
    if !store::exists(&ctx.stores.pg, business).await? {
        return Err(ApiError::not_found("business"));
    }
    let rows = keys::list(&ctx.stores.pg, business, page.after, page.fetch()).await?;
    Ok(Json(List::new(rows, &page, |row| row.id, Into::into)))
}

/// Revoke a key: it is dead everywhere within 5 s
#[utoipa::path(delete, path = "/v1/businesses/{id}/keys/{key_id}", tag = "businesses", operation_id = "revoke_key",
    params(("id" = BusinessId, Path), ("key_id" = KeyId, Path)), responses((status = 204)))]
async fn revoke(
    _: Operator,
    State(ctx): State<Context>,
    Ids((business, key)): Ids<(BusinessId, KeyId)>,
) -> Result<StatusCode, ApiError> {
    if !keys::revoke(&ctx.stores.pg, business, key).await? {
        return Err(ApiError::not_found("key"));
    }
    ctx.known_keys.forget(key);
    Ok(StatusCode::NO_CONTENT)
}
