//! All doors of a process on its listeners: request ids, log lines, and an end that lets requests finish.
//!
//! Invariant: a log line names the route by its template, never the path, which may hold a number or a token.
//! Not here: routes (the doors), and when the process stops (`shutdown`).

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue},
    response::Response,
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};
use tracing::Span;
use uuid::Uuid;

use crate::{
    api,
    config::Role,
    context::Context,
    error::ApiError,
    heartbeats::{Doing, Who},
    voice,
    voice::Sessions,
    webhooks,
};

/// The header that carries a request's id back; what a client sends in it is replaced, because it would reach the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every door of the api on one router: REST, webhooks, health.
pub fn doors(ctx: Context) -> Router {
    let webhooks = webhooks::router()
        .layer(CatchPanicLayer::custom(api::frame::panicked))
        .layer(axum::middleware::from_fn(api::frame::time_limit))
        .with_state(ctx.clone());
    // The pages begin here.
    let pages = Router::new().route("/", get(async || ApiError::not_available("", "The pages")));
    api::router(ctx.clone()).merge(api::admin::health(ctx)).merge(webhooks).merge(pages)
}

/// Every door of the calls program on one router: media streams, health.
pub fn media_doors(ctx: Context, sessions: Sessions) -> Router {
    voice::router(sessions)
        .merge(api::admin::health(ctx))
        .fallback(api::frame::not_found)
        .method_not_allowed_fallback(api::frame::method_not_allowed)
        .layer(CatchPanicLayer::custom(api::frame::panicked))
        .layer(axum::middleware::from_fn(api::frame::time_limit))
        .layer(axum::middleware::from_fn(api::frame::headers))
}

/// Serves `router` on `listener` until `stopping` is cancelled and the requests under way are answered.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) -> std::io::Result<()> {
    let service = watched(router).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stopping.cancelled_owned()).await
}

/// The heartbeat of a program that only serves, until it stops.
pub async fn beats(ctx: &Context, role: Role) {
    let who = Who::new(role, &Who::new_name(), &ctx.settings);
    ctx.heartbeats.beat(who, Doing::default, ctx.stopping.clone(), ctx.stopping.clone()).await;
}

/// Everything that a calls program does besides answering at its doors, until its conversations are over or handed over:
/// then `ended` is cancelled.
pub async fn holds_conversations(ctx: &Context, sessions: &Sessions, name: &str, ended: CancellationToken) {
    let who = Who::new(Role::Calls, name, &ctx.settings);
    let models = || json!({ "data": ctx.permits.status(), "voice_activity": ctx.hearing.status() });
    let doing = || Doing { in_flight: sessions.count(), models: Some(models()) };
    let beats = ctx.heartbeats.beat(who, doing, ctx.stopping.clone(), ended.clone());
    tokio::join!(beats, sessions.keep(ended.clone()), sessions.drain(ended.clone()));
}

/// Puts a request id and a log line around every route.
fn watched(router: Router) -> Router {
    let trace = TraceLayer::new_for_http().make_span_with(span).on_request(()).on_response(answered).on_failure(());
    router
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(trace)
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewId))
        .layer(axum::middleware::map_request(|mut request: Request| async move {
            request.headers_mut().remove(REQUEST_ID);
            request
        }))
}

#[derive(Clone, Copy)]
struct NewId;

impl MakeRequestId for NewId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).ok().map(RequestId::new)
    }
}

fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", method = %request.method(), route, request.id = id)
}

fn answered(response: &Response, took: std::time::Duration, _: &Span) {
    let (status, ms) = (response.status().as_u16(), took.as_millis());
    if response.status().is_server_error() {
        tracing::warn!(status, ms, "answered");
    } else {
        tracing::debug!(status, ms, "answered");
    }
}
