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
    businesses::{
        answering::{self, Answering},
        caller_ids::{self, Settings},
        rules,
    },
    config::without_slash,
    context::Context,
    dialing::{agents, inbound, put_through},
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
    /// The number that they are put through to then, after that; null: nobody.
    redirect: Option<String>,
    /// What people call it.
    label: Option<String>,
    /// False where nobody is called from it; people may still ring it.
    enabled: bool,
    /// Calls from it in a day of the business's zone; null: no limit.
    max_per_day: Option<i32>,
    /// Calls from it at once; null: no limit.
    max_at_once: Option<i32>,
    /// How often it was taken for a call today; null while nothing is set for it.
    dials_today: Option<i32>,
    /// What the number's voice URL and its status callback at Twilio must be, or the webhook URL of the Call Control application
    /// at Telnyx, so that it can be rung.
    inbound_url: String,
}

/// Who is to talk to people who ring a number, and how it is used for calling; what is absent stays.
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
    /// A number in E.164 that may be called and is none of the business's own; null: none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    redirect: Change<Option<String>>,
    /// At most 200 characters; null: none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    label: Change<Option<String>>,
    /// False: nobody is called from it from the next call on.
    #[serde(default)]
    #[schema(value_type = bool)]
    enabled: Change<bool>,
    /// Calls from it in a day of the business's zone, 1 or more; null: no limit.
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    max_per_day: Change<Option<i32>>,
    /// Calls from it at once, 1 or more; null: no limit.
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    max_at_once: Change<Option<i32>>,
}

impl CallerIdChange {
    /// True where it says something of who answers.
    fn answers(&self) -> bool {
        self.agent_id.given().is_some() || self.fallback.given().is_some() || self.redirect.given().is_some()
    }

    /// True where it says something of how the number is used.
    fn uses(&self) -> bool {
        self.label.given().is_some()
            || self.enabled.given().is_some()
            || self.max_per_day.given().is_some()
            || self.max_at_once.given().is_some()
    }
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
        redirect: row.redirect,
        label: row.label,
        enabled: row.enabled,
        max_per_day: row.max_per_day,
        max_at_once: row.max_at_once,
        dials_today: row.dials_today,
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
    let page = query.page::<String>("caller-ids")?;
    let rows = answering::list(&ctx.stores.tenant, viewer.business, page.after.as_deref(), page.fetch()).await?;
    Ok(Json(List::new(
        rows,
        &page,
        |row| format!("{} {}", row.number, row.carrier),
        |row| shown(&ctx, viewer.business, row),
    )))
}

/// Let an agent talk to people who ring a number, and say how it is used for calling
#[utoipa::path(patch, path = "/v1/caller-ids", tag = "numbers", operation_id = "change_caller_id",
    request_body = CallerIdChange, responses((status = 200, body = CallerId)))]
async fn change(
    manager: Manager,
    State(ctx): State<Context>,
    Body(given): Body<CallerIdChange>,
) -> Result<Json<CallerId>, ApiError> {
    checked(&given)?;
    let (pg, number) = (&ctx.stores.tenant, given.number.clone());
    let (answers, uses) = (given.answers(), given.uses());
    if answers || !uses {
        answer(&ctx, manager.business, &given).await?;
    }
    if uses {
        let edit = |settings: &mut Settings| {
            settings.label = match given.label {
                Change::To(label) => label.map(|text| text.trim().to_owned()),
                Change::Keep => settings.label.take(),
            };
            given.enabled.apply(&mut settings.enabled);
            given.max_per_day.apply(&mut settings.max_per_day);
            given.max_at_once.apply(&mut settings.max_at_once);
        };
        if !caller_ids::change(pg, manager.business, &number, edit).await? {
            return Err(unknown());
        }
        ctx.ring(manager.business).await;
    }
    let rows = answering::list(pg, manager.business, None, i64::MAX).await?;
    let row = rows.into_iter().find(|row| row.number == number);
    row.map(|row| Json(shown(&ctx, manager.business, row))).ok_or_else(|| ApiError::not_found("caller id"))
}

fn checked(given: &CallerIdChange) -> Result<(), ApiError> {
    let mut check = Check::new();
    check.field("/number", rules::e164(&given.number));
    if let Some(Some(text)) = given.fallback.given() {
        check.field("/fallback", rules::free_text(text, FALLBACK_LIMIT));
    }
    if let Some(Some(text)) = given.label.given() {
        check.field("/label", rules::name(text));
    }
    for (pointer, most) in [("/max_per_day", &given.max_per_day), ("/max_at_once", &given.max_at_once)] {
        if let Some(Some(calls)) = most.given() {
            check.field(pointer, rules::most_calls(*calls));
        }
    }
    check.done()
}

/// Lets an agent answer, or nobody.
async fn answer(ctx: &Context, business: BusinessId, given: &CallerIdChange) -> Result<(), ApiError> {
    let pg = &ctx.stores.tenant;
    let was = answering::of(pg, business, &given.number).await?;
    let (mut agent, mut fallback, mut redirect) =
        was.map_or((None, None, None), |was| (Some(was.agent), was.fallback, was.redirect));
    given.agent_id.apply(&mut agent);
    given.fallback.clone().apply(&mut fallback);
    given.redirect.clone().apply(&mut redirect);
    if let Some(Some(to)) = given.redirect.given() {
        let mut wrong = Vec::new();
        put_through::check(ctx, business, ("/redirect", to.as_str()), &mut wrong).await?;
        if !wrong.is_empty() {
            return Err(ApiError::validation(wrong));
        }
    }
    if let Some(id) = agent {
        let named = agents::named(ctx, business, id).await?;
        let variables = inbound::variables(&given.number, "");
        agents::said(&named.definition, &variables).map_err(|error| {
            let detail = format!("{error} A call that comes in has only {{{{from}}}} and {{{{to}}}}.");
            ApiError::validation(vec![FieldError::new("/agent_id", "missing_variable", detail)])
        })?;
    } else if fallback.is_some() || redirect.is_some() {
        let detail = "Name the agent that talks where there is room.";
        return Err(ApiError::validation(vec![FieldError::new("/agent_id", "missing", detail)]));
    }
    let answers = agent.map(|agent| Answering { agent, fallback, redirect });
    if answering::set(pg, business, &given.number, answers.as_ref()).await? { Ok(()) } else { Err(unknown()) }
}

fn unknown() -> ApiError {
    let detail = "Use one of the caller_ids of the carrier account.";
    ApiError::validation(vec![FieldError::new("/number", "unknown_caller_id", detail)])
}
