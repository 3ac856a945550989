//! The one error that a client sees, as `application/problem+json` (RFC 9457).
//!
//! Invariant: what a client reads was written for it; the text of an inner error only reaches the log.
//! Not here: which rule was broken (the caller says so), and errors that nobody decides by (`anyhow`).

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// What went wrong, by the slug that tools may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slug {
    /// No key, or one that is unknown or revoked.
    Unauthenticated,
    /// A key that may not do this.
    Forbidden,
    /// No such thing, or another business's.
    NotFound,
    /// The route is there, but not for this method; `Allow` lists those it takes.
    MethodNotAllowed,
    /// The run is in a state that does not allow this.
    RunState,
    /// Something else already has this name or this content.
    Conflict,
    /// The first request with this `Idempotency-Key` has not ended.
    IdempotencyInProgress,
    /// The body is larger than allowed.
    TooLarge,
    /// The body's media type is not read here.
    UnsupportedMediaType,
    /// A field does not fit; `errors` says which.
    Validation,
    /// The rule behind this field or route is not built yet.
    NotAvailable,
    /// The same `Idempotency-Key` came with another body.
    IdempotencyMismatch,
    /// More requests than allowed.
    TooManyRequests,
    /// No slot or line can be had now.
    AtCapacity,
    /// A store cannot be reached now, or did not answer in time.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Slug {
    /// The last segment of the problem's `type`, its HTTP status and its title.
    #[must_use]
    pub fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, "A valid key is needed"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "This key may not do that"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is no such thing"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "This route does not take this method")
            }
            Self::RunState => ("run-state", StatusCode::CONFLICT, "The run's state does not allow that"),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "That conflicts with what is stored"),
            Self::IdempotencyInProgress => {
                ("idempotency-in-progress", StatusCode::CONFLICT, "The first request with this key is still running")
            }
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "This media type is not read here")
            }
            Self::Validation => ("validation", StatusCode::UNPROCESSABLE_ENTITY, "The request does not fit"),
            Self::NotAvailable => ("not-available", StatusCode::UNPROCESSABLE_ENTITY, "That is not available yet"),
            Self::IdempotencyMismatch => (
                "idempotency-mismatch",
                StatusCode::UNPROCESSABLE_ENTITY,
                "This idempotency key belongs to another request",
            ),
            Self::TooManyRequests => ("too-many-requests", StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            Self::AtCapacity => ("at-capacity", StatusCode::SERVICE_UNAVAILABLE, "No slot or line is free now"),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "This cannot be answered now"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "A fault of ours"),
        }
    }
}

/// One field that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer into the request body (RFC 6901); `?name` for a query parameter.
    pub pointer: String,
    /// A word that programs may decide by, e.g. `invalid_number`.
    pub code: Cow<'static, str>,
    /// A sentence for people: what is wrong and what to do.
    pub detail: String,
}

impl FieldError {
    /// The field at `pointer` breaks the rule `code`; `detail` says what to do.
    pub fn new(pointer: impl Into<String>, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), detail: detail.into() }
    }
}

/// What a client gets instead of an answer.
#[derive(Debug)]
pub struct ApiError {
    slug: Slug,
    detail: String,
    errors: Vec<FieldError>,
    extra: Map<String, Value>,
    retry_after_secs: Option<u64>,
    inner: Option<anyhow::Error>,
}

impl ApiError {
    /// A problem of this kind, with a sentence for people.
    pub fn new(slug: Slug, detail: impl Into<String>) -> Self {
        Self { slug, detail: detail.into(), errors: Vec::new(), extra: Map::new(), retry_after_secs: None, inner: None }
    }

    /// 404: there is none, or it is another business's, which is not told apart.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Slug::NotFound, format!("There is no {what} with this id."))
    }

    /// 422 with the fields that do not fit.
    #[must_use]
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            // The whole document has no pointer.
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields do not fit.", many.len()),
        };
        Self { errors, ..Self::new(Slug::Validation, detail) }
    }

    /// 422: the rule behind this field is not built, so the field is refused rather than ignored.
    #[must_use]
    pub fn not_available(pointer: &str, what: &str) -> Self {
        let detail = format!("{what} is not available yet; leave it out.");
        Self {
            errors: vec![FieldError::new(pointer, "not_available", detail.clone())],
            ..Self::new(Slug::NotAvailable, detail)
        }
    }

    /// Adds a member to the problem, e.g. `state` or `allowed`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the fields that do not fit.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Says after how many seconds to try again (`Retry-After`).
    #[must_use]
    pub fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// The kind of problem.
    #[must_use]
    pub fn slug(&self) -> Slug {
        self.slug
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What lies behind it, for a log or a person at a terminal of our own; a client never reads it.
    #[must_use]
    pub fn into_inner(self) -> Option<anyhow::Error> {
        self.inner
    }

    /// The problem as its JSON object.
    #[must_use]
    pub fn body(&self) -> Value {
        let (slug, status, title) = self.slug.parts();
        let mut body = self.extra.clone();
        body.insert("type".into(), format!("/problems/{slug}").into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), self.detail.clone().into());
        if !self.errors.is_empty() {
            body.insert("errors".into(), serde_json::to_value(&self.errors).unwrap_or_default());
        }
        Value::Object(body)
    }
}

/// Anything a handler cannot answer for. A store that cannot be reached or takes too long is 503, everything else 500.
impl From<anyhow::Error> for ApiError {
    fn from(inner: anyhow::Error) -> Self {
        if inner.chain().any(|cause| cause.downcast_ref::<sqlx::Error>().is_some_and(took_too_long)) {
            let detail = "It took too long to work this out, and was given up with nothing changed. Try again when less is going on.";
            let error = Self::new(Slug::Unavailable, detail).retry_after(5);
            return Self { inner: Some(inner), ..error };
        }
        let lost_store = inner.chain().any(|cause| {
            cause.downcast_ref::<sqlx::Error>().is_some_and(store_is_away)
                || cause.downcast_ref::<redis::RedisError>().is_some_and(|e| {
                    e.is_io_error() || e.is_connection_dropped() || e.is_timeout() || e.is_connection_refusal()
                })
        });
        let mut error = if lost_store {
            Self::new(
                Slug::Unavailable,
                "A store cannot be reached now; nothing was changed that was not answered. Try again.",
            )
            .retry_after(1)
        } else {
            Self::new(Slug::Internal, "This is a fault of ours; it is in the log.")
        };
        error.inner = Some(inner);
        error
    }
}

/// True where a statement hit its time limit, or was given up on request (SQLSTATE 57014: PostgreSQL manual, appendix A).
fn took_too_long(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().as_deref() == Some("57014"))
}

/// True where Postgres itself is away, busy or stopping, rather than refusing this statement
/// (SQLSTATE classes 08, 53 and 57, 55P03, a lock not had in time, 25P03, a transaction that was ended because its process
/// stood still, and 25006, a standby that is not promoted yet: PostgreSQL manual, appendix A). An answer that breaks off in the
/// middle breaks the protocol.
#[must_use]
pub fn store_is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                || ["55P03", "25P03", "25006"].contains(&&*code)
        }),
        _ => false,
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<redis::RedisError> for ApiError {
    fn from(error: redis::RedisError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (slug, status, _) = self.slug.parts();
        if let Some(inner) = &self.inner {
            tracing::error!(problem = slug, error = format!("{inner:#}"), "a request could not be answered");
        }
        let mut response = (status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.slug == Slug::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
