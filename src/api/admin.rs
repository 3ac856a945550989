//! The routes of `ADMIN_ADDR`, which only operators reach, and the two of every listener.
//!
//! Not here: what the figures are made of (`api::status`).

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    api::{
        dashboard::{self, Dashboard},
        frame,
        model_status::{self, Models},
        status::{self, Figures, Programs, Status},
    },
    context::Context,
    dialing::overview,
    error::{ApiError, Slug},
    stores::Stores,
};

/// `/healthz` and `/readyz`, for every listener.
pub fn health(ctx: Context) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(ctx)
}

/// What `ADMIN_ADDR` says while the program waits at its start for a store or for the schema: it lives, it is not ready, and which
/// store does not answer.
pub fn starting(stores: Stores) -> Router {
    let readyz = async move || {
        let body = json!({ "status": "starting", "away": stores.away().await });
        (StatusCode::SERVICE_UNAVAILABLE, [(header::CACHE_CONTROL, "no-store")], Json(body))
    };
    let not_yet = async || ApiError::new(Slug::Unavailable, "The program is starting.").retry_after(1);
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).fallback(not_yet)
}

/// The routes of `ADMIN_ADDR`; `process` writes out the figures of this process.
pub fn router(ctx: Context, process: PrometheusHandle) -> Router {
    let metrics = move |State(ctx): State<Context>| {
        let process = process.clone();
        async move {
            overview::measure(&ctx).await;
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], process.render())
        }
    };
    Router::new()
        .route("/metrics.json", get(figures))
        .route("/status", get(whole))
        .route("/status/workers", get(workers))
        .route("/status/models", get(models))
        .route("/dashboard", get(board))
        .route("/metrics", get(metrics))
        .with_state(ctx.clone())
        .merge(health(ctx))
        .fallback(frame::not_found)
        .method_not_allowed_fallback(frame::method_not_allowed)
        .layer((
            middleware::from_fn(frame::headers),
            middleware::from_fn(frame::time_limit),
            CatchPanicLayer::custom(frame::panicked),
        ))
}

/// The process is there. Says nothing of the stores: a restart would not bring them back.
async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// 503 while a store is away or the process stops, so that nobody is sent here.
async fn readyz(State(ctx): State<Context>) -> impl IntoResponse {
    let away = ctx.stores.away().await;
    let stopping = ctx.stopping.is_cancelled();
    let ready = away.is_empty() && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if stopping {
        "stopping"
    } else if ready {
        "ready"
    } else {
        "unavailable"
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(json!({ "status": word, "away": away })))
}

async fn figures(State(ctx): State<Context>) -> Result<Json<Figures>, ApiError> {
    status::figures(&ctx).await.map(Json)
}

async fn whole(State(ctx): State<Context>) -> Result<Json<Status>, ApiError> {
    status::status(&ctx).await.map(Json)
}

async fn workers(State(ctx): State<Context>) -> Result<Json<Programs>, ApiError> {
    status::workers(&ctx).await.map(Json)
}

async fn models(State(ctx): State<Context>) -> Result<Json<Models>, ApiError> {
    model_status::models(&ctx).await.map(Json)
}

async fn board(State(ctx): State<Context>) -> Json<Dashboard> {
    Json(dashboard::dashboard(&ctx).await)
}
