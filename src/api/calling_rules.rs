//! A business's own hours, attempt caps and calendars.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Body, Change, Ids},
        check::Check,
    },
    businesses::calling_rules::{self, AttemptCaps, Calendar, CallingRules, Removed},
    context::Context,
    error::{ApiError, FieldError, Slug},
    policy::Window,
};

/// Most days of one calendar.
const MOST_DATES: usize = 1_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(get, change))
        .routes(routes!(list_calendars))
        .routes(routes!(put_calendar, delete_calendar))
}

/// What to change of the rules; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CallingRulesChange {
    /// When calls of any run may ring; null: at any time.
    #[serde(default)]
    #[schema(value_type = Option<Window>)]
    window: Change<Option<Window>>,
    /// How often one number is dialed by all runs together.
    #[serde(default)]
    #[schema(value_type = Option<AttemptCaps>)]
    attempt_caps: Change<AttemptCaps>,
}

/// Days without calls.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CalendarDates {
    /// Such as `2026-12-25`; at most 1,000.
    dates: BTreeSet<NaiveDate>,
}

/// All calendars, on one page.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
struct Calendars {
    data: Vec<Calendar>,
    /// Always null: there is no other page.
    next_cursor: Option<String>,
}

/// What holds for every list of the business
#[utoipa::path(get, path = "/v1/calling-rules", tag = "numbers", operation_id = "calling_rules", responses((status = 200, body = CallingRules)))]
async fn get(viewer: Viewer, State(ctx): State<Context>) -> Result<Json<CallingRules>, ApiError> {
    let found = calling_rules::get(&ctx.stores.tenant, viewer.business).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found("business"))
}

/// Change them, from the next claim on
#[utoipa::path(patch, path = "/v1/calling-rules", tag = "numbers", operation_id = "change_calling_rules",
    request_body = CallingRulesChange, responses((status = 200, body = CallingRules)))]
async fn change(
    manager: Manager,
    State(ctx): State<Context>,
    Body(given): Body<CallingRulesChange>,
) -> Result<Json<CallingRules>, ApiError> {
    let mut wrong = Vec::new();
    if let Some(Some(window)) = given.window.given() {
        let names = calling_rules::calendars(&ctx.stores.tenant, manager.business).await?;
        window.check("/window", &names.into_iter().map(|one| one.name).collect(), &mut wrong);
    }
    if let Some(caps) = given.attempt_caps.given() {
        for (at, cap, most) in
            [("per_day", caps.per_day, 100), ("per_24h", caps.per_24h, 100), ("lifetime", caps.lifetime, 1_000)]
        {
            if cap.is_some_and(|cap| !(1..=most).contains(&cap)) {
                let detail = format!("Write a whole number from 1 to {most}, or null for no limit.");
                wrong.push(FieldError::new(format!("/attempt_caps/{at}"), "out_of_range", detail));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(ApiError::validation(wrong));
    }
    let changed = calling_rules::change(&ctx.stores.tenant, manager.business, |rules| {
        given.window.apply(&mut rules.window);
        given.attempt_caps.apply(&mut rules.attempt_caps);
    });
    let rules = changed.await?.ok_or_else(|| ApiError::not_found("business"))?;
    ctx.ring(manager.business).await;
    Ok(Json(rules))
}

/// List calendars
#[utoipa::path(get, path = "/v1/calendars", tag = "numbers", operation_id = "list_calendars", responses((status = 200, body = Calendars)))]
async fn list_calendars(viewer: Viewer, State(ctx): State<Context>) -> Result<Json<Calendars>, ApiError> {
    let data = calling_rules::calendars(&ctx.stores.tenant, viewer.business).await?;
    Ok(Json(Calendars { data, next_cursor: None }))
}

/// Put a calendar: days on which windows that name it allow no call
#[utoipa::path(put, path = "/v1/calendars/{name}", tag = "numbers", operation_id = "put_calendar", params(("name" = String, Path)),
    request_body = CalendarDates, responses((status = 200, body = Calendar)))]
async fn put_calendar(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(name): Ids<String>,
    Body(given): Body<CalendarDates>,
) -> Result<Json<Calendar>, ApiError> {
    let mut check = Check::new();
    let fits = (1..=100).contains(&name.chars().count()) && !name.contains(char::is_control);
    if !fits {
        check.field::<()>("", Err(("invalid_length", "the name must have 1 to 100 characters".into())));
    }
    if given.dates.len() > MOST_DATES {
        check.field::<()>("/dates", Err(("invalid_length", format!("must have at most {MOST_DATES} days"))));
    }
    check.done()?;
    let put = calling_rules::put_calendar(&ctx.stores.tenant, manager.business, &name, &given.dates).await?;
    let put = put.ok_or_else(|| ApiError::not_found("business"))?;
    ctx.ring(manager.business).await;
    Ok(Json(put))
}

/// Remove a calendar that no window names
#[utoipa::path(delete, path = "/v1/calendars/{name}", tag = "numbers", operation_id = "remove_calendar", params(("name" = String, Path)),
    responses((status = 204)))]
async fn delete_calendar(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(name): Ids<String>,
) -> Result<StatusCode, ApiError> {
    match calling_rules::remove_calendar(&ctx.stores.tenant, manager.business, &name).await? {
        Removed::Yes => Ok(StatusCode::NO_CONTENT),
        Removed::None => Err(ApiError::new(Slug::NotFound, "There is no calendar of this name.")),
        Removed::InUse => {
            let detail =
                "A window of the business, or of a run that is not over, names this calendar. Take it out there first.";
            Err(ApiError::new(Slug::Conflict, detail))
        }
    }
}
