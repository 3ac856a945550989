//! The operator's routes of businesses.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::Operator,
        body::{Body, Change, Ids, Query},
        check::Check,
        idempotency::NewId,
        page::{List, PageQuery},
    },
    businesses::{
        retention::Retention,
        rules,
        store::{self, Business, BusinessState, Terms},
    },
    clock::Time,
    context::Context,
    error::ApiError,
    ids::{BusinessId, Carrier},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get, change))
}

/// A business.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Business)]
pub struct BusinessView {
    id: BusinessId,
    name: String,
    state: BusinessState,
    max_concurrent_calls: i32,
    default_region: String,
    time_zone: Option<String>,
    allowed_countries: Option<Vec<String>>,
    carriers: Vec<Carrier>,
    retention: Retention,
    slots: SlotsView,
    created_at: Time,
    updated_at: Time,
}

/// Calls at once: how many are, how many may be.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Slots)]
pub struct SlotsView {
    held: i64,
    limit: i32,
}

impl From<Business> for BusinessView {
    fn from(b: Business) -> Self {
        Self {
            retention: b.retention(),
            id: b.id,
            name: b.name,
            state: b.state,
            max_concurrent_calls: b.max_concurrent_calls,
            default_region: b.default_region,
            time_zone: b.time_zone,
            allowed_countries: b.allowed_countries,
            carriers: b.carriers,
            slots: SlotsView { held: b.held, limit: b.max_concurrent_calls },
            created_at: b.created_at.into(),
            updated_at: b.updated_at.into(),
        }
    }
}

/// A business to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBusiness {
    /// 1 to 200 characters.
    name: String,
    /// Calls at once, 1 to 10000; BUSINESS_MAX_CONCURRENT_CALLS where absent.
    max_concurrent_calls: Option<i64>,
    /// Country of numbers that are written without one; US where absent.
    default_region: Option<String>,
    /// IANA zone of numbers whose own is not known.
    time_zone: Option<String>,
    /// Countries that may be called; all where null.
    allowed_countries: Option<Vec<String>>,
    /// Carriers in the order of preference; Twilio where absent.
    carriers: Option<Vec<Carrier>>,
    /// For how many days what is known about people is kept; for good where absent.
    retention: Option<Retention>,
}

/// What to change of a business; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct BusinessChange {
    #[serde(default)]
    #[schema(value_type = String)]
    name: Change<String>,
    #[serde(default)]
    #[schema(value_type = BusinessState)]
    state: Change<BusinessState>,
    #[serde(default)]
    #[schema(value_type = i64)]
    max_concurrent_calls: Change<i64>,
    #[serde(default)]
    #[schema(value_type = String)]
    default_region: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    time_zone: Change<Option<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    allowed_countries: Change<Option<Vec<String>>>,
    #[serde(default)]
    #[schema(value_type = Vec<Carrier>)]
    carriers: Change<Vec<Carrier>>,
    /// Of these, too, what is absent stays; null: for good.
    #[serde(default)]
    retention: RetentionChange,
}

/// What to change of the days for which something is kept.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RetentionChange {
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    transcripts_days: Change<Option<i32>>,
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    recordings_days: Change<Option<i32>>,
    #[serde(default)]
    #[schema(value_type = Option<i32>)]
    variables_days: Change<Option<i32>>,
}

impl From<Retention> for RetentionChange {
    fn from(whole: Retention) -> Self {
        Self {
            transcripts_days: Change::To(whole.transcripts_days),
            recordings_days: Change::To(whole.recordings_days),
            variables_days: Change::To(whole.variables_days),
        }
    }
}

/// Make a business
#[utoipa::path(post, path = "/v1/businesses", tag = "businesses", operation_id = "create_business", request_body = NewBusiness,
    responses((status = 201, body = BusinessView)))]
async fn create(
    _: Operator,
    State(ctx): State<Context>,
    NewId(id): NewId,
    Body(new): Body<NewBusiness>,
) -> Result<(StatusCode, Json<BusinessView>), ApiError> {
    let mut terms = Terms {
        name: String::new(),
        state: BusinessState::Active,
        max_concurrent_calls: i32::try_from(ctx.settings.business_max_concurrent_calls).unwrap_or(i32::MAX),
        default_region: "US".into(),
        time_zone: None,
        allowed_countries: None,
        carriers: vec![Carrier::Twilio],
        retention: Retention::default(),
    };
    let given = BusinessChange {
        name: Change::To(new.name),
        state: Change::Keep,
        max_concurrent_calls: new.max_concurrent_calls.map_or(Change::Keep, Change::To),
        default_region: new.default_region.map_or(Change::Keep, Change::To),
        time_zone: Change::To(new.time_zone),
        allowed_countries: Change::To(new.allowed_countries),
        carriers: new.carriers.map_or(Change::Keep, Change::To),
        retention: new.retention.unwrap_or_default().into(),
    };
    checked(given)?(&mut terms);
    let id = BusinessId(id);
    store::create(&ctx.stores.pg, id, &terms).await?;
    Ok((StatusCode::CREATED, Json(found(store::get(&ctx.stores.pg, id).await?)?)))
}

