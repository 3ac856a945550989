//! Who asks, and whether they may.
//!
//! Invariant: a handler that names [`Operator`], [`Viewer`] or [`Manager`] as its first argument runs for nobody else,
//! and what it gets is the only business that it may touch, also for every connection that it takes from `Stores::tenant`.
//! Not here: how keys are kept (`businesses::keys`).

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams},
    http::{header, request::Parts},
};
use secrecy::ExposeSecret;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{
    businesses::{
        audit,
        keys::{self, Key, Role},
        store,
        suppressions::List,
    },
    context::Context,
    error::{ApiError, FieldError, Slug},
    ids::BusinessId,
    leads::mask,
    stores::tenant,
};

/// The header in which the operator names the business that a request is about.
pub const BUSINESS_HEADER: &str = "rollcall-business";
/// Bad keys per client address and minute that are answered with 401; further ones with 429. Good keys always work.
const BAD_KEYS_PER_MINUTE: i64 = 10;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The holder of the operator key.
    Operator,
    /// The holder of a business's key.
    Key(Key),
}

/// The operator. Its writes are audited.
#[derive(Debug, Clone, Copy)]
pub struct Operator;

/// Someone who may read of one business: any of its keys, or the operator with `Rollcall-Business`.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The only business that may be touched.
    pub business: BusinessId,
    /// Who it is, for rows that say so: `operator` or `key:rk_3fa9`.
    pub actor: String,
}

/// Someone who may act for one business: a manager key, or the operator with `Rollcall-Business`, which is audited.
#[derive(Debug, Clone)]
pub struct Manager {
    /// The only business that may be touched.
    pub business: BusinessId,
    /// Who it is, for rows that say so: `operator` or `key:rk_3fa9`.
    pub actor: String,
}

/// Someone who may read a list: a business's by any of its keys or by the operator with `Rollcall-Business`, the installation's
/// by the operator without it.
#[derive(Debug, Clone, Copy)]
pub struct ListViewer(pub List);

/// Someone who may change a list: a manager key, or the operator, which is audited.
#[derive(Debug, Clone, Copy)]
pub struct ListManager(pub List);

impl Caller {
    /// Who it is, for rows that say so.
    #[must_use]
    pub fn actor(&self) -> String {
        match self {
            Self::Operator => "operator".into(),
            Self::Key(key) => format!("key:{}", key.prefix),
        }
    }
}

impl FromRequestParts<Context> for Caller {
    type Rejection = ApiError;

    /// The answer is kept with the request, so that a door before the handler costs no second look.
    async fn from_request_parts(parts: &mut Parts, ctx: &Context) -> Result<Self, ApiError> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let caller = authenticate(parts, ctx).await?;
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}

impl FromRequestParts<Context> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Context) -> Result<Self, ApiError> {
        match Caller::from_request_parts(parts, ctx).await? {
            Caller::Key(_) => Err(ApiError::new(Slug::Forbidden, "Only the operator key may do this.")),
            Caller::Operator => {
                if !parts.method.is_safe() {
                    let path = RawPathParams::from_request_parts(parts, ctx).await.ok();
                    let named = path.iter().flatten().find(|(name, _)| *name == "id");
                    let business = named.and_then(|(_, id)| id.parse::<Uuid>().ok());
                    write_down(parts, ctx, business).await?;
                }
                Ok(Self)
            }
        }
    }
}

impl FromRequestParts<Context> for Viewer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Context) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, ctx).await?;
        let business = match &caller {
            Caller::Key(key) => key.business,
            Caller::Operator => named_business(parts, ctx).await?,
        };
        tenant::bind(business);
        Ok(Self { business, actor: caller.actor() })
    }
}

impl FromRequestParts<Context> for Manager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Context) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, ctx).await?;
        let business = match &caller {
            Caller::Key(Key { role: Role::Viewer, .. }) => {
                return Err(ApiError::new(Slug::Forbidden, "This is a viewer key; a manager key may do this."));
            }
            Caller::Key(key) => key.business,
            Caller::Operator => {
                let business = named_business(parts, ctx).await?;
                write_down(parts, ctx, Some(business.0)).await?;
                business
            }
        };
        tenant::bind(business);
        Ok(Self { business, actor: caller.actor() })
    }
}

impl FromRequestParts<Context> for ListViewer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Context) -> Result<Self, ApiError> {
        if speaks_for_all(parts, ctx).await? {
            return Ok(Self(List::Installation));
        }
        let viewer = Viewer::from_request_parts(parts, ctx).await?;
        Ok(Self(List::Business(viewer.business)))
    }
}

