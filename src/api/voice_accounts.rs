//! The operator's routes of a business's own accounts at voice providers.
//!
//! Invariant: a key comes in and never goes out.

use axum::{Json, extract::State, http::StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::Operator,
        body::{Body, Ids},
        check::Check,
    },
    businesses::rules,
    clock::Time,
    context::Context,
    error::{ApiError, Slug},
    ids::BusinessId,
    models::{Provider, accounts},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(put, get, delete))
}

/// A business's own account at a voice provider.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct VoiceAccount {
    provider: Provider,
    base_url: Option<String>,
    most_at_once: i32,
    /// That a key is kept, and since when. It is never shown.
    api_key: KeySet,
}

/// That a key is kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = VoiceKeySet)]
struct KeySet {
    set: bool,
    updated_at: Time,
}

/// An account at a voice provider to be set.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewVoiceAccount {
    /// Sealed at once, never shown.
    #[schema(value_type = String, format = Password)]
    api_key: SecretString,
    /// Another address than the installation's; https, or this machine.
    base_url: Option<String>,
    /// Requests and sockets at once of all calls programs together, 1 to 100,000; 50 where absent. Nobody is dialed for a conversation more.
    most_at_once: Option<i64>,
}

/// Set a business's account at `deepgram`, `openai` or `elevenlabs`
#[utoipa::path(put, path = "/v1/businesses/{id}/voice/{provider}", tag = "businesses", operation_id = "put_voice_account",
    params(("id" = BusinessId, Path), ("provider" = Provider, Path)), request_body = NewVoiceAccount,
    responses((status = 200, body = VoiceAccount)))]
async fn put(
    _: Operator,
    State(ctx): State<Context>,
    Ids((business, provider)): Ids<(BusinessId, Provider)>,
    Body(new): Body<NewVoiceAccount>,
) -> Result<Json<VoiceAccount>, ApiError> {
    let mut check = Check::new();
    check.field("/api_key", rules::secret(new.api_key.expose_secret()));
    let base_url = new.base_url.as_deref().and_then(|url| check.field("/base_url", rules::base_url(url)));
    let most = new.most_at_once.unwrap_or(50);
    let fits = i32::try_from(most).ok().filter(|most| (1..=100_000).contains(most));
    let most = check.field("/most_at_once", fits.ok_or_else(|| ("out_of_range", "must be from 1 to 100000".into())));
    check.done()?;
    let place = format!("voice account {business} {provider}");
    let sealed = ctx.vault.seal_bytes(place.as_bytes(), new.api_key.expose_secret().as_bytes())?;
    let terms = (base_url.as_deref(), most.unwrap_or(50));
    if !accounts::put(&ctx.stores.pg, business, provider, terms, (&sealed, ctx.vault.key_id())).await? {
        return Err(ApiError::not_found("business"));
    }
    shown(&ctx, business, provider).await
}

/// Look at a business's own account
#[utoipa::path(get, path = "/v1/businesses/{id}/voice/{provider}", tag = "businesses", operation_id = "get_voice_account",
    params(("id" = BusinessId, Path), ("provider" = Provider, Path)), responses((status = 200, body = VoiceAccount)))]
async fn get(
    _: Operator,
    State(ctx): State<Context>,
    Ids((business, provider)): Ids<(BusinessId, Provider)>,
) -> Result<Json<VoiceAccount>, ApiError> {
    shown(&ctx, business, provider).await
}

/// Delete a business's own account: its calls use the installation's
#[utoipa::path(delete, path = "/v1/businesses/{id}/voice/{provider}", tag = "businesses",
    operation_id = "delete_voice_account", params(("id" = BusinessId, Path), ("provider" = Provider, Path)),
    responses((status = 204)))]
async fn delete(
    _: Operator,
    State(ctx): State<Context>,
    Ids((business, provider)): Ids<(BusinessId, Provider)>,
) -> Result<StatusCode, ApiError> {
    if accounts::delete(&ctx.stores.pg, business, provider).await? { Ok(StatusCode::NO_CONTENT) } else { Err(none()) }
}

async fn shown(ctx: &Context, business: BusinessId, provider: Provider) -> Result<Json<VoiceAccount>, ApiError> {
    let account = accounts::get(&ctx.stores.pg, business, provider).await?.ok_or_else(none)?;
    Ok(Json(VoiceAccount {
        provider,
        base_url: account.base_url,
        most_at_once: account.most_at_once,
        api_key: KeySet { set: true, updated_at: account.secret_updated_at },
    }))
}

fn none() -> ApiError {
    ApiError::new(Slug::NotFound, "The business has no account of its own at this provider.")
}
