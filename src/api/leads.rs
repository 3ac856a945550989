//! Leads into a run, and the rows that did not become jobs.

use axum::{
    Json,
    body::{Body as HttpBody, Bytes},
    extract::{FromRequest, Request, State},
    response::Response,
};
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{self, Body, Ids, Query},
        download::{self, cell},
        idempotency::{LARGEST_JSON, NewId, Print, is_upload},
        page::{List, PageQuery},
    },
    clock::Time,
    context::Context,
    dialing::import::{self, Imported, Upload},
    error::{ApiError, Slug},
    ids::{ImportId, RunId},
    leads::{
        imports::{self, After, ImportState, Kept, Span, Stored},
        store::{Counts, Import},
    },
    runs::{self, LeadCounts, RunState},
};

/// The largest CSV file that is taken, in bytes: ten million rows and more.
const LARGEST_CSV: usize = 1024 * 1024 * 1024;
/// Rows of one part of `rejected.csv`.
const PART_ROWS: i64 = 1000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(add)).routes(routes!(list)).routes(routes!(one)).routes(routes!(rejected))
}

/// Add leads to a run, also to a running one: a JSON array, or a CSV file with a column `to` or `phone`, and where you like
/// `external_id`, `time_zone` (IANA), `priority`, `not_before`, `not_after` (RFC 3339 with an offset). Every other column is a
/// variable. All of it goes in or nothing; while it does, `GET /v1/runs/{id}/imports` tells how far it has come. With an
/// `Idempotency-Key` a list that was sent again after a crash goes in once.
#[utoipa::path(post, path = "/v1/runs/{id}/leads", tag = "runs", operation_id = "add_leads", params(("id" = RunId, Path)),
    request_body(content((Vec<Value> = "application/json"), (String = "text/csv"))), responses((status = 200, body = Imported)))]
async fn add(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(run): Ids<RunId>,
    NewId(id): NewId,
    request: Request,
) -> Result<Json<Imported>, ApiError> {
    let print = request.extensions().get::<Print>().cloned();
    let upload = read(request).await?;
    let hash = print.map(|print| print.so_far());
    let import = Import { id: ImportId(id), run, business: manager.business };
    let (imported, state) = import::into_run(&ctx.stores.tenant, import, hash.as_deref(), upload).await?;
    if state == RunState::Running {
        ctx.ring(manager.business).await;
    }
    Ok(Json(imported))
}

/// Either kind of list, wholly here before the first row is stored.
async fn read(request: Request) -> Result<Upload<tokio::fs::File>, ApiError> {
    if is_upload(request.headers()) {
        return Ok(Upload::Csv(spool(request.into_body()).await?));
    }
    match Body::<Vec<Value>, LARGEST_JSON>::from_request(request, &()).await {
        Ok(Body(leads)) => Ok(Upload::Json(leads)),
        Err(error) if error.slug() == Slug::UnsupportedMediaType => {
            Err(ApiError::new(Slug::UnsupportedMediaType, "Send leads as application/json or as text/csv."))
        }
        Err(error) => Err(error),
    }
}

/// Writes an upload to a file without a name, so that neither memory nor a connection to Postgres waits for the client.
pub(super) async fn spool(body: HttpBody) -> Result<tokio::fs::File, ApiError> {
    let file = tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(anyhow::Error::from)?;
    let mut file = tokio::fs::File::from_std(file.map_err(anyhow::Error::from)?);
    let (mut stream, mut bytes) = (body.into_data_stream(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|_| ApiError::new(Slug::Validation, "The upload broke off before its end; send it again."))?;
        bytes += chunk.len();
        if bytes > LARGEST_CSV {
            return Err(body::too_large(LARGEST_CSV));
        }
        file.write_all(&chunk).await.map_err(anyhow::Error::from)?;
    }
    file.rewind().await.map_err(anyhow::Error::from)?;
    Ok(file)
}

/// What an upload came to, or how far it has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Earlier {
    import_id: ImportId,
    run_id: RunId,
    state: ImportState,
    #[serde(flatten)]
    counts: LeadCounts,
    created_at: Time,
    rejected_url: String,
}