impl FromRequestParts<Context> for ListManager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Context) -> Result<Self, ApiError> {
        if speaks_for_all(parts, ctx).await? {
            write_down(parts, ctx, None).await?;
            return Ok(Self(List::Installation));
        }
        let manager = Manager::from_request_parts(parts, ctx).await?;
        Ok(Self(List::Business(manager.business)))
    }
}

/// True for the operator who names no business.
async fn speaks_for_all(parts: &mut Parts, ctx: &Context) -> Result<bool, ApiError> {
    let caller = Caller::from_request_parts(parts, ctx).await?;
    Ok(matches!(caller, Caller::Operator) && !parts.headers.contains_key(BUSINESS_HEADER))
}

async fn authenticate(parts: &Parts, ctx: &Context) -> Result<Caller, ApiError> {
    let refused = || {
        ApiError::new(
            Slug::Unauthenticated,
            "Send `Authorization: Bearer <key>` with a key that exists and is not revoked.",
        )
    };
    let Some(given) = parts.headers.get(header::AUTHORIZATION) else { return Err(refused()) };
    let bearer = given.to_str().ok().and_then(|text| text.split_once(' '));
    let Some(text) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim())
    else {
        return Err(refused());
    };
    if let Some(operator) = &ctx.settings.rollcall_operator_key {
        // Hashes have one length, so that the comparison tells nothing, not even how long the key is.
        let (own, given) = (Sha256::digest(operator.expose_secret()), Sha256::digest(text));
        if bool::from(own.as_slice().ct_eq(given.as_slice())) {
            return Ok(Caller::Operator);
        }
    }
    if let Some(key) = keys::find(&ctx.stores.pg, &ctx.known_keys, text).await? {
        return Ok(Caller::Key(key));
    }
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    match too_many_bad_keys(ctx, peer).await {
        Some(wait_secs) => {
            Err(ApiError::new(Slug::TooManyRequests, "Too many bad keys from this address; a good one works.")
                .retry_after(wait_secs))
        }
        None => Err(refused()),
    }
}

/// Counts a bad key of this address: the seconds to wait once there were too many. Without Redis nothing is counted.
async fn too_many_bad_keys(ctx: &Context, peer: Option<IpAddr>) -> Option<u64> {
    let key = ctx.stores.keys.key(format_args!("auth:bad:{}", peer?));
    let mut redis = ctx.stores.redis.clone();
    let counted: redis::RedisResult<(i64, i64)> = redis::pipe()
        .atomic()
        .cmd("SET")
        .arg(&key)
        .arg(0)
        .arg("EX")
        .arg(60)
        .arg("NX")
        .ignore()
        .cmd("INCR")
        .arg(&key)
        .cmd("TTL")
        .arg(&key)
        .query_async(&mut redis)
        .await;
    match counted {
        Ok((bad, left_secs)) if bad > BAD_KEYS_PER_MINUTE => Some(u64::try_from(left_secs).unwrap_or(0).max(1)),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(error = %error, "bad keys cannot be counted now");
            None
        }
    }
}

/// The business that the operator names in the header.
async fn named_business(parts: &Parts, ctx: &Context) -> Result<BusinessId, ApiError> {
    let Some(named) = parts.headers.get(BUSINESS_HEADER) else {
        let missing = "the operator key needs the header Rollcall-Business: <id> here";
        return Err(ApiError::validation(vec![FieldError::new("Rollcall-Business", "required", missing)]));
    };
    let id = named.to_str().ok().and_then(|text| text.trim().parse::<BusinessId>().ok());
    let Some(id) = id else { return Err(ApiError::not_found("business")) };
    // A business is never removed, so what was read of it a moment ago will do.
    let found = ctx.profile(id).await?.is_some() || store::exists(&ctx.stores.pg, id).await?;
    if found { Ok(id) } else { Err(ApiError::not_found("business")) }
}

/// Audits what the operator is about to do; done first, so that nothing is done unseen.
async fn write_down(parts: &Parts, ctx: &Context, business: Option<Uuid>) -> Result<(), ApiError> {
    let route = parts.extensions.get::<MatchedPath>().map_or("?", MatchedPath::as_str);
    let request_id = parts.headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let action = format!("{} {route}", parts.method);
    let path: Vec<String> = parts.uri.path().split('/').map(masked).collect();
    let detail = json!({ "path": path.join("/"), "request_id": request_id });
    audit::note(&ctx.stores.pg, business, "operator", &action, &detail).await?;
    Ok(())
}

/// A part of a path as it may be kept: whole numbers are not, however they are written.
fn masked(part: &str) -> String {
    let number = part.replacen("%2B", "+", 1).replacen("%2b", "+", 1);
    let digits = number.trim_start_matches('+').trim_end_matches('*');
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { mask(&number) } else { part.to_owned() }
}
