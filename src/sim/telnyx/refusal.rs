//! Error answers, as Telnyx writes them: `{"errors":[{"code","title","detail","source"}]}`.
use axum::{
    Json,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::sim::{create::Refused, dial::Trouble};

/// An error answer. Codes are those of Telnyx's error reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: u16,
    code: u32,
    title: String,
    pointer: Option<&'static str>,
    reset_secs: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: u32, title: impl Into<String>) -> Self {
        Self { status, code, title: title.into(), pointer: None, reset_secs: None }
    }

    /// A field that cannot be used.
    pub(crate) fn field(code: u32, pointer: &'static str, title: impl Into<String>) -> Self {
        Self { pointer: Some(pointer), ..Self::new(422, code, title) }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, 10005, "Resource not found")
    }

    pub(crate) fn credentials() -> Self {
        Self::new(401, 10009, "Authentication failed")
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(503, 10007, "Unexpected error")
    }

    /// With the wait in s.
    pub(crate) fn too_many(secs: Option<u32>) -> Self {
        Self { reset_secs: secs, ..Self::new(429, 10011, "Too many requests") }
    }

    pub(crate) fn dials_per_second() -> Self {
        Self { reset_secs: Some(1), ..Self::new(429, 90103, "Dials per second limit exceeded") }
    }

    /// The call is over.
    pub(crate) fn ended() -> Self {
        Self::new(422, 90018, "Call has already ended")
    }

    pub(crate) fn of(trouble: Trouble) -> Self {
        match trouble {
            Trouble::TooMany(secs) => Self::too_many(secs),
            Trouble::ServerError => Self::new(500, 10007, "Unexpected error"),
            Trouble::Unavailable => Self::unavailable(),
            Trouble::Credentials => Self::credentials(),
            Trouble::OnDemand(status, code) => Self::new(status, code, format!("Refused on demand with {code}")),
            Trouble::Unreachable => Self::field(10016, "/to", "Phone number must be in +E164 format"),
            Trouble::Blocked => Self::new(403, 10010, "Authorization failed"),
            // Telnyx does not document the HTTP status of this one; 403 is the sandbox's choice.
            Trouble::Full => Self::new(403, 90041, "Account channel limit exceeded"),
            Trouble::QueueFull => Self::dials_per_second(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, response: Box::new(refusal.into_response()) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({
            "code": self.code.to_string(),
            "title": self.title,
            "detail": self.title,
            "meta": { "url": format!("https://developers.telnyx.com/docs/overview/errors/{}", self.code) },
        });
        if let Some(pointer) = self.pointer {
            error["source"] = json!({ "pointer": pointer });
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(json!({ "errors": [error] }))).into_response();
        if let Some(secs) = self.reset_secs {
            response.headers_mut().insert("x-ratelimit-reset", HeaderValue::from(secs));
        }
        response
    }
}
