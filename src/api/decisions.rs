//! `decisions.csv`: why the jobs of a run were held or skipped, and when they were dialed.

use axum::{body::Bytes, extract::State, response::Response};
use futures::stream;
use sqlx::PgPool;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::Viewer,
        body::Ids,
        download::{self, cell},
    },
    context::Context,
    error::ApiError,
    ids::{JobId, RunId},
    jobs::decisions::{Dialed, Told, dials, page},
    runs,
};

/// Rows of one part.
const PART_ROWS: i64 = 500;
const COLUMNS: [&str; 8] = ["at", "job_id", "to", "zones", "verdict", "rule", "detail", "next_at"];

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(decisions))
}

/// What was decided of the jobs of a run, as CSV: first what held them back, then each dial. Where job_id is empty, it holds for every
/// job whose number may be in the zones.
#[utoipa::path(get, path = "/v1/runs/{id}/decisions.csv", tag = "runs", operation_id = "decisions_of_run", params(("id" = RunId, Path)),
    responses((status = 200, body = String, content_type = "text/csv")))]
async fn decisions(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<RunId>) -> Result<Response, ApiError> {
    if !runs::store::exists(&ctx.stores.tenant, viewer.business, id).await? {
        return Err(ApiError::not_found("run"));
    }
    let next = Next { pg: ctx.stores.tenant.clone(), run: id, at: At::Header };
    Ok(download::file(&format!("decisions-{id}.csv"), stream::try_unfold(next, Next::part)))
}

/// Where the next part of the file begins.
enum At {
    Header,
    Told(i64),
    Dialed(Option<JobId>),
    End,
}

struct Next {
    pg: PgPool,
    run: RunId,
    at: At,
}

impl Next {
    async fn part(mut self) -> anyhow::Result<Option<(Bytes, Self)>> {
        let bytes = match self.at {
            At::End => return Ok(None),
            At::Header => {
                self.at = At::Told(0);
                download::lines([COLUMNS.map(str::to_owned).to_vec()])?
            }
            At::Told(after) => {
                let told = page(&self.pg, self.run, after, PART_ROWS).await?;
                self.at = told.last().map_or(At::Dialed(None), |last| At::Told(last.decision_id));
                download::lines(told.iter().map(told_row))?
            }
            At::Dialed(after) => {
                let (dialed, last) = dials(&self.pg, self.run, after, PART_ROWS).await?;
                self.at = last.map_or(At::End, |last| At::Dialed(Some(last)));
                download::lines(dialed.iter().map(dialed_row))?
            }
        };
        Ok(Some((bytes, self)))
    }
}

fn told_row(told: &Told) -> Vec<String> {
    vec![
        told.at.to_string(),
        told.job_id.map(|id| id.to_string()).unwrap_or_default(),
        // Digits behind a plus sign: no formula.
        told.to_number.clone().unwrap_or_default(),
        told.zones.as_deref().unwrap_or_default().join(" "),
        told.verdict.clone(),
        told.rule.clone(),
        cell(&told.detail).into_owned(),
        told.next_at.map(|at| at.to_string()).unwrap_or_default(),
    ]
}

fn dialed_row(dialed: &Dialed) -> Vec<String> {
    vec![
        dialed.at.to_string(),
        dialed.job_id.to_string(),
        dialed.to_number.clone(),
        String::new(),
        "dialed".to_owned(),
        String::new(),
        format!("Attempt {} by {}.", dialed.n, dialed.carrier),
        String::new(),
    ]
}
