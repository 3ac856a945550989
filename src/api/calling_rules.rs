//! A business's own hours, attempt caps and calendars.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Body, Change, Ids, Query},
        check::Check,
        page::{List, PageQuery},
    },
    businesses::calling_rules::{self, Calendar, CallingRules, Removed},
    context::Context,
    error::{ApiError, FieldError, Slug},
    policy::{Window, window::days},
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
    /// How often one number is dialed by all runs together; a limit that is absent stays, and null takes it away.
    #[serde(default)]
    attempt_caps: AttemptCapsChange,
}

/// What to change of the attempt caps.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct AttemptCapsChange {
    /// In a day of the callee, 1 to 100.
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    per_day: Change<Option<i32>>,
    /// Within any 24 hours, 1 to 100.
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    per_24h: Change<Option<i32>>,
    /// Ever, 1 to 1,000.
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    lifetime: Change<Option<i32>>,
}

/// Days without calls.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CalendarDates {
    /// Such as `2026-12-25`; at most 1,000.
    #[serde(deserialize_with = "days")]
    dates: BTreeSet<NaiveDate>,
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
        let names = calling_rules::calendar_names(&ctx.stores.tenant, manager.business).await?;
        window.check("/window", &names, &mut wrong);
    }
    let caps = given.attempt_caps;
    for (at, cap, most) in
        [("per_day", &caps.per_day, 100), ("per_24h", &caps.per_24h, 100), ("lifetime", &caps.lifetime, 1_000)]
    {
        if cap.given().copied().flatten().is_some_and(|cap| !(1..=most).contains(&cap)) {
            let detail = format!("Write a whole number from 1 to {most}, or null for no limit.");
            wrong.push(FieldError::new(format!("/attempt_caps/{at}"), "out_of_range", detail));
        }
    }
    if !wrong.is_empty() {
        return Err(ApiError::validation(wrong));
    }
    let changed = calling_rules::change(&ctx.stores.tenant, manager.business, |rules| {
        given.window.apply(&mut rules.window);
        caps.per_day.apply(&mut rules.attempt_caps.per_day);
        caps.per_24h.apply(&mut rules.attempt_caps.per_24h);
        caps.lifetime.apply(&mut rules.attempt_caps.lifetime);
    });
    let rules = changed.await?.ok_or_else(|| ApiError::not_found("business"))?;
    ctx.ring(manager.business).await;
    Ok(Json(rules))
}

/// List calendars by their names
#[utoipa::path(get, path = "/v1/calendars", tag = "numbers", operation_id = "list_calendars", params(PageQuery),
    responses((status = 200, body = List<Calendar>)))]
async fn list_calendars(
    viewer: Viewer,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Calendar>>, ApiError> {
    let page = query.page::<String>("calendars")?;
    let after = page.after.as_deref().unwrap_or_default();
    let rows = calling_rules::calendars(&ctx.stores.tenant, viewer.business, after, page.fetch()).await?;
    Ok(Json(List::new(rows, &page, |row| row.name.clone(), |row| row)))
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
