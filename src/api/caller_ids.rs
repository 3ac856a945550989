//! The numbers that a business calls from, and who talks to people who ring them back.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Body, Change, Query},
        check::Check,
        page::{List, PageQuery},
    },
    businesses::{answering, rules},
    config::without_slash,
    context::Context,
    dialing::{agents, inbound},
    error::{ApiError, FieldError},
    ids::{AgentId, BusinessId, Carrier},
};

/// Most characters of a fallback message.
const FALLBACK_LIMIT: usize = 1_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list, change))
}

/// A number to call from.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct CallerId {
    /// E.164.
    number: String,
    /// Where it is.
    carrier: Carrier,
    /// Who talks to people who ring it; null: nobody.
    agent_id: Option<AgentId>,
    /// What they hear where there is no room for their call; null: it ends at once.
    fallback: Option<String>,
    /// What the number's voice URL and its status callback at the carrier must be, so that it can be rung.
    inbound_url: String,
}

/// Who is to talk to people who ring a number; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CallerIdChange {
    /// One of the business's caller ids.
    number: String,
    /// Null: nobody.
    #[serde(default)]
    #[schema(value_type = Option<AgentId>)]
    agent_id: Change<Option<AgentId>>,
    /// At most 1,000 characters; null: none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    fallback: Change<Option<String>>,
}

fn shown(ctx: &Context, business: BusinessId, row: answering::CallerId) -> CallerId {
    let base = without_slash(&ctx.settings.public_base_url);
    let token = ctx.tokens.inbound(business);
    CallerId {
        inbound_url: format!("{base}/webhooks/{}/inbound/{token}", row.carrier),
        number: row.number,
        carrier: row.carrier,
        agent_id: row.agent,
        fallback: row.fallback,
    }
}

/// List the numbers to call from, and who talks to people who ring them
#[utoipa::path(get, path = "/v1/caller-ids", tag = "numbers", operation_id = "list_caller_ids", params(PageQuery),
    responses((status = 200, body = List<CallerId>)))]
async fn list(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<CallerId>>, ApiError> {
    let page = query.page::<String>()?;
    let rows = answering::list(&ctx.stores.tenant, viewer.business, page.after.as_deref(), page.fetch()).await?;
    Ok(Json(List::new(
        rows,
        &page,
        |row| format!("{} {}", row.number, row.carrier),
        |row| shown(&ctx, viewer.business, row),
    )))
}

/// Let an agent talk to people who ring a number
#[utoipa::path(patch, path = "/v1/caller-ids", tag = "numbers", operation_id = "change_caller_id",
    request_body = CallerIdChange, responses((status = 200, body = CallerId)))]
async fn change(
    manager: Manager,
    State(ctx): State<Context>,
    Body(given): Body<CallerIdChange>,
) -> Result<Json<CallerId>, ApiError> {
    let mut check = Check::new();
    check.field("/number", rules::e164(&given.number));
    if let Some(Some(text)) = given.fallback.given() {
        check.field("/fallback", rules::free_text(text, FALLBACK_LIMIT));
    }
    check.done()?;
    let pg = &ctx.stores.tenant;
    let (mut agent, mut fallback) =
        answering::of(pg, manager.business, &given.number).await?.map_or((None, None), |(id, text)| (Some(id), text));
    given.agent_id.apply(&mut agent);
    given.fallback.apply(&mut fallback);
    if let Some(id) = agent {
        let named = agents::named(&ctx, manager.business, id).await?;
        let variables = inbound::variables(&given.number, "");
        agents::said(&named.definition, &variables).map_err(|error| {
            let detail = format!("{error} A call that comes in has only {{{{from}}}} and {{{{to}}}}.");
            ApiError::validation(vec![FieldError::new("/agent_id", "missing_variable", detail)])
        })?;
    } else if fallback.is_some() {
        let detail = "Name the agent that talks where there is room.";
        return Err(ApiError::validation(vec![FieldError::new("/agent_id", "missing", detail)]));
    }
    let answers = agent.map(|agent| (agent, fallback.as_deref()));
    if !answering::set(pg, manager.business, &given.number, answers).await? {
        let detail = "Use one of the caller_ids of the carrier account.";
        return Err(ApiError::validation(vec![FieldError::new("/number", "unknown_caller_id", detail)]));
    }
    let rows = answering::list(pg, manager.business, None, i64::MAX).await?;
    let row = rows.into_iter().find(|row| row.number == given.number);
    row.map(|row| Json(shown(&ctx, manager.business, row))).ok_or_else(|| ApiError::not_found("caller id"))
}
