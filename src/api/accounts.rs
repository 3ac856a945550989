//! The operator's routes of a business's account at Twilio.
//!
//! Invariant: a secret comes in and never goes out.

use axum::{Json, extract::State, http::StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::Operator,
        body::{Body, Change, Ids},
        check::Check,
    },
    businesses::{
        accounts::{self, Account, NewSecret, Outcome, Terms},
        rules,
        store::{self, Health},
    },
    clock::Time,
    context::Context,
    error::{ApiError, Slug},
    ids::{BusinessId, Carrier},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(put, get, change, delete))
}

/// An account at Twilio.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TwilioAccount {
    carrier: Carrier,
    account_sid: String,
    caller_ids: Vec<String>,
    calls_per_second: f64,
    api_base_url: Option<String>,
    secrets: TwilioSecrets,
    health: Health,
}

/// Which secrets are kept. They are never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TwilioSecrets {
    auth_token: SecretView,
}

/// That a secret is kept, and since when.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SecretView {
    pub(super) set: bool,
    pub(super) updated_at: Time,
}

impl From<Account> for TwilioAccount {
    fn from(account: Account) -> Self {
        Self {
            carrier: account.carrier,
            account_sid: account.reference,
            caller_ids: account.caller_ids,
            calls_per_second: account.calls_per_second,
            api_base_url: account.api_base_url,
            secrets: TwilioSecrets {
                auth_token: SecretView { set: true, updated_at: account.secret_updated_at.into() },
            },
            health: account.health,
        }
    }
}

/// An account to be set.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTwilioAccount {
    /// AC and 32 hex digits.
    account_sid: String,
    /// Sealed at once, never shown.
    #[schema(value_type = String, format = Password)]
    auth_token: SecretString,
    /// Numbers to call from: E.164, 1 to 1000, each once.
    caller_ids: Vec<String>,
    /// Calls that may be created per second; 1 where absent, Twilio's own default.
    calls_per_second: Option<f64>,
    /// Another address than TWILIO_API_BASE_URL; https, or this machine.
    api_base_url: Option<String>,
}

/// What to change of an account; what is absent stays, the secret too.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct TwilioAccountChange {
    #[serde(default)]
    #[schema(value_type = String)]
    account_sid: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    auth_token: Change<SecretString>,
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

/// Set the Twilio account: its health is unchecked until the first call
#[utoipa::path(put, path = "/v1/businesses/{id}/carriers/twilio", tag = "businesses", operation_id = "put_twilio_account", params(("id" = BusinessId, Path)),
    request_body = NewTwilioAccount, responses((status = 200, body = TwilioAccount)))]
async fn put(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
    Body(new): Body<NewTwilioAccount>,
) -> Result<Json<TwilioAccount>, ApiError> {
    let secret = NewSecret::seal(&ctx.vault, (business, Carrier::Twilio), &new.auth_token)?;
    let edit = checked(TwilioAccountChange {
        account_sid: Change::To(new.account_sid),
        auth_token: Change::To(new.auth_token),
        caller_ids: Change::To(new.caller_ids),
        calls_per_second: new.calls_per_second.map_or(Change::Keep, Change::To),
        api_base_url: Change::To(new.api_base_url),
    })?;
    let mut terms = blank();
    edit(&mut terms);
    let outcome = accounts::put(&ctx.stores.pg, business, Carrier::Twilio, &terms, &secret).await?;
    ctx.ring(business).await;
    done(outcome).map(Json)
}

/// Look at the Twilio account
#[utoipa::path(get, path = "/v1/businesses/{id}/carriers/twilio", tag = "businesses", operation_id = "twilio_account", params(("id" = BusinessId, Path)),
    responses((status = 200, body = TwilioAccount)))]
async fn get(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
) -> Result<Json<TwilioAccount>, ApiError> {
    done(found(&ctx, business, Carrier::Twilio).await?).map(Json)
}

/// Change the Twilio account
#[utoipa::path(patch, path = "/v1/businesses/{id}/carriers/twilio", tag = "businesses", operation_id = "change_twilio_account", params(("id" = BusinessId, Path)),
    request_body = TwilioAccountChange, responses((status = 200, body = TwilioAccount)))]
