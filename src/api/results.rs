//! `results.csv`: one row per job of a run, with the last attempt's outcome.

use std::sync::Arc;

use axum::{body::Bytes, extract::State, response::Response};
use futures::stream;
use serde_json::Value;
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
    jobs::results::{Outcome, page, variable_names},
    runs,
};

/// Rows of one part.
const PART_ROWS: i64 = 500;
/// The columns before the variables.
const COLUMNS: [&str; 18] = [
    "job_id",
    "external_id",
    "to",
    "state",
    "reason",
    "disposition",
    "attempts",
    "answered_by",
    "first_dialed_at",
    "answered_at",
    "ended_at",
    "duration_secs",
    "from",
    "carrier",
    "carrier_call_id",
    "price",
    "currency",
    "outcome",
];

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(results))
}

/// Every job of a run with its outcome, as CSV; `var.*` are the leads' variables.
#[utoipa::path(get, path = "/v1/runs/{id}/results.csv", tag = "runs", operation_id = "results_of_run", params(("id" = RunId, Path)),
    responses((status = 200, body = String, content_type = "text/csv")))]
async fn results(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<RunId>) -> Result<Response, ApiError> {
    let mut tx = ctx.stores.tenant.begin().await?;
    if !runs::store::exists(&mut *tx, viewer.business, id).await? {
        return Err(ApiError::not_found("run"));
    }
    let variables = variable_names(&mut tx, id).await?;
    tx.commit().await?;
    let next = Next { pg: ctx.stores.tenant.clone(), run: id, variables: variables.into(), at: At::Header };
    Ok(download::file(&format!("results-{id}.csv"), stream::try_unfold(next, Next::part)))
}

/// Where the next part of the file begins.
#[derive(Clone, Copy)]
enum At {
    Header,
    After(Option<JobId>),
    End,
}

struct Next {
    pg: PgPool,
    run: RunId,
    variables: Arc<[String]>,
    at: At,
}

impl Next {
    async fn part(mut self) -> anyhow::Result<Option<(Bytes, Self)>> {
        let bytes = match self.at {
            At::End => return Ok(None),
            At::Header => {
                self.at = At::After(None);
                download::lines([self.header()])?
            }
            At::After(after) => {
                let outcomes = page(&self.pg, self.run, after, PART_ROWS).await?;
                self.at = outcomes.last().map_or(At::End, |last| At::After(Some(last.job_id)));
                download::lines(outcomes.iter().map(|outcome| self.row(outcome)))?
            }
        };
        Ok(Some((bytes, self)))
    }

    fn header(&self) -> Vec<String> {
        let variables = self.variables.iter().map(|name| format!("var.{name}"));
        COLUMNS.into_iter().map(str::to_owned).chain(variables).collect()
    }

    fn row(&self, outcome: &Outcome) -> Vec<String> {
        let variables = self.variables.iter().map(|name| cell(&spelled(outcome.variables.get(name))).into_owned());
        fixed_cells(outcome).into_iter().chain(variables).collect()
    }
}

/// The cells of [`COLUMNS`], in that order.
fn fixed_cells(outcome: &Outcome) -> [String; COLUMNS.len()] {
    let text = |value: &Option<String>| value.as_deref().map(|text| cell(text).into_owned()).unwrap_or_default();
    let time = |value: &Option<crate::clock::Time>| value.map(|at| at.to_string()).unwrap_or_default();
    [
        outcome.job_id.to_string(),
        text(&outcome.external_id),
        // Numbers in E.164 begin with a plus sign by their nature, and hold nothing but digits behind it.
        outcome.to_number.clone(),
        outcome.state.as_str().to_owned(),
        text(&outcome.reason),
        text(&outcome.disposition),
        outcome.attempts.to_string(),
        text(&outcome.answered_by),
        time(&outcome.first_dialed_at),
        time(&outcome.answered_at),
        time(&outcome.ended_at),
        outcome.duration_secs.map(|secs| secs.to_string()).unwrap_or_default(),
        outcome.from_number.clone().unwrap_or_default(),
        text(&outcome.carrier),
        text(&outcome.carrier_call_id),
        text(&outcome.price),
        text(&outcome.currency),
        // What an agent concluded; a message concludes nothing.
        outcome.outcome.as_ref().map(|outcome| cell(&spelled(Some(&outcome.0))).into_owned()).unwrap_or_default(),
    ]
}

/// A variable as a cell: text as it is, nothing for null, else its JSON.
fn spelled(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
