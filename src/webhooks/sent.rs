//! The parts of a carrier's request, and a problem of ours where one of them cannot be read.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, request::Parts},
    response::IntoResponse,
};

use crate::error::{ApiError, Slug};

/// The token: the last segment of the path.
pub(super) struct Token(pub(super) String);

/// The body, as large as its route allows.
pub(super) struct Whole(pub(super) Bytes);

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let no_text = |_| ApiError::new(Slug::NotFound, "There is no such thing at this path.");
        path.map(|Path(token)| Self(token)).map_err(no_text)
    }
}

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await;
        body.map(Self).map_err(|refused| match refused.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Slug::TooLarge, "No carrier sends as much as this."),
            _ => ApiError::new(Slug::Validation, "The body broke off."),
        })
    }
}
