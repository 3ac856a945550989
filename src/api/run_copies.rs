//! Runs looked at ahead, tried on one phone, made again, put away.

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
        body::{Body, Ids, MaybeBody, NoBody},
        idempotency::NewId,
    },
    attempts::Call,
    context::Context,
    dialing::{
        again::{self, Again},
        call, moves,
        preview::{self, Preview},
    },
    error::ApiError,
    ids::{AttemptId, RunId},
    runs::{Run, store},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(look_ahead))
        .routes(routes!(try_it))
        .routes(routes!(copy))
        .routes(routes!(archive))
}

/// What the run would do: how many, when, what is held back and why, until when, at what cost.
#[utoipa::path(post, path = "/v1/runs/{id}/preview", tag = "runs", operation_id = "preview_run", params(("id" = RunId, Path)),
    responses((status = 200, body = Preview)))]
async fn look_ahead(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    _: NoBody,
) -> Result<Json<Preview>, ApiError> {
    Ok(Json(preview::of_run(&ctx.stores, &ctx.settings, viewer.business, id).await?))
}

/// Whom to call for a trial.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct TestCall {
    /// Whom to call.
    to: String,
    /// What the `{{names}}` of the message stand for.
    #[serde(default)]
    #[schema(value_type = Object)]
    variables: Map<String, Value>,
}

/// Call one phone as the run would: a single call, beside its list.
#[utoipa::path(post, path = "/v1/runs/{id}/test", tag = "runs", operation_id = "test_run", params(("id" = RunId, Path)),
    request_body = TestCall, responses((status = 201, body = Call)))]
async fn try_it(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    NewId(call): NewId,
    Body(test): Body<TestCall>,
) -> Result<(StatusCode, Json<Call>), ApiError> {
    let run = store::one(&ctx.stores.tenant, manager.business, id).await?;
    let run = run.ok_or_else(|| ApiError::not_found("run"))?;
    let new = call::NewCall::of_run(run.id, run.rules, test.to, test.variables);
    let call = call::place(&ctx, manager.business, AttemptId(call), new).await?;
    Ok((StatusCode::CREATED, Json(call)))
}

/// Make a draft of the same rules, with none, all or the unreached of its leads. The answer comes when they are copied, all or none, which
/// takes as long as an upload of so many; with an `Idempotency-Key` a copy that was asked for again is made once.
#[utoipa::path(post, path = "/v1/runs/{id}/clone", tag = "runs", operation_id = "clone_run", params(("id" = RunId, Path)),
    request_body = Option<Again>, responses((status = 201, body = Run)))]
async fn copy(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    NewId(new): NewId,
    MaybeBody(asked): MaybeBody<Again>,
) -> Result<impl IntoResponse, ApiError> {
    let run = again::run(&ctx.stores.tenant, manager.business, id, RunId(new), &asked).await?;
    let location = format!("/v1/runs/{}", run.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(run)))
}

/// Put a run away that is over, or a draft: lists do not show it any more.
#[utoipa::path(post, path = "/v1/runs/{id}/archive", tag = "runs", operation_id = "archive_run", params(("id" = RunId, Path)),
    responses((status = 200, body = Run)))]
async fn archive(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
    _: NoBody,
) -> Result<Json<Run>, ApiError> {
    Ok(Json(moves::archive(&ctx.stores.tenant, manager.business, id).await?))
}