async fn change(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
    Body(given): Body<TwilioAccountChange>,
) -> Result<Json<TwilioAccount>, ApiError> {
    let secret = given.auth_token.given();
    let secret = secret.map(|secret| NewSecret::seal(&ctx.vault, (business, Carrier::Twilio), secret)).transpose()?;
    let edit = checked(given)?;
    let outcome = accounts::change(&ctx.stores.pg, business, Carrier::Twilio, edit, secret.as_ref()).await?;
    ctx.ring(business).await;
    done(outcome).map(Json)
}

/// Delete the Twilio account and its secret; refused while calls of it are open
#[utoipa::path(delete, path = "/v1/businesses/{id}/carriers/twilio", tag = "businesses", operation_id = "remove_twilio_account",
    params(("id" = BusinessId, Path)), responses((status = 204)))]
async fn delete(
    _: Operator,
    State(ctx): State<Context>,
    Ids(business): Ids<BusinessId>,
) -> Result<StatusCode, ApiError> {
    done::<TwilioAccount>(accounts::delete(&ctx.stores.pg, business, Carrier::Twilio).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The account after a change, as its carrier's shape.
pub(super) fn done<A: From<Account>>(outcome: Outcome) -> Result<A, ApiError> {
    match outcome {
        Outcome::Done(account) => Ok(account.into()),
        Outcome::NoBusiness => Err(ApiError::not_found("business")),
        Outcome::NoAccount => Err(ApiError::new(Slug::NotFound, "The business has no account at this carrier.")),
        Outcome::CallsOpen(open) => {
            let detail =
                "Calls of this account are open; what became of them can only be asked with it. Pause and try again.";
            Err(ApiError::new(Slug::Conflict, detail).with("attempts_open", open))
        }
    }
}

/// The account at a carrier as it is.
pub(super) async fn found(ctx: &Context, business: BusinessId, carrier: Carrier) -> Result<Outcome, ApiError> {
    Ok(match accounts::get(&ctx.stores.pg, business, carrier).await? {
        Some(account) => Outcome::Done(account),
        None if store::exists(&ctx.stores.pg, business).await? => Outcome::NoAccount,
        None => Outcome::NoBusiness,
    })
}

/// What an account has at every carrier.
pub(super) struct Shared {
    pub(super) caller_ids: Change<Vec<String>>,
    pub(super) calls_per_second: Change<f64>,
    pub(super) api_base_url: Change<Option<String>>,
}

impl Shared {
    /// Checks every value that is given; what comes back puts them in their places.
    pub(super) fn checked(self, check: &mut Check) -> impl FnOnce(&mut Terms) + use<> {
        if let Some(numbers) = self.caller_ids.given() {
            check.list("/caller_ids", rules::caller_ids(numbers));
        }
        if let Some(rate) = self.calls_per_second.given() {
            check.field("/calls_per_second", rules::calls_per_second(*rate));
        }
        let url = match self.api_base_url {
            Change::To(Some(text)) => {
                check.field("/api_base_url", rules::base_url(&text)).map_or(Change::Keep, |url| Change::To(Some(url)))
            }
            other => other,
        };
        move |terms: &mut Terms| {
            self.caller_ids.apply(&mut terms.caller_ids);
            self.calls_per_second.apply(&mut terms.calls_per_second);
            url.apply(&mut terms.api_base_url);
        }
    }
}

/// An account of which nothing is set yet.
pub(super) fn blank() -> Terms {
    Terms {
        reference: String::new(),
        caller_ids: Vec::new(),
        calls_per_second: 1.0,
        api_base_url: None,
        public_key: None,
    }
}

/// Checks every value that is given; what comes back puts all but the secret in their places.
fn checked(given: TwilioAccountChange) -> Result<impl FnOnce(&mut Terms), ApiError> {
    let mut check = Check::new();
    if let Some(sid) = given.account_sid.given() {
        check.field("/account_sid", rules::account_sid(sid));
    }
    if let Some(secret) = given.auth_token.given() {
        check.field("/auth_token", rules::secret(secret.expose_secret()));
    }
    let shared = Shared {
        caller_ids: given.caller_ids,
        calls_per_second: given.calls_per_second,
        api_base_url: given.api_base_url,
    };
    let shared = shared.checked(&mut check);
    check.done()?;
    Ok(move |terms: &mut Terms| {
        given.account_sid.apply(&mut terms.reference);
        shared(terms);
    })
}
