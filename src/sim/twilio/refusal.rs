//! Error answers, as Twilio writes them: `{"code","message","more_info","status"}`.
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An error answer. Codes are those of Twilio's error dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) retry_after_secs: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_secs: None }
    }

    /// A parameter that cannot be used.
    pub(crate) fn parameter(code: u32, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    pub(crate) fn credentials() -> Self {
        Self::new(401, 20003, "Authenticate")
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(404, 20404, format!("The requested resource {path} was not found"))
    }

    pub(crate) fn too_many_requests(retry_after_secs: Option<u32>) -> Self {
        Self { retry_after_secs, ..Self::new(429, 20429, "Too Many Requests") }
    }

    pub(crate) fn server_error() -> Self {
        Self::new(500, 20500, "Internal Server Error")
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(503, 20503, "Service Unavailable")
    }

    pub(crate) fn call_state() -> Self {
        Self::new(400, 21220, "Call is not in-progress. Cannot redirect or hang up.")
    }

    /// Twilio does not document the HTTP status of 10004 and 22005; 400 is the sandbox's choice.
    pub(crate) fn concurrency() -> Self {
        Self::new(400, 10004, "Call concurrency limit exceeded")
    }

    pub(crate) fn queue_full() -> Self {
        Self::new(400, 22005, "The call queue holds more than 24 hours of calls")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "code": self.code,
            "message": self.message,
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "status": self.status,
        });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Basic realm=\"Twilio API\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}
