//! `Idempotency-Key`: the same POST twice has one effect and one answer.
//!
//! Invariant: of all requests with one key, business and path, one at a time runs; once one has succeeded, none runs
//! again within a day. An answer that changed nothing (4xx, 5xx) does not hold the key.
//! Not here: the rows (`businesses::answers`), and what the request does.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    api::{
        auth::{BUSINESS_HEADER, Caller},
        body,
    },
    businesses::{
        answers::{self, Answer, Begin, Ours},
        keys::{Key, Role},
    },
    context::Context,
    error::{ApiError, FieldError, Slug},
    stores::tenant,
};

/// The request header.
const KEY_HEADER: &str = "idempotency-key";
/// Says that an answer is the stored one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Most bytes of a JSON body that is held here to be hashed; each route's own limit is lower or the same.
pub const LARGEST_JSON: usize = 32 * 1024 * 1024;
/// Most bytes of an answer that are kept: several times ten thousand calls in flight, which is the longest there is.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;
/// How often a running request says that it lives; after [`answers::ABANDONED_SECS`] without, another may take over.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The hash of a request, which for an upload is only known at its end. A handler finds that of a request with a key among the
/// request's extensions.
#[derive(Clone)]
pub enum Print {
    /// Of a body that was here before the handler ran.
    Whole([u8; 32]),
    /// Of a body on its way.
    Streamed(Arc<Mutex<Sha256>>),
}

impl Print {
    /// The hash of what was read.
    #[must_use]
    pub fn so_far(&self) -> Vec<u8> {
        match self {
            Self::Whole(hash) => hash.to_vec(),
            Self::Streamed(hash) => hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize().to_vec(),
        }
    }
}

/// The id of what a POST makes. A repeated request has the id of the first, even if that one's process died in between: a
/// row that is there already under this id is this request's own effect, and is answered, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for NewId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_else(|| Self(Uuid::now_v7())))
    }
}

