//! Voice agents: made, listed, changed, deleted. A change makes a new version; what runs keeps the old one.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    agents::{
        Agent, Definition, PipelineKind, Tool,
        definition::{Limits, Models, Turns, Voice},
        store,
    },
    api::{
        auth::{Manager, Viewer},
        body::{Body, Change, Ids, Part, Query},
        idempotency::NewId,
        page::{List, PageQuery},
    },
    context::Context,
    dialing::agents,
    error::ApiError,
    ids::AgentId,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(one, change, delete))
}

/// What to change of an agent; what is absent stays, of `models`, `voice`, `turns` and `limits` too.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AgentChange)]
struct AgentChange {
    #[serde(default)]
    #[schema(value_type = String)]
    name: Change<String>,
    #[serde(default)]
    #[schema(value_type = PipelineKind)]
    pipeline: Change<PipelineKind>,
    #[serde(default)]
    #[schema(value_type = String)]
    language: Change<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    prompt: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    greeting: Change<Option<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    goodbye: Change<Option<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    voicemail: Change<Option<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    trouble: Change<Option<String>>,
    #[serde(default)]
    #[schema(value_type = Models)]
    models: Part<Models>,
    #[serde(default)]
    #[schema(value_type = Voice)]
    voice: Part<Voice>,
    #[serde(default)]
    #[schema(value_type = Turns)]
    turns: Part<Turns>,
    #[serde(default)]
    #[schema(value_type = Vec<Tool>)]
    tools: Change<Vec<Tool>>,
    #[serde(default)]
    #[schema(value_type = Limits)]
    limits: Part<Limits>,
}

/// Make an agent
#[utoipa::path(post, path = "/v1/agents", tag = "agents", operation_id = "create_agent", request_body = Definition,
    responses((status = 201, body = Agent)))]
async fn create(
    manager: Manager,
    State(ctx): State<Context>,
    NewId(id): NewId,
    Body(new): Body<Definition>,
) -> Result<(StatusCode, Json<Agent>), ApiError> {
    let agent = agents::create(&ctx, manager.business, AgentId(id), new).await?;
    Ok((StatusCode::CREATED, Json(agent)))
}

/// Agents, oldest first
#[utoipa::path(get, path = "/v1/agents", tag = "agents", params(PageQuery), operation_id = "list_agents",
    responses((status = 200, body = List<Agent>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Agent>>, ApiError> {
    let page = query.page::<AgentId>("agents")?;
    let rows = store::list(&ctx.stores.tenant, viewer.business, page.after, page.fetch()).await?;
    Ok(Json(List::new(rows, &page, |agent| agent.id, |agent| agent)))
}

/// One agent in its newest version
#[utoipa::path(get, path = "/v1/agents/{id}", tag = "agents", operation_id = "one_agent", params(("id" = AgentId, Path)),
    responses((status = 200, body = Agent)))]
async fn one(viewer: Viewer, State(ctx): State<Context>, Ids(id): Ids<AgentId>) -> Result<Json<Agent>, ApiError> {
    let agent = store::one(&ctx.stores.tenant, viewer.business, id).await?;
    agent.map(Json).ok_or_else(|| ApiError::not_found("agent"))
}

/// Change an agent: a new version, for runs and calls that begin from now on
#[utoipa::path(patch, path = "/v1/agents/{id}", tag = "agents", operation_id = "change_agent",
    params(("id" = AgentId, Path)), request_body = AgentChange, responses((status = 200, body = Agent)))]
async fn change(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(id): Ids<AgentId>,
    Body(given): Body<AgentChange>,
) -> Result<Json<Agent>, ApiError> {
    let edit = |agent: &mut Definition| {
        given.name.apply(&mut agent.name);
        given.pipeline.apply(&mut agent.pipeline);
        given.language.apply(&mut agent.language);
        given.prompt.apply(&mut agent.prompt);
        given.greeting.apply(&mut agent.greeting);
        given.goodbye.apply(&mut agent.goodbye);
        given.voicemail.apply(&mut agent.voicemail);
        given.trouble.apply(&mut agent.trouble);
        given.models.apply("/models", &mut agent.models)?;
        given.voice.apply("/voice", &mut agent.voice)?;
        given.turns.apply("/turns", &mut agent.turns)?;
        given.tools.apply(&mut agent.tools);
        given.limits.apply("/limits", &mut agent.limits)?;
        Ok(())
    };
    agents::change(&ctx, manager.business, id, edit).await.map(Json)
}

/// Delete an agent: runs and calls that have begun keep it
#[utoipa::path(delete, path = "/v1/agents/{id}", tag = "agents", operation_id = "delete_agent",
    params(("id" = AgentId, Path)), responses((status = 204)))]
async fn delete(manager: Manager, State(ctx): State<Context>, Ids(id): Ids<AgentId>) -> Result<StatusCode, ApiError> {
    if !store::delete(&ctx.stores.tenant, manager.business, id).await? {
        return Err(ApiError::not_found("agent"));
    }
    Ok(StatusCode::NO_CONTENT)
}
