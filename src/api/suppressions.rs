//! Numbers that a business does not call.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Body, Ids, Query},
        check::Check,
        page::{List, PageQuery},
    },
    businesses::{
        rules,
        suppressions::{self, Put, Suppression},
    },
    clock::Time,
    context::Context,
    error::{ApiError, Slug},
    ids::BusinessId,
};

/// Most characters of a note.
const NOTE_LIMIT: usize = 2_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(put, get, delete))
}

/// A number that is not called.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Suppression)]
struct SuppressionView {
    number: String,
    source: String,
    note: Option<String>,
    expires_at: Option<Time>,
    created_at: Time,
}

impl From<Suppression> for SuppressionView {
    fn from(row: Suppression) -> Self {
        Self {
            number: row.number,
            source: row.source,
            note: row.note,
            expires_at: row.expires_at.map(Into::into),
            created_at: row.created_at.into(),
        }
    }
}

/// A number to be suppressed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSuppression {
    /// E.164.
    number: String,
    /// Where the wish came from; `api` where absent.
    source: Option<String>,
    /// Anything to remember.
    note: Option<String>,
    /// After this the number may be called again; never where null.
    expires_at: Option<DateTime<Utc>>,
}

/// On what terms the number in the path is suppressed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SuppressionTerms {
    /// Where the wish came from; `api` where absent.
    source: Option<String>,
    /// Anything to remember.
    note: Option<String>,
    /// After this the number may be called again; never where null.
    expires_at: Option<DateTime<Utc>>,
}

/// Suppress a number: 201 where it is new to the list, 200 where it was there
#[utoipa::path(post, path = "/v1/suppressions", tag = "numbers", request_body = NewSuppression,
    responses((status = 201, body = SuppressionView), (status = 200, body = SuppressionView)))]
async fn create(
    manager: Manager,
    State(ctx): State<Context>,
    Body(new): Body<NewSuppression>,
) -> Result<(StatusCode, Json<SuppressionView>), ApiError> {
    let terms = SuppressionTerms { source: new.source, note: new.note, expires_at: new.expires_at };
    suppress(&ctx, manager.business, &new.number, terms).await
}

/// List suppressed numbers in their order, expired ones too
#[utoipa::path(get, path = "/v1/suppressions", tag = "numbers", params(PageQuery),
    responses((status = 200, body = List<SuppressionView>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<SuppressionView>>, ApiError> {
    let page = query.page::<String>()?;
    let rows = suppressions::list(&ctx.stores.tenant, viewer.business, page.after.as_deref(), page.fetch()).await?;
    Ok(Json(List::new(rows, &page, |row| row.number.clone(), Into::into)))
}

/// Suppress a number: its jobs that wait end as skipped
#[utoipa::path(put, path = "/v1/suppressions/{number}", tag = "numbers", params(("number" = String, Path)),
    request_body = SuppressionTerms,
    responses((status = 200, body = SuppressionView), (status = 201, body = SuppressionView)))]
async fn put(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
    Body(terms): Body<SuppressionTerms>,
) -> Result<(StatusCode, Json<SuppressionView>), ApiError> {
    suppress(&ctx, manager.business, &number, terms).await
}

/// Look at one suppressed number
#[utoipa::path(get, path = "/v1/suppressions/{number}", tag = "numbers", params(("number" = String, Path)),
    responses((status = 200, body = SuppressionView)))]
async fn get(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
) -> Result<Json<SuppressionView>, ApiError> {
    number_in_path(&number)?;
    let row = suppressions::get(&ctx.stores.tenant, viewer.business, &number).await?;
    row.map(|row| Json(row.into())).ok_or_else(not_suppressed)
}

/// Let a number be called again; jobs that were skipped stay skipped
#[utoipa::path(delete, path = "/v1/suppressions/{number}", tag = "numbers", params(("number" = String, Path)),
    responses((status = 204)))]
async fn delete(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
) -> Result<StatusCode, ApiError> {
    number_in_path(&number)?;
    if !suppressions::delete(&ctx.stores.tenant, manager.business, &number).await? {
        return Err(not_suppressed());
    }
    ctx.ring(manager.business).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn suppress(
    ctx: &Context,
    business: BusinessId,
    number: &str,
    terms: SuppressionTerms,
) -> Result<(StatusCode, Json<SuppressionView>), ApiError> {
    let mut check = Check::new();
    check.field("/number", rules::e164(number));
    let source =
        terms.source.as_deref().map_or(Some("api".into()), |source| check.field("/source", rules::name(source)));
    check.field("/note", rules::free_text(terms.note.as_deref().unwrap_or_default(), NOTE_LIMIT));
    check.done()?;
    let (note, until) = (terms.note.as_deref(), terms.expires_at);
    let source = source.unwrap_or_default();
    let put = suppressions::put(&ctx.stores.tenant, business, number, &source, note, until).await?;
    let (row, put) = put.ok_or_else(|| ApiError::not_found("business"))?;
    ctx.ring(business).await;
    let status = if put == Put::Added { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(row.into())))
}

/// Text that is no number cannot be on the list.
fn number_in_path(number: &str) -> Result<(), ApiError> {
    rules::e164(number).map_err(|_| not_suppressed())
}

fn not_suppressed() -> ApiError {
    ApiError::new(Slug::NotFound, "This number is not suppressed.")
}