/// The layer around every route: does nothing but for a POST with an `Idempotency-Key`.
pub async fn layer(State(ctx): State<Context>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY_HEADER) {
        return next.run(request).await;
    }
    once(&ctx, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn once(ctx: &Context, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, ctx).await?;
    if matches!(caller, Caller::Key(Key { role: Role::Viewer, .. })) {
        // A viewer changes nothing, and must not be shown what a manager was answered.
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let key = key_of(&parts.headers)?;
    let scope = format!("{} POST {}", whose(&caller, &parts), parts.uri.path());
    let (print, body) = print(&parts, body).await?;
    let ours = match answers::begin(&ctx.stores.pg, &scope, &key, &starting(&print)).await? {
        Begin::Ours(ours) => ours,
        Begin::Running { request_hash } => {
            return Err(match &print {
                Print::Whole(hash) if !request_hash.is_empty() && request_hash != hash => mismatch(),
                _ => {
                    ApiError::new(Slug::IdempotencyInProgress, "Ask again: the first request with this key still runs.")
                        .retry_after(1)
                }
            });
        }
        Begin::Answered(answer) => return replay(ctx, &scope, &key, answer, &print, body).await,
    };
    // A task of its own: the answer is stored even if the client is gone before it is there.
    parts.extensions.insert(NewId(ours.reserved));
    parts.extensions.insert(print.clone());
    let task = tokio::spawn(
        tenant::carried(run(ctx.clone(), ours, print, Request::from_parts(parts, body), next)).in_current_span(),
    );
    task.await.map_err(|error| anyhow::Error::from(error).context("the request's task").into())
}

async fn run(ctx: Context, mut ours: Ours, print: Print, request: Request, next: Next) -> Response {
    let mut request = std::pin::pin!(next.run(request));
    let mut alive = tokio::time::interval_at(tokio::time::Instant::now() + ALIVE_EVERY, ALIVE_EVERY);
    let response = loop {
        tokio::select! {
            response = &mut request => break response,
            _ = alive.tick() => {
                if let Err(error) = answers::still_running(&ctx.stores.pg, &mut ours).await {
                    tracing::warn!(error = %error, "a running request could not be marked as alive");
                }
            }
        }
    };
    let (parts, body) = response.into_parts();
    let bytes = match axum::body::to_bytes(body, LARGEST_ANSWER).await {
        Ok(bytes) if parts.status.is_success() => bytes,
        Ok(bytes) => {
            note(if parts.status.is_server_error() {
                answers::give_up(&ctx.stores.pg, &ours).await
            } else {
                answers::forget(&ctx.stores.pg, &ours).await
            });
            return Response::from_parts(parts, Body::from(bytes));
        }
        Err(error) => {
            note(answers::give_up(&ctx.stores.pg, &ours).await);
            return ApiError::from(anyhow::Error::from(error).context("an answer too large")).into_response();
        }
    };
    let text_of = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let sealed = ctx.vault.seal_bytes(ours.place().as_bytes(), &bytes);
    match sealed {
        Ok(sealed) => {
            let answer = Answer {
                request_hash: print.so_far(),
                status: i32::from(parts.status.as_u16()),
                content_type: text_of(header::CONTENT_TYPE),
                location: text_of(header::LOCATION),
                body: sealed,
            };
            note(answers::keep(&ctx.stores.pg, &ours, &answer).await);
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "an answer could not be sealed"),
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// The client has its answer whatever became of the row; an unanswered row is free again after a minute.
fn note(stored: sqlx::Result<()>) {
    if let Err(error) = stored {
        tracing::error!(error = %error, "the row of an idempotency key could not be written");
    }
}

async fn replay(
    ctx: &Context,
    scope: &str,
    key: &str,
    answer: Answer,
    print: &Print,
    body: Body,
) -> Result<Response, ApiError> {
    if let Print::Streamed(_) = print {
        // The upload is read to its end: only then is it known to be the same.
        body.into_data_stream().try_for_each(|_| std::future::ready(Ok(()))).await.map_err(|error| {
            tracing::debug!(error = %error, "an upload broke off");
            ApiError::new(Slug::Validation, "The body broke off before its end.")
        })?;
    }
    if answer.request_hash != print.so_far() {
        return Err(mismatch());
    }
    let bytes = ctx.vault.open_bytes(answers::place(scope, key).as_bytes(), &answer.body).map_err(|_| {
        ApiError::new(Slug::Conflict, "This key was answered, but the answer was sealed under a key that is gone.")
    })?;
    let status = u16::try_from(answer.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = (status.unwrap_or(StatusCode::OK), bytes).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, text) in [(header::CONTENT_TYPE, answer.content_type), (header::LOCATION, answer.location)] {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn mismatch() -> ApiError {
    ApiError::new(Slug::IdempotencyMismatch, "This Idempotency-Key was used for another request; take a new one.")
}

/// The key: 1 to 255 visible ASCII characters, once.
fn key_of(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut given = headers.get_all(KEY_HEADER).iter();
    let text = given.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && given.next().is_none() {
        return Ok(text.to_owned());
    }
    let detail = "must be one header of 1 to 255 visible ASCII characters";
    Err(ApiError::validation(vec![FieldError::new("Idempotency-Key", "invalid_key", detail)]))
}

/// Whose key it is. A business's routes and the operator's own are told apart by path, so that nobody is shown the
/// answer to another's request.
fn whose(caller: &Caller, parts: &Parts) -> String {
    match caller {
        Caller::Key(key) => key.business.to_string(),
        Caller::Operator if parts.uri.path().starts_with("/v1/businesses") => "operator".into(),
        Caller::Operator => {
            let named = parts.headers.get(BUSINESS_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
            // One spelling per id. What is no id is answered 404 by the route.
            named.and_then(|id| id.parse::<Uuid>().ok()).map_or_else(|| "operator".into(), |id| id.to_string())
        }
    }
}

/// Hash of query and body. JSON is read here whole; an upload is hashed on its way.
async fn print(parts: &Parts, body: Body) -> Result<(Print, Body), ApiError> {
    let mut hash = Sha256::new();
    hash.update(parts.uri.query().unwrap_or_default());
    hash.update([0]);
    if is_upload(&parts.headers) {
        let hash = Arc::new(Mutex::new(hash));
        let seen = Arc::clone(&hash);
        let stream = body.into_data_stream().inspect_ok(move |chunk: &Bytes| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
        });
        return Ok((Print::Streamed(hash), Body::from_stream(stream)));
    }
    let bytes = body::read(body, LARGEST_JSON).await?;
    hash.update(&bytes);
    Ok((Print::Whole(hash.finalize().into()), Body::from(bytes)))
}

/// What the row says while the request runs: nothing yet of an upload.
fn starting(print: &Print) -> Vec<u8> {
    match print {
        Print::Whole(hash) => hash.to_vec(),
        Print::Streamed(_) => Vec::new(),
    }
}

/// True for a streamed CSV upload.
#[must_use]
pub fn is_upload(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv")
}
