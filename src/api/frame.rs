//! What holds for every route: time limit, headers, and problems instead of bare statuses.
//!
//! Not here: request ids and log lines (`server`), who asks (`api::auth`).

use std::{any::Any, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    api::idempotency::is_upload,
    error::{ApiError, Slug},
    stores::tenant,
};

/// Longest time until an answer begins, uploads, downloads and copies of lists and event streams excepted.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The pages of Swagger UI bring their own scripts and draw with inline styles and data images.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// Nothing that the API answers is a page.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// 404 as a problem.
pub async fn not_found() -> ApiError {
    ApiError::new(Slug::NotFound, "There is no such route; /openapi.json lists them all.")
}

/// 405 as a problem; the router adds `Allow`.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(Slug::MethodNotAllowed, "The header Allow lists what this route takes.")
}

/// A panic as a problem. What it said is for the log only.
#[expect(clippy::needless_pass_by_value, reason = "the panic guard hands it over")]
pub fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let said = cause.downcast_ref::<&str>().copied().or_else(|| cause.downcast_ref::<String>().map(String::as_str));
    ApiError::from(anyhow::anyhow!("a handler panicked: {}", said.unwrap_or("without a word"))).into_response()
}

/// Ends a request that takes too long with 503. With an `Idempotency-Key` it runs on, and the next try gets its answer.
pub async fn time_limit(request: Request, next: Next) -> Response {
    if takes_its_time(request.uri().path(), request.headers()) {
        return next.run(request).await;
    }
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!(
                "There was no answer within {} s. Try again, best with an Idempotency-Key.",
                TIME_LIMIT.as_secs()
            );
            ApiError::new(Slug::Unavailable, detail).retry_after(1).into_response()
        }
    }
}

/// True for what goes on for as long as a list is long, or as somebody listens.
fn takes_its_time(path: &str, headers: &HeaderMap) -> bool {
    let list = path.ends_with(".csv") || path.ends_with("/clone") || is_upload(headers);
    list || path.ends_with("/events")
}

/// Every request can be bound to one business, and is by whoever names its caller.
pub async fn one_business(request: Request, next: Next) -> Response {
    tenant::request(next.run(request)).await
}

/// Headers that keep browsers and caches from doing more with an answer than was meant.
pub async fn headers(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (private, docs) = (path.starts_with("/v1"), path.starts_with("/docs"));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut unless_set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    unless_set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    unless_set(header::REFERRER_POLICY, "no-referrer");
    unless_set(header::X_FRAME_OPTIONS, "DENY");
    unless_set(header::CONTENT_SECURITY_POLICY, if docs { DOCS_POLICY } else { API_POLICY });
    if private {
        unless_set(header::CACHE_CONTROL, "no-store");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_take_as_long_as_it_is_and_nothing_else_may() {
        let (none, mut csv) = (HeaderMap::new(), HeaderMap::new());
        csv.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv"));
        for (path, headers, may) in [
            ("/v1/runs/1/clone", &none, true),
            ("/v1/runs/1/leads", &csv, true),
            ("/v1/runs/1/leads", &none, false),
            ("/v1/runs/1/results.csv", &none, true),
            ("/v1/runs/1/events", &none, true),
            ("/v1/runs/1/start", &none, false),
        ] {
            assert_eq!(takes_its_time(path, headers), may, "{path}");
        }
    }
}