/// List businesses
#[utoipa::path(get, path = "/v1/businesses", tag = "businesses", operation_id = "list_businesses", params(PageQuery),
    responses((status = 200, body = List<BusinessView>)))]
async fn list(
    _: Operator,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<BusinessView>>, ApiError> {
    let page = query.page::<BusinessId>("businesses")?;
    let rows = store::list(&ctx.stores.pg, page.after, page.fetch()).await?;
    Ok(Json(List::new(rows, &page, |row| row.id, Into::into)))
}

/// Look at a business
#[utoipa::path(get, path = "/v1/businesses/{id}", tag = "businesses", operation_id = "one_business", params(("id" = BusinessId, Path)),
    responses((status = 200, body = BusinessView)))]
async fn get(
    _: Operator,
    State(ctx): State<Context>,
    Ids(id): Ids<BusinessId>,
) -> Result<Json<BusinessView>, ApiError> {
    Ok(Json(found(store::get(&ctx.stores.pg, id).await?)?))
}

/// Change a business: its limit counts from the next call on, live calls go on
#[utoipa::path(patch, path = "/v1/businesses/{id}", tag = "businesses", operation_id = "change_business", params(("id" = BusinessId, Path)),
    request_body = BusinessChange, responses((status = 200, body = BusinessView)))]
async fn change(
    _: Operator,
    State(ctx): State<Context>,
    Ids(id): Ids<BusinessId>,
    Body(given): Body<BusinessChange>,
) -> Result<Json<BusinessView>, ApiError> {
    let edit = checked(given)?;
    let view = found(store::change(&ctx.stores.pg, id, edit).await?)?;
    ctx.ring(id).await;
    Ok(Json(view))
}

fn found(business: Option<Business>) -> Result<BusinessView, ApiError> {
    business.map(Into::into).ok_or_else(|| ApiError::not_found("business"))
}

/// Checks every value that is given; what comes back puts them in their places.
fn checked(given: BusinessChange) -> Result<impl FnOnce(&mut Terms), ApiError> {
    let mut check = Check::new();
    let name = given.name.given().and_then(|text| check.field("/name", rules::name(text)));
    let limit = given.max_concurrent_calls.given().and_then(|n| check.field("/max_concurrent_calls", rules::limit(*n)));
    if let Some(code) = given.default_region.given() {
        check.field("/default_region", rules::region(code));
    }
    if let Some(Some(zone)) = given.time_zone.given() {
        check.field("/time_zone", rules::time_zone(zone));
    }
    if let Some(Some(codes)) = given.allowed_countries.given() {
        check.list("/allowed_countries", rules::countries(codes));
    }
    if let Some(carriers) = given.carriers.given() {
        check.field("/carriers", rules::carriers(carriers));
    }
    let RetentionChange { transcripts_days, recordings_days, variables_days } = given.retention;
    let each = [("transcripts", &transcripts_days), ("recordings", &recordings_days), ("variables", &variables_days)];
    for (name, days) in each {
        let days = days.given().copied().flatten();
        check.field(&format!("/retention/{name}_days"), days.map_or(Ok(()), rules::days));
    }
    check.done()?;
    Ok(move |terms: &mut Terms| {
        terms.name = name.unwrap_or_else(|| std::mem::take(&mut terms.name));
        terms.max_concurrent_calls = limit.unwrap_or(terms.max_concurrent_calls);
        given.state.apply(&mut terms.state);
        given.default_region.apply(&mut terms.default_region);
        given.time_zone.apply(&mut terms.time_zone);
        given.allowed_countries.apply(&mut terms.allowed_countries);
        given.carriers.apply(&mut terms.carriers);
        transcripts_days.apply(&mut terms.retention.transcripts_days);
        recordings_days.apply(&mut terms.retention.recordings_days);
        variables_days.apply(&mut terms.retention.variables_days);
    })
}
