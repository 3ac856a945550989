//! Single calls: listed, looked at, hung up.

use axum::{Json, extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Body, Ids, NoBody, Query},
        idempotency::NewId,
        page::{List, PageQuery},
    },
    attempts::{Call, store},
    context::Context,
    dialing::{
        call::{self, NewCall},
        cancel, untaken,
    },
    error::ApiError,
    ids::AttemptId,
    runs::Span,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(place, list)).routes(routes!(one)).routes(routes!(hangup))
}

/// Call one number now.
#[utoipa::path(post, path = "/v1/calls", tag = "calls", operation_id = "place_call", request_body = NewCall,
    responses((status = 201, description = "The call, admitted", body = Call)))]
async fn place(
    manager: Manager,
    State(ctx): State<Context>,
    NewId(id): NewId,
    Body(new): Body<NewCall>,
) -> Result<(StatusCode, Json<Call>), ApiError> {
    let call = call::place(&ctx, manager.business, AttemptId(id), new).await?;
    Ok((StatusCode::CREATED, Json(call)))
}

/// Single calls, newest first.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(PageQuery), operation_id = "list_calls",
    responses((status = 200, body = List<Call>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Call>>, ApiError> {
    let page = query.page("calls")?;
    let span = Span::before(page.after);
    untaken::of_business(&ctx, viewer.business).await?;
    let calls = store::calls(&ctx.stores.tenant, viewer.business, (span.from, span.to), page.fetch()).await?;
    Ok(Json(List::new(calls, &page, |call| call.id.0, |call| call)))
}

/// One call.
#[utoipa::path(get, path = "/v1/calls/{id}", tag = "calls", params(("id" = AttemptId, Path)), operation_id = "one_call",
    responses((status = 200, body = Call)))]
async fn one(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<AttemptId>) -> Result<Json<Call>, ApiError> {
    untaken::of_business(&ctx, viewer.business).await?;
    let call = store::calls(&ctx.stores.tenant, viewer.business, (id.0, id.0), 1).await?.pop();
    call.map(Json).ok_or_else(|| ApiError::not_found("call"))
}

/// End a call.
#[utoipa::path(post, path = "/v1/calls/{id}/hangup", tag = "calls", operation_id = "hang_up_call", params(("id" = AttemptId, Path)),
    responses((status = 200, body = Call)))]
async fn hangup(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<AttemptId>,
    _: NoBody,
) -> Result<Json<Call>, ApiError> {
    Ok(Json(cancel::call(&ctx, manager.business, id).await?))
}
