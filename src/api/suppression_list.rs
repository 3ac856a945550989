//! A suppression list as a file, as `POST /v1/suppressions` takes it back.

use axum::{
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use sqlx::PgPool;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::ListViewer,
        download::{self, cell},
        suppressions::pool,
    },
    businesses::suppressions::{self, List, Suppression},
    clock::Time,
    context::Context,
};

/// Rows of one part of the file.
const PART_ROWS: i64 = 1000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(export))
}

/// The whole list as CSV, with the evidence of each entry, expired ones too; a prefix ends with a star
#[utoipa::path(get, path = "/v1/suppressions.csv", tag = "numbers", operation_id = "export_suppressions",
    responses((status = 200, body = String, content_type = "text/csv")))]
async fn export(ListViewer(list): ListViewer, State(ctx): State<Context>) -> Response {
    download::file("suppressions.csv", parts(pool(&ctx, list).clone(), list)).into_response()
}

/// The header, then pages of rows until there are no more.
fn parts(pg: PgPool, list: List) -> impl Stream<Item = anyhow::Result<Bytes>> {
    let header = ["number", "source", "note", "expires_at", "evidence", "evidence_url", "evidence_at", "created_at"];
    let first = stream::once(async move { download::lines([header.to_vec()]) });
    let pages = stream::try_unfold(Some(String::new()), move |after| {
        let pg = pg.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            let rows = suppressions::list(&pg, list, Some(&after), PART_ROWS).await?;
            let next = rows.last().map(|last| last.number.clone());
            anyhow::Ok(Some((download::lines(rows.iter().map(cells))?, next)))
        }
    });
    first.chain(pages)
}

fn cells(row: &Suppression) -> Vec<String> {
    let text = |value: Option<&str>| cell(value.unwrap_or_default()).into_owned();
    let time = |at| Option::map_or(at, String::new(), |at| Time::from(at).to_string());
    vec![
        row.number.clone(),
        text(Some(&row.source)),
        text(row.note.as_deref()),
        time(row.expires_at),
        text(row.evidence.as_deref()),
        text(row.evidence_url.as_deref()),
        time(row.evidence_at),
        time(Some(row.created_at)),
    ]
}
