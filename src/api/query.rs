//! What stands behind the question mark: refused where a route takes nothing there, never ignored.
//!
//! Invariant: the document says which routes take what, so that a route that forgets to say it takes nothing.
//! Not here: the fields of those that do (`api::body::Query`).

use std::{collections::HashSet, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use utoipa::openapi::{OpenApi, RefOr, path::ParameterIn};

use crate::{
    api::auth::Caller,
    context::Context,
    error::{ApiError, FieldError},
};

/// Most fields that one answer names.
const FIELDS_MAX: usize = 100;

/// The routes that take no query, by their paths and methods.
pub type Without = Arc<HashSet<(String, Method)>>;

/// Reads them from the document.
#[must_use]
pub fn without(document: &OpenApi) -> Without {
    let mut without = HashSet::new();
    for (path, item) in &document.paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let takes = operation
                .parameters
                .iter()
                .flatten()
                .any(|one| matches!(one, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query));
            if !takes {
                without.insert((path.clone(), method));
            }
        }
    }
    Arc::new(without)
}

/// 422 for a request that says something where its route takes nothing. Whoever has no key is told that, and nothing else: all of these
/// routes want one.
pub async fn refuse(State((ctx, without)): State<(Context, Without)>, request: Request, next: Next) -> Response {
    let Some(query) = request.uri().query() else { return next.run(request).await };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    if !path.is_some_and(|path| without.contains(&(path, method))) {
        return next.run(request).await;
    }
    let wrong: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
        .take(FIELDS_MAX)
        .map(|(name, _)| FieldError::new(format!("?{name}"), "unknown_field", "This route takes no query."))
        .collect();
    if wrong.is_empty() {
        return next.run(request).await;
    }
    match Caller::from_request_parts(&mut request.into_parts().0, &ctx).await {
        Ok(_) => ApiError::validation(wrong).into_response(),
        Err(error) => error.into_response(),
    }
}
