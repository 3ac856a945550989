//! Routes whose rule is not built yet: refused by name, never accepted and ignored.
//!
//! Invariant: they ask for a key first, as they will when they are built.
//! Not here: single fields that are not available (the routes that have them say so).

use axum::{
    Router,
    extract::FromRequestParts,
    http::{Method, request::Parts},
    routing::{MethodFilter, on},
};
use utoipa::openapi::{
    OpenApi, Required,
    path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn},
    schema::{Object, Schema, Type},
};

use crate::{
    api::auth::{Manager, Operator, Viewer},
    context::Context,
    error::{ApiError, Slug},
};

/// Method and path of each, and what it is. A route that gets built leaves this list.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST GET", "/v1/hooks", "Customer webhooks"),
    ("GET PATCH DELETE", "/v1/hooks/{id}", "Customer webhooks"),
    ("GET", "/v1/hooks/{id}/deliveries", "Customer webhooks"),
    ("POST", "/v1/hooks/{id}/replay", "Customer webhooks"),
    ("GET", "/v1/audit", "Reading the audit trail"),
];

/// The routes; `document` is told of them.
pub fn router(ctx: &Context, document: &mut OpenApi) -> Router<Context> {
    let mut router = Router::new();
    for (methods, path, what) in ROUTES {
        for method in methods.split(' ') {
            let Some((filter, documented)) = known(method) else { continue };
            let ctx = ctx.clone();
            router = router.route(path, on(filter, move |parts: Parts| refuse(ctx, parts, what)));
            let said = format!("Not available yet ({what}): answers 422 not-available.");
            let operation = OperationBuilder::new().tag("not available yet").summary(Some(said));
            let operation = operation.operation_id(Some(format!("{}_{}", method.to_lowercase(), place(path))));
            let operation = names(path).fold(operation, |operation, name| operation.parameter(named(name))).build();
            document.paths.add_path_operation(path, vec![documented], operation);
        }
    }
    router
}

/// `/v1/hooks/{id}` is `hooks_id`.
fn place(path: &str) -> String {
    path.trim_start_matches("/v1/").replace('/', "_").replace(['{', '}'], "")
}

/// What a path names, between braces.
fn names(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn named(name: &str) -> ParameterBuilder {
    let schema = Schema::from(Object::with_type(Type::String));
    ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True).schema(Some(schema))
}

async fn refuse(ctx: Context, mut parts: Parts, what: &'static str) -> Result<(), ApiError> {
    if parts.uri.path().starts_with("/v1/businesses") {
        Operator::from_request_parts(&mut parts, &ctx).await?;
    } else if parts.method == Method::GET {
        Viewer::from_request_parts(&mut parts, &ctx).await?;
    } else {
        Manager::from_request_parts(&mut parts, &ctx).await?;
    }
    Err(ApiError::new(Slug::NotAvailable, format!("{what}: not available yet.")))
}

fn known(method: &str) -> Option<(MethodFilter, HttpMethod)> {
    Some(match method {
        "GET" => (MethodFilter::GET, HttpMethod::Get),
        "POST" => (MethodFilter::POST, HttpMethod::Post),
        "PUT" => (MethodFilter::PUT, HttpMethod::Put),
        "PATCH" => (MethodFilter::PATCH, HttpMethod::Patch),
        "DELETE" => (MethodFilter::DELETE, HttpMethod::Delete),
        _ => return None,
    })
}
