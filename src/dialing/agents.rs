//! Agents as the API makes them: their texts are templates, and what a run needs of them is there when it starts.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    agents::{
        Agent, Definition, Tool,
        rules::{self, PROMPT_MAX, TOOLS_MAX},
        store,
    },
    context::Context,
    dialing::put_through,
    error::{ApiError, FieldError, Slug},
    ids::{AgentId, BusinessId, RunId},
    leads::{RenderError, Template},
};

/// Makes an agent under this id, or finds it made by the same request before.
///
/// # Errors
/// 422 with every field that does not fit.
pub async fn create(
    ctx: &Context,
    business: BusinessId,
    id: AgentId,
    definition: Definition,
) -> Result<Agent, ApiError> {
    refuse(faults(ctx, business, &definition).await?)?;
    let agent = store::insert(&ctx.stores.tenant, business, id, &definition).await?;
    agent.ok_or_else(|| ApiError::not_found("agent"))
}

/// Changes an agent: `edit` gets the newest version, and what it leaves becomes the next one. What does not fit any more and is not
/// touched keeps nobody from changing the rest.
///
/// # Errors
/// 404; 422 with every field that does not fit; 409 where somebody changed it in the same moment.
pub async fn change(
    ctx: &Context,
    business: BusinessId,
    id: AgentId,
    edit: impl FnOnce(&mut Definition) -> Result<(), ApiError>,
) -> Result<Agent, ApiError> {
    let pg = &ctx.stores.tenant;
    let old = store::one(pg, business, id).await?.ok_or_else(|| ApiError::not_found("agent"))?;
    let mut definition = old.definition.clone();
    edit(&mut definition)?;
    if definition == old.definition {
        return Ok(old);
    }
    let mut wrong = faults(ctx, business, &definition).await?;
    if !wrong.is_empty() {
        let before = faults(ctx, business, &old.definition).await?;
        let [was, is] = [&old.definition, &definition].map(serde_json::to_value);
        let (was, is) = (was.map_err(anyhow::Error::from)?, is.map_err(anyhow::Error::from)?);
        wrong.retain(|fault| !before.contains(fault) || was.pointer(&fault.pointer) != is.pointer(&fault.pointer));
    }
    refuse(wrong)?;
    if !store::add_version(pg, business, id, old.version, &definition).await? {
        return Err(ApiError::new(
            Slug::Conflict,
            "The agent was changed in the same moment. Look at it and try again.",
        ));
    }
    store::one(pg, business, id).await?.ok_or_else(|| ApiError::not_found("agent"))
}

/// What does not fit of an agent.
async fn faults(ctx: &Context, business: BusinessId, definition: &Definition) -> Result<Vec<FieldError>, ApiError> {
    let mut wrong = rules::faults(definition, ctx.settings.voice.voice_tools_private);
    for (at, text) in definition.templates() {
        if wrong.iter().any(|fault| fault.pointer == at) {
            continue;
        }
        if let Err(error) = Template::parse_within(text, PROMPT_MAX) {
            wrong.push(FieldError::new(at, "invalid_template", error.to_string()));
        }
    }
    for (i, tool) in definition.tools.iter().enumerate().take(TOOLS_MAX) {
        if let Tool::Transfer { to, .. } = tool {
            let at = format!("/tools/{i}/to");
            put_through::check(ctx, business, (at.as_str(), to.as_str()), &mut wrong).await?;
        }
    }
    Ok(wrong)
}

fn refuse(wrong: Vec<FieldError>) -> Result<(), ApiError> {
    if wrong.is_empty() { Ok(()) } else { Err(ApiError::validation(wrong)) }
}

/// The agent that a run or a call names.
///
/// # Errors
/// 422 at `/agent_id` where the business has none of that id.
pub async fn named(ctx: &Context, business: BusinessId, id: AgentId) -> Result<Agent, ApiError> {
    let agent = store::one(&ctx.stores.tenant, business, id).await?;
    agent.ok_or_else(|| ApiError::validation(unknown_agent()))
}

/// The agent of a call that names one, or of one that tries a run: as it was when that run started.
///
/// # Errors
/// 422 at `/agent_id` where it is gone.
pub(super) async fn of_call(
    ctx: &Context,
    business: BusinessId,
    id: Option<AgentId>,
    run: Option<RunId>,
) -> Result<Option<Agent>, ApiError> {
    let found = match (id, run) {
        (None, _) => return Ok(None),
        (Some(_), Some(run)) => store::of_run(&ctx.stores.tenant, business, run).await?,
        (Some(id), None) => store::one(&ctx.stores.tenant, business, id).await?,
    };
    found.map(Some).ok_or_else(|| ApiError::validation(unknown_agent()))
}

/// What is wrong where the business has no agent of the id that is named.
pub(super) fn unknown_agent() -> Vec<FieldError> {
    let detail = "The business has no agent of this id. Make one: POST /v1/agents.";
    vec![FieldError::new("/agent_id", "unknown_agent", detail)]
}

/// The variables that a lead must have for every text of the agent.
///
/// # Errors
/// Where a text that was stored is no template.
pub(super) fn needed(definition: &Definition) -> anyhow::Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    for (_, text) in definition.templates() {
        needed.extend(Template::parse_within(text, PROMPT_MAX)?.missing(&Map::new()));
    }
    Ok(needed)
}

/// The agent with a callee's variables in its texts.
///
/// # Errors
/// Where a variable is missing.
pub fn said(definition: &Definition, variables: &Map<String, Value>) -> anyhow::Result<Definition> {
    definition.said(|text| Ok(Template::parse_within(text, PROMPT_MAX)?.render(variables)?))
}

/// What [`said`] could not say with these variables.
pub(super) fn unsaid(error: &anyhow::Error) -> FieldError {
    let code = error.downcast_ref::<RenderError>().map_or("missing_variable", RenderError::code);
    FieldError::new("/variables", code, error.to_string())
}
