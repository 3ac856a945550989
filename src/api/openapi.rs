//! `/openapi.json` and `/docs`: the document grows out of the handlers, so that it cannot forget one.
//!
//! Not here: what single routes say about themselves (beside each handler).

use std::collections::HashMap;

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    routing::get,
};
use utoipa::{
    OpenApi as _, ToSchema,
    openapi::{
        Components, Content, OpenApi, Ref, RefOr, Required, Response,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::{AdditionalProperties, ArrayItems, Object, Schema, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{api::auth::BUSINESS_HEADER, error::FieldError};

/// What every refusal looks like (RFC 9457).
#[derive(serde::Serialize, ToSchema)]
struct Problem {
    /// `/problems/` and a slug that programs may decide by.
    #[schema(examples("/problems/validation"))]
    r#type: String,
    /// The kind of problem, for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong here and what to do.
    detail: String,
    /// The fields that do not fit.
    errors: Option<Vec<FieldError>>,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Rollcall", description = "Lists in, every number called once, the outcome out."),
    components(schemas(Problem, FieldError))
)]
struct Document;

/// Statuses that every route under /v1 may answer, and those that only a request with a body may.
const ALWAYS: [(&str, &str); 8] = [
    ("401", "unauthenticated: no key, or one that is unknown or revoked"),
    ("403", "forbidden: a key that may not do this"),
    ("404", "not-found: no such thing, or another business's"),
    ("409", "run-state, conflict or idempotency-in-progress"),
    ("422", "validation, not-available or idempotency-mismatch; errors points at the fields"),
    ("429", "too-many-requests: too many bad keys from this address"),
    ("500", "internal: a fault of ours"),
    ("503", "unavailable: a store cannot be reached now, or took too long; Retry-After says when to try again"),
];
const WITH_BODY: [(&str, &str); 2] =
    [("413", "too-large: more bytes than allowed"), ("415", "unsupported-media-type: not read here")];

/// The document before any route.
#[must_use]
pub fn base() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_with(Components::new);
    for (name, what) in [
        (
            "operator",
            "The operator key (ROLLCALL_OPERATOR_KEY). On a business's route with the header Rollcall-Business.",
        ),
        ("business", "A business's key, rk_…: a viewer reads, a manager acts."),
    ] {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
        components.add_security_scheme(name, SecurityScheme::Http(bearer));
    }
    for (status, what) in ALWAYS.iter().chain(&WITH_BODY) {
        components.responses.insert(problem_name(status), RefOr::T(problem(what)));
    }
    document
}

/// Adds to every route what holds for all of them: keys, headers, problems.
pub fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/v1") {
            let of_operator = path.starts_with("/v1/businesses");
            let posts = item.post.is_some();
            for operation in operations(item) {
                complete_one(operation, of_operator);
            }
            if let (true, Some(post)) = (posts, &mut item.post) {
                let what = "1 to 255 visible characters: the same key makes one effect and one answer, for a day.";
                add_header(post, "Idempotency-Key", what);
            }
        }
    }
}

/// What a shape is made of besides its own fields may be closed where it is sent, and not where it is a part: no value would fit both.
/// So the part stands there itself, open.
pub fn open_parts(document: &mut OpenApi) {
    let Some(components) = &mut document.components else { return };
    let opened: HashMap<String, Object> = components.schemas.iter().filter_map(opened).collect();
    components.schemas.values_mut().for_each(|schema| open_within(schema, &opened));
}

fn open_within(schema: &mut RefOr<Schema>, opened: &HashMap<String, Object>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => object.properties.values_mut().for_each(|field| open_within(field, opened)),
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                open_within(items, opened);
            }
        }
        Schema::AllOf(whole) => {
            for part in &mut whole.items {
                if let RefOr::Ref(named) = part
                    && let Some(object) = opened.get(&named.ref_location)
                {
                    *part = RefOr::T(Schema::Object(object.clone()));
                }
            }
        }
        _ => {}
    }
}

/// A shape that allows no other fields than its own, by how others name it, and open.
fn opened((name, schema): (&String, &RefOr<Schema>)) -> Option<(String, Object)> {
    let RefOr::T(Schema::Object(object)) = schema else { return None };
    let is_closed = matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false)));
    let mut open = object.clone();
    open.additional_properties = None;
    is_closed.then(|| (Ref::from_schema_name(name).ref_location, open))
}

/// OpenAPI wants a word on every answer: where none was written, the status has one.
fn describe_answers(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let status = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            response.description = status.and_then(|code| code.canonical_reason()).unwrap_or("An answer").to_owned();
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn complete_one(operation: &mut Operation, of_operator: bool) {
    describe_answers(operation);
    let keys: &[&str] = if of_operator { &["operator"] } else { &["business", "operator"] };
    operation.security = Some(keys.iter().map(|key| SecurityRequirement::new(*key, [""; 0])).collect());
    if !of_operator {
        add_header(
            operation,
            BUSINESS_HEADER,
            "The business's id; the operator key needs it, a business's key does not.",
        );
    }
    let bodies: &[_] = if operation.request_body.is_some() { &WITH_BODY } else { &[] };
    for (status, _) in ALWAYS.iter().chain(bodies) {
        let shared = || RefOr::Ref(Ref::from_response_name(problem_name(status)));
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(shared);
    }
}

/// What a problem of this status is called where all operations share it.
fn problem_name(status: &str) -> String {
    format!("Problem{status}")
}

fn problem(what: &str) -> Response {
    let mut response = Response::new(what);
    let schema = Content::new(Some(Ref::from_schema_name("Problem")));
    response.content.insert("application/problem+json".into(), schema.into());
    response
}

fn add_header(operation: &mut Operation, name: &str, what: &str) {
    let header = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(Schema::from(Object::with_type(Type::String))))
        .build();
    operation.parameters.get_or_insert_default().push(header.into());
}

/// The document and the page that shows it. The document is written down once: as a tree it takes several MB.
///
/// # Panics
/// Never: a document is always JSON.
pub fn pages<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let text = Bytes::from(document.to_json().expect("a document is JSON"));
    let headers = [(header::CACHE_CONTROL, "no-cache"), (header::CONTENT_TYPE, "application/json")];
    let json = move || std::future::ready((headers, text.clone()));
    Router::new().route("/openapi.json", get(json)).merge(SwaggerUi::new("/docs").config(Config::from("/openapi.json")))
}
