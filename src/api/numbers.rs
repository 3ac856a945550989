//! One number: did we call this person, with what right; and forget them.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    api::{
        auth::{Manager, Viewer},
        body::{Ids, Query},
        page::{List, PageQuery},
        suppressions::SuppressionView,
    },
    attempts::history::Dialed,
    businesses::rules,
    context::Context,
    dialing::numbers::{self, Contact, Erased},
    error::{ApiError, FieldError},
    leads::mask,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(one, erase))
}

/// Whose list an entry is in.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Scope {
    /// The business's own.
    Business,
    /// The installation's.
    Installation,
}

/// Why a number is not called.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = NumberSuppression)]
struct Held {
    scope: Scope,
    #[serde(flatten)]
    entry: SuppressionView,
}

/// All that is known of a number.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct NumberView {
    number: String,
    /// True where this stands in the place of a number that was forgotten.
    erased: bool,
    /// What keeps it from being called, expired entries too, with their evidence.
    suppressions: Vec<Held>,
    /// All that was dialed, counted.
    dialed: Dialed,
    /// Jobs, and calls outside of runs, newest first.
    #[serde(flatten)]
    contacts: List<Contact>,
}

/// Did we call this number: every job, dial, recording and transcript of it, and what keeps it from being called
#[utoipa::path(get, path = "/v1/numbers/{number}", tag = "numbers", operation_id = "one_number",
    params(("number" = String, Path), PageQuery), responses((status = 200, body = NumberView)))]
async fn one(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<NumberView>, ApiError> {
    fits(&number)?;
    let page = query.page::<Uuid>("contacts")?;
    let known = numbers::known(&ctx, viewer.business, &number, page.after, page.fetch()).await?;
    let own = known.own.into_iter().map(|row| Held { scope: Scope::Business, entry: row.into() });
    let all = known.everywhere.into_iter().map(|row| Held { scope: Scope::Installation, entry: row.into() });
    Ok(Json(NumberView {
        erased: numbers::is_erased(&number),
        suppressions: own.chain(all).collect(),
        dialed: known.dialed,
        contacts: List::new(known.contacts, &page, |contact| contact.id, |contact| contact),
        number,
    }))
}

/// How to forget.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct How {
    /// True, or absent: the number, and only that, stands on the suppression list afterwards, so that it is not called again. False:
    /// it stands there no longer either.
    suppress: Option<bool>,
}

/// Forget a number: jobs that wait end as skipped, and nothing that was dialed says who it was
///
/// Counts, tallies and the ledger stay. Answers 409 with what is in flight while a call with the number is open. Recordings are
/// deleted at the carrier; the carrier's own records of its calls stay there.
#[utoipa::path(delete, path = "/v1/numbers/{number}", tag = "numbers", operation_id = "erase_number",
    params(("number" = String, Path), How), responses((status = 200, body = Erased)))]
async fn erase(
    manager: Manager,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
    Query(how): Query<How>,
) -> Result<Json<Erased>, ApiError> {
    fits(&number)?;
    let suppress = how.suppress.unwrap_or(true);
    let erased = numbers::erase(&ctx, manager.business, &manager.actor, &number, suppress).await?;
    tracing::info!(business.id = %manager.business, number = mask(&number), by = manager.actor, "a number was erased");
    ctx.ring(manager.business).await;
    Ok(Json(erased))
}

fn fits(number: &str) -> Result<(), ApiError> {
    rules::e164(number).map_err(|(code, detail)| ApiError::validation(vec![FieldError::new("number", code, detail)]))
}
