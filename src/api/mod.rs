//! The REST door: requests in, one call of a fact or a flow, problems or answers out.
//!
//! Invariant: every route under `/v1` names who may use it in its first extractor; one that asks for a business reads
//! through `Stores::tenant`, which shows it that business only.
//! Not here: SQL, carrier words and rules; webhooks and pages, which are doors of their own.

pub mod accounts;
pub mod admin;
pub mod agents;
pub mod attempts;
pub mod auth;
pub mod body;
pub mod businesses;
pub mod caller_ids;
pub mod calling_rules;
pub mod calls;
pub mod check;
pub mod dashboard;
pub mod decisions;
pub mod download;
pub mod events;
pub mod frame;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod leads;
pub mod me;
pub mod model_status;
pub mod not_available;
pub mod numbers;
pub mod openapi;
pub mod other_doors;
pub mod page;
pub mod pointer;
pub mod query;
pub mod recordings;
pub mod results;
pub mod run_copies;
pub mod runs;
pub mod sessions;
pub mod status;
pub mod suppression_list;
pub mod suppressions;
pub mod telnyx_accounts;
pub mod transcripts;
pub mod unread;
pub mod voice_accounts;
pub mod why;

use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::context::Context;

/// Every route of the REST door, with what holds for all of them.
pub fn router(ctx: Context) -> Router {
    let (routes, mut document) = routes().split_for_parts();
    let without_query = query::without(&document);
    let not_available = not_available::router(&ctx, &mut document);
    openapi::complete(&mut document);
    openapi::open_parts(&mut document);
    other_doors::describe(&mut document);
    routes
        .merge(not_available)
        .merge(openapi::pages(&document))
        .fallback(frame::not_found)
        .method_not_allowed_fallback(frame::method_not_allowed)
        // The first is the outermost: a panic is an answer before the idempotency layer looks at it.
        .layer((
            middleware::from_fn(unread::layer),
            middleware::from_fn(frame::one_business),
            middleware::from_fn(frame::headers),
            middleware::from_fn(frame::time_limit),
            middleware::from_fn_with_state(ctx.clone(), idempotency::layer),
            CatchPanicLayer::custom(frame::panicked),
            middleware::from_fn_with_state((ctx.clone(), without_query), query::refuse),
        ))
        .with_state(ctx)
}

/// The routes that are built, each with its part of the document.
fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(me::routes())
        .merge(runs::routes())
        .merge(run_copies::routes())
        .merge(leads::routes())
        .merge(jobs::routes())
        .merge(attempts::routes())
        .merge(results::routes())
        .merge(decisions::routes())
        .merge(events::routes())
        .merge(why::routes())
        .merge(calls::routes())
        .merge(agents::routes())
        .merge(sessions::routes())
        .merge(voice_accounts::routes())
        .merge(transcripts::routes())
        .merge(businesses::routes())
        .merge(keys::routes())
        .merge(accounts::routes())
        .merge(telnyx_accounts::routes())
        .merge(recordings::routes())
        .merge(suppressions::routes())
        .merge(suppression_list::routes())
        .merge(numbers::routes())
        .merge(caller_ids::routes())
        .merge(calling_rules::routes())
}
