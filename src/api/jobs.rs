//! Jobs: found, looked at, cancelled.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Ids, NoBody, Query},
        page::{List, Page},
    },
    attempts::{self, Attempt},
    context::Context,
    dialing::{cancel, windows},
    error::{ApiError, FieldError},
    ids::{BusinessId, JobId, RunId},
    jobs::{
        Job, JobState,
        decisions::{self, Decision},
        read::{self, Filter},
    },
    leads::E164,
    runs,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(of_run)).routes(routes!(find)).routes(routes!(one)).routes(routes!(stop))
}

/// A job with its attempts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct JobDetail {
    #[serde(flatten)]
    job: Job,
    /// In the order of the dials.
    attempts: Vec<Attempt>,
    /// Why it was dialed, held or skipped, in the order of time.
    decisions: Vec<Decision>,
}

impl JobDetail {
    async fn of(ctx: &Context, business: BusinessId, mut job: Job) -> Result<Json<Self>, ApiError> {
        windows::tell_open(&ctx.stores.tenant, business, std::slice::from_mut(&mut job), &ctx.settings).await?;
        let attempts = attempts::store::list(&ctx.stores.tenant, business, None, Some(job.id)).await?;
        let decisions = decisions::of_job(&ctx.stores.tenant, business, job.id).await?;
        Ok(Json(Self { job, attempts, decisions }))
    }
}

/// Which jobs of a run.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfRun {
    /// Only those in this state.
    state: Option<JobState>,
    /// Rows on the page, 1 to 500; 50 where absent.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Jobs of a run, in the order of its list.
#[utoipa::path(get, path = "/v1/runs/{id}/jobs", tag = "runs", params(("id" = RunId, Path), OfRun),
    operation_id = "jobs_of_run", responses((status = 200, body = List<Job>)))]
async fn of_run(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(run): Ids<RunId>,
    Query(which): Query<OfRun>,
) -> Result<Json<List<Job>>, ApiError> {
    let page = Page::read("jobs-of-run", which.limit, which.cursor.as_deref())?;
    let mut jobs =
        read::of_run(&ctx.stores.tenant, viewer.business, run, which.state, page.after, page.fetch()).await?;
    if jobs.is_empty() && !runs::store::exists(&ctx.stores.tenant, viewer.business, run).await? {
        return Err(ApiError::not_found("run"));
    }
    windows::tell_open(&ctx.stores.tenant, viewer.business, &mut jobs, &ctx.settings).await?;
    Ok(Json(List::new(jobs, &page, |job| job.id.0, |job| job)))
}

/// Which jobs of the business.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Find {
    /// The number, in E.164.
    to: Option<String>,
    /// Your own name for the lead.
    external_id: Option<String>,
    /// Only those in this state.
    state: Option<JobState>,
    /// Rows on the page, 1 to 500; 50 where absent.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Jobs to a number or with your own name, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(Find), operation_id = "find_jobs",
    responses((status = 200, body = List<Job>)))]
async fn find(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(which): Query<Find>,
) -> Result<Json<List<Job>>, ApiError> {
    let page = Page::read("jobs", which.limit, which.cursor.as_deref())?;
    if which.to.is_none() && which.external_id.is_none() {
        let detail = "Ask by to or by external_id; the jobs of one run are at /v1/runs/{id}/jobs.";
        return Err(ApiError::validation(vec![FieldError::new("?to", "required", detail)]));
    }
    // A plus sign that was not escaped in a query arrives as a space.
    let to = which.to.map(|to| to.strip_prefix(' ').map_or(to.clone(), |digits| format!("+{digits}")));
    let to = to
        .map(E164::try_from)
        .transpose()
        .map_err(|error| ApiError::validation(vec![FieldError::new("?to", "invalid_number", error.to_string())]))?;
    let filter = Filter { state: which.state, to: to.map(Into::into), external_id: which.external_id };
    let mut jobs = read::find(&ctx.stores.tenant, viewer.business, &filter, page.after, page.fetch()).await?;
    windows::tell_open(&ctx.stores.tenant, viewer.business, &mut jobs, &ctx.settings).await?;
    Ok(Json(List::new(jobs, &page, |job| job.id.0, |job| job)))
}

/// One job with its attempts.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)), operation_id = "one_job",
    responses((status = 200, body = JobDetail)))]
async fn one(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<JobId>) -> Result<Json<JobDetail>, ApiError> {
    let job = read::one(&ctx.stores.tenant, viewer.business, id).await?.ok_or_else(|| ApiError::not_found("job"))?;
    JobDetail::of(&ctx, viewer.business, job).await
}

/// End a job: it is not dialed, or hung up if it is being dialed.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = JobId, Path)), operation_id = "cancel_job",
    responses((status = 200, body = JobDetail)))]
async fn stop(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<JobId>,
    _: NoBody,
) -> Result<Json<JobDetail>, ApiError> {
    let job = cancel::job(&ctx.stores.tenant, manager.business, id).await?;
    ctx.ring(manager.business).await;
    JobDetail::of(&ctx, manager.business, job).await
}