impl Earlier {
    fn of(run_id: RunId, stored: Stored) -> Self {
        let Stored { id, state, counts, created_at, .. } = stored;
        let Counts { rows, accepted, duplicates, suppressed, rejected } = counts;
        let counts = LeadCounts { rows, accepted, duplicates, suppressed, rejected };
        let rejected_url = format!("/v1/runs/{run_id}/rejected.csv?import={id}");
        Self { import_id: id, run_id, state, counts, created_at, rejected_url }
    }
}

/// The uploads of a run, newest first: those that are in, and the one that goes in now or that broke off last. One of up to a
/// thousand rows is shown when it is in.
#[utoipa::path(get, path = "/v1/runs/{id}/imports", tag = "runs", operation_id = "list_imports",
    params(("id" = RunId, Path), PageQuery), responses((status = 200, body = List<Earlier>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(run): Ids<RunId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Earlier>>, ApiError> {
    let (pg, page) = (&ctx.stores.tenant, query.page("imports")?);
    let stored = imports::list(pg, (viewer.business, run), Span::before(page.after), page.fetch()).await?;
    if stored.is_empty() && !runs::store::exists(pg, viewer.business, run).await? {
        return Err(ApiError::not_found("run"));
    }
    Ok(Json(List::new(stored, &page, |stored| stored.id.0, |stored| Earlier::of(run, stored))))
}

/// One upload; its counts grow while it goes in.
#[utoipa::path(get, path = "/v1/runs/{id}/imports/{import_id}", tag = "runs",
    params(("id" = RunId, Path), ("import_id" = ImportId, Path)), operation_id = "one_import",
    responses((status = 200, body = Earlier)))]
async fn one(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids((run, id)): Ids<(RunId, ImportId)>,
) -> Result<Json<Earlier>, ApiError> {
    let import = Import { id, run, business: viewer.business };
    let stored = imports::one(&ctx.stores.tenant, &import).await?.ok_or_else(|| ApiError::not_found("import"))?;
    Ok(Json(Earlier::of(run, stored)))
}

/// Which rejected rows.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only those of one upload.
    import: Option<ImportId>,
}

/// Every row that did not become a job, as CSV, each with its reason.
#[utoipa::path(get, path = "/v1/runs/{id}/rejected.csv", tag = "runs", operation_id = "rejected_rows", params(("id" = RunId, Path), Which),
    responses((status = 200, body = String, content_type = "text/csv")))]
async fn rejected(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(run): Ids<RunId>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    if !runs::store::exists(&ctx.stores.tenant, viewer.business, run).await? {
        return Err(ApiError::not_found("run"));
    }
    if let Some(id) = which.import
        && imports::one(&ctx.stores.tenant, &Import { id, run, business: viewer.business }).await?.is_none()
    {
        return Err(ApiError::not_found("import"));
    }
    Ok(download::file(&format!("rejected-{run}.csv"), rejected_parts(ctx.stores.tenant.clone(), run, which.import)))
}

/// The header, then pages of rows until there are no more.
fn rejected_parts(pg: PgPool, run: RunId, import: Option<ImportId>) -> impl Stream<Item = anyhow::Result<Bytes>> {
    let header = ["import_id", "line", "column", "code", "detail", "value"];
    let first = stream::once(async move { download::lines([header.to_vec()]) });
    let pages = stream::try_unfold(Some(After::default()), move |after| {
        let pg = pg.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            let rows = imports::rejected(&pg, run, import, after, PART_ROWS).await?;
            let next = rows.last().map(|last| After { import: last.import.0, line: last.row.line.cast_signed() });
            anyhow::Ok(Some((download::lines(rows.iter().map(cells))?, next)))
        }
    });
    first.chain(pages)
}

fn cells(kept: &Kept) -> Vec<String> {
    let row = &kept.row;
    let text = |value: Option<&str>| cell(value.unwrap_or_default()).into_owned();
    vec![
        kept.import.to_string(),
        row.line.to_string(),
        text(row.column.as_deref()),
        text(Some(&row.code)),
        text(Some(&row.detail)),
        text(row.value.as_deref()),
    ]
}
