//! The operator's routes of a business's account at Telnyx.
//!
//! Invariant: a secret comes in and never goes out. The public key is none: it only verifies.

use axum::{Json, extract::State, http::StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        accounts::{SecretView, Shared, blank, done, found},
        auth::Operator,
        body::{Body, Change, Ids},
        check::Check,
    },
    businesses::{
        accounts::{self, Account, NewSecret, Terms},
        rules,
        store::Health,
    },
    context::Context,
    error::ApiError,
    ids::{BusinessId, Carrier},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(put, get, change, delete))
}

/// An account at Telnyx.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TelnyxAccount {
    carrier: Carrier,
    connection_id: String,
    public_key: Option<String>,
    caller_ids: Vec<String>,
    calls_per_second: f64,
    api_base_url: Option<String>,
    secrets: TelnyxSecrets,
    health: Health,
}

/// Which secrets are kept. They are never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TelnyxSecrets {
    api_key: SecretView,
}

impl From<Account> for TelnyxAccount {
    fn from(account: Account) -> Self {
        Self {
            carrier: account.carrier,
            connection_id: account.reference,
            public_key: account.public_key,
            caller_ids: account.caller_ids,
            calls_per_second: account.calls_per_second,
            api_base_url: account.api_base_url,
            secrets: TelnyxSecrets { api_key: SecretView { set: true, updated_at: account.secret_updated_at.into() } },
            health: account.health,
        }
    }
}

/// An account to be set.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTelnyxAccount {
    /// Sealed at once, never shown.
    #[schema(value_type = String, format = Password)]
    api_key: SecretString,
    /// The id of the Call Control application. Its `webhook_api_version` must be 2.
    connection_id: String,
    /// The account's public key (Mission Control, Keys): 32 bytes in base64.
    public_key: String,
    /// Numbers to call from: E.164, 1 to 1000, each once.
    caller_ids: Vec<String>,
    /// Calls that may be created per second; 1 where absent. Telnyx allows 30 by default.
    calls_per_second: Option<f64>,
    /// Another address than TELNYX_API_BASE_URL; https, or this machine.
    api_base_url: Option<String>,
}

/// What to change of an account; what is absent stays, the secret too.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct TelnyxAccountChange {
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    api_key: Change<SecretString>,
    #[serde(default)]
    #[schema(value_type = String)]
    connection_id: Change<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    public_key: Change<String>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    caller_ids: Change<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = f64)]
    calls_per_second: Change<f64>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    api_base_url: Change<Option<String>>,
}

/// Set the Telnyx account: its health is unchecked until the first call
#[utoipa::path(put, path = "/v1/businesses/{id}/carriers/telnyx", tag = "businesses", operation_id = "put_telnyx_account", params(("id" = BusinessId, Path)),
    request_body = NewTelnyxAccount, responses((status = 200, body = TelnyxAccount)))]
async fn put(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
    Body(new): Body<NewTelnyxAccount>,
) -> Result<Json<TelnyxAccount>, ApiError> {
    let secret = NewSecret::seal(&ctx.vault, (business, Carrier::Telnyx), &new.api_key)?;
    let edit = checked(TelnyxAccountChange {
        api_key: Change::To(new.api_key),
        connection_id: Change::To(new.connection_id),
        public_key: Change::To(new.public_key),
        caller_ids: Change::To(new.caller_ids),
        calls_per_second: new.calls_per_second.map_or(Change::Keep, Change::To),
        api_base_url: Change::To(new.api_base_url),
    })?;
    let mut terms = blank();
    edit(&mut terms);
    let outcome = accounts::put(&ctx.stores.pg, business, Carrier::Telnyx, &terms, &secret).await?;
    ctx.ring(business).await;
    done(outcome).map(Json)
}

/// Look at the Telnyx account
#[utoipa::path(get, path = "/v1/businesses/{id}/carriers/telnyx", tag = "businesses", operation_id = "telnyx_account", params(("id" = BusinessId, Path)),
    responses((status = 200, body = TelnyxAccount)))]
async fn get(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
) -> Result<Json<TelnyxAccount>, ApiError> {
    done(found(&ctx, business, Carrier::Telnyx).await?).map(Json)
}

/// Change the Telnyx account
#[utoipa::path(patch, path = "/v1/businesses/{id}/carriers/telnyx", tag = "businesses", operation_id = "change_telnyx_account", params(("id" = BusinessId, Path)),
    request_body = TelnyxAccountChange, responses((status = 200, body = TelnyxAccount)))]
async fn change(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
    Body(given): Body<TelnyxAccountChange>,
) -> Result<Json<TelnyxAccount>, ApiError> {
    let secret = given.api_key.given();
    let secret = secret.map(|secret| NewSecret::seal(&ctx.vault, (business, Carrier::Telnyx), secret)).transpose()?;
    let edit = checked(given)?;
    let outcome = accounts::change(&ctx.stores.pg, business, Carrier::Telnyx, edit, secret.as_ref()).await?;
    ctx.ring(business).await;
    done(outcome).map(Json)
}

/// Delete the Telnyx account and its secret; refused while calls of it are open
#[utoipa::path(delete, path = "/v1/businesses/{id}/carriers/telnyx", tag = "businesses", operation_id = "remove_telnyx_account",
    params(("id" = BusinessId, Path)), responses((status = 204)))]
async fn delete(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
) -> Result<StatusCode, ApiError> {
    done::<TelnyxAccount>(accounts::delete(&ctx.stores.pg, business, Carrier::Telnyx).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks every value that is given; what comes back puts all but the secret in their places.
fn checked(given: TelnyxAccountChange) -> Result<impl FnOnce(&mut Terms), ApiError> {
    let mut check = Check::new();
    if let Some(secret) = given.api_key.given() {
        check.field("/api_key", rules::secret(secret.expose_secret()));
    }
    if let Some(id) = given.connection_id.given() {
        check.field("/connection_id", rules::connection_id(id));
    }
    if let Some(key) = given.public_key.given() {
        check.field("/public_key", rules::public_key(key));
    }
    let shared = Shared {
        caller_ids: given.caller_ids,
        calls_per_second: given.calls_per_second,
        api_base_url: given.api_base_url,
    };
    let shared = shared.checked(&mut check);
    check.done()?;
    Ok(move |terms: &mut Terms| {
        given.connection_id.apply(&mut terms.reference);
        if let Change::To(key) = given.public_key {
            terms.public_key = Some(key);
        }
        shared(terms);
    })
}
