//! Recordings of a business's calls: listed, and fetched from the carrier that keeps them.
//!
//! Invariant: only the business's own account is asked, and nothing of a recording is kept here.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::Viewer,
        body::{Ids, Query},
        page::{List, Page},
    },
    attempts::recordings::{self, Recording},
    carriers::CarrierError,
    context::Context,
    error::{ApiError, Slug},
    ids::{AttemptId, RunId},
    runs,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(sound))
}

/// Which recordings to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only those of this run.
    run_id: Option<RunId>,
    /// How many calls to look at, 1 to 500 (50).
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Recordings, newest call first.
#[utoipa::path(get, path = "/v1/recordings", tag = "calls", params(Which), operation_id = "list_recordings",
    responses((status = 200, body = List<Recording>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(which): Query<Which>,
) -> Result<Json<List<Recording>>, ApiError> {
    let page = Page::<AttemptId>::read("recordings", which.limit, which.cursor.as_deref())?;
    let rows = recordings::list(&ctx.stores.tenant, viewer.business, which.run_id, page.after, page.fetch()).await?;
    if let Some(run) = which.run_id
        && rows.is_empty()
        && !runs::store::exists(&ctx.stores.tenant, viewer.business, run).await?
    {
        return Err(ApiError::not_found("run"));
    }
    Ok(Json(List::new(rows, &page, |row| row.attempt_id, |row| row)))
}

/// The recording of a call or of a dial of a run, as the carrier gives it (MP3).
#[utoipa::path(get, path = "/v1/calls/{id}/recording", tag = "calls", params(("id" = AttemptId, Path)),
    operation_id = "call_recording", responses((status = 200, content_type = "audio/mpeg", body = Vec<u8>)))]
async fn sound(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<AttemptId>) -> Result<Response, ApiError> {
    let Some((account, recording)) = recordings::of_call(&ctx.stores.tenant, viewer.business, id).await? else {
        return Err(ApiError::not_found("recording"));
    };
    let Some(account) = ctx.account(viewer.business, &account).await? else {
        return Err(ApiError::new(
            Slug::NotFound,
            "The account that keeps this recording is no longer the business's.",
        ));
    };
    match ctx.carriers.recording(&account, &recording).await {
        Ok(Some(sound)) => {
            let body = Body::from_stream(sound.bytes_stream());
            Ok(([(header::CONTENT_TYPE, "audio/mpeg")], body).into_response())
        }
        Ok(None) => Err(ApiError::not_found("recording")),
        Err(CarrierError::Unauthorized { .. }) => {
            Err(ApiError::new(Slug::Conflict, "The carrier refuses the account's credentials; set them anew."))
        }
        Err(error) => {
            tracing::warn!(attempt.id = %id, %error, "a recording could not be fetched");
            Err(ApiError::new(Slug::Unavailable, "The carrier does not give the recording now.").retry_after(5))
        }
    }
}
