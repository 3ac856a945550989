//! Runs: made, listed, moved.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Body, Ids, MaybeBody, NoBody, Query, parse},
        idempotency::{LARGEST_JSON, NewId},
        page::{List, Page},
    },
    context::Context,
    dialing::{
        cancel::{self, InFlightThen},
        change,
        create::{self, Created},
        moves::{self, Stopped},
    },
    error::ApiError,
    ids::RunId,
    killpoints::{Point, reach},
    runs::{NewRun, Run, RunRules, Span, store},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(make, list))
        .routes(routes!(one, delete, change))
        .routes(routes!(start))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(stop))
}

/// Make a run, with or without its leads.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", operation_id = "make_run", request_body = NewRun,
    responses((status = 201, description = "The run, a draft", body = Created)))]
async fn make(
    manager: Manager,
    State(ctx): State<Context>,
    NewId(id): NewId,
    Body(new): Body<NewRun, LARGEST_JSON>,
) -> Result<impl IntoResponse, ApiError> {
    let created = create::run(&ctx.stores.tenant, &ctx.settings, (manager.business, RunId(id)), new).await?;
    let location = format!("/v1/runs/{}", created.run.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(created)))
}

/// Which runs.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RunsQuery {
    /// Rows on the page, 1 to 500; 50 where absent.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// With those that were archived; without them where absent.
    archived: Option<bool>,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", operation_id = "list_runs", params(RunsQuery), responses((status = 200, body = List<Run>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(query): Query<RunsQuery>,
) -> Result<Json<List<Run>>, ApiError> {
    let page = Page::read("runs", query.limit, query.cursor.as_deref())?;
    let span = Span { archived: query.archived == Some(true), ..Span::before(page.after) };
    let runs = store::list(&ctx.stores.tenant, viewer.business, span, page.fetch()).await?;
    Ok(Json(List::new(runs, &page, |run| run.id.0, |run| run)))
}

/// One run with its progress, all of one moment.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs", operation_id = "one_run", params(("id" = RunId, Path)), responses((status = 200, body = Run)))]
async fn one(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<RunId>) -> Result<Json<Run>, ApiError> {
    let run = store::one(&ctx.stores.tenant, viewer.business, id).await?;
    run.map(Json).ok_or_else(|| ApiError::not_found("run"))
}

/// Change a run: what is given replaces what it has, from the next call on. What may be changed depends on its state.
#[utoipa::path(patch, path = "/v1/runs/{id}", tag = "runs", operation_id = "change_run", params(("id" = RunId, Path)),
    request_body = NewRun, responses((status = 200, body = Run)))]
async fn change(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    Body(given): Body<Map<String, Value>>,
) -> Result<Json<Run>, ApiError> {
    let fields = given.keys().cloned().collect();
    let merged = |now: &RunRules| {
        let mut whole = serde_json::to_value(now).map_err(anyhow::Error::from)?;
        if let Value::Object(whole) = &mut whole {
            whole.extend(given);
        }
        parse(whole.to_string().as_bytes())
    };
    let run =
        change::run(&ctx.stores.tenant, &ctx.settings, (manager.business, id), &manager.actor, &fields, merged).await?;
    ctx.ring(manager.business).await;
    Ok(Json(run))
}

/// Remove a draft.
#[utoipa::path(delete, path = "/v1/runs/{id}", tag = "runs", operation_id = "delete_run", params(("id" = RunId, Path)),
    responses((status = 204, description = "The draft and its leads are gone")))]
async fn delete(manager: Manager, State(ctx): State<Context>, Ids(id): Ids<RunId>) -> Result<StatusCode, ApiError> {
    moves::delete(&ctx.stores.tenant, manager.business, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begin to dial.
#[utoipa::path(post, path = "/v1/runs/{id}/start", tag = "runs", operation_id = "start_run", params(("id" = RunId, Path)),
    responses((status = 200, body = Run)))]
async fn start(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    _: NoBody,
) -> Result<Json<Run>, ApiError> {
    let run = moves::start(&ctx.stores.tenant, &ctx.settings, (manager.business, id), &manager.actor).await?;
    reach(Point::K10).await;
    ctx.ring(manager.business).await;
    Ok(Json(run))
}

/// Dial nothing new; calls in flight go on.
#[utoipa::path(post, path = "/v1/runs/{id}/pause", tag = "runs", operation_id = "pause_run", params(("id" = RunId, Path)),
    responses((status = 200, body = Stopped)))]
async fn pause(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    _: NoBody,
) -> Result<Json<Stopped>, ApiError> {
    let stopped = moves::pause(&ctx.stores.tenant, manager.business, id, &manager.actor).await?;
    // Another run of the business may have the slots now.
    ctx.ring(manager.business).await;
    Ok(Json(stopped))
}

/// Dial again.
#[utoipa::path(post, path = "/v1/runs/{id}/resume", tag = "runs", operation_id = "resume_run", params(("id" = RunId, Path)),
    responses((status = 200, body = Run)))]
async fn resume(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    _: NoBody,
) -> Result<Json<Run>, ApiError> {
    let run = moves::resume(&ctx.stores.tenant, manager.business, id, &manager.actor).await?;
    ctx.ring(manager.business).await;
    Ok(Json(run))
}

/// How a run is cancelled.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct CancelRun {
    /// What becomes of calls in flight; they are hung up where absent.
    in_flight: InFlightThen,
}

/// End the run: nothing more is dialed, calls in flight are hung up, or go on to their end.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs", params(("id" = RunId, Path)),
    operation_id = "cancel_run", request_body = Option<CancelRun>, responses((status = 200, body = Stopped)))]
async fn stop(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    MaybeBody(asked): MaybeBody<CancelRun>,
) -> Result<Json<Stopped>, ApiError> {
    let stopped = cancel::run(&ctx.stores.tenant, (manager.business, id), asked.in_flight, &manager.actor).await?;
    ctx.ring(manager.business).await;
    Ok(Json(stopped))
}
