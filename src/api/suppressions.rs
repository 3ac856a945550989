//! Numbers, and beginnings of numbers, that are not called: by a business, or by nobody here.
//!
//! With the operator key and without `Rollcall-Business` these routes are about the installation's list, which holds for every
//! business and which no business is shown.

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        auth::{ListManager, ListViewer},
        body::{Body, Change, Ids, Query},
        check::Check,
        idempotency::is_upload,
        leads::spool,
        page::{List as Page, PageQuery},
    },
    businesses::{
        rules,
        suppressions::{self, Entry, List, PREFIX_MARK, Put, Suppression, Terms},
    },
    clock::{Moment, Time},
    context::Context,
    dialing::suppress::{self, ListTaken},
    error::{ApiError, FieldError, Slug},
    leads::number::listed,
};

/// Most characters of a note and of evidence.
const TEXT_LIMIT: usize = 2_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(put, get, delete))
}

/// A number, or all numbers with one beginning, that are not called.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Suppression)]
pub struct SuppressionView {
    /// E.164; null where it is a prefix.
    number: Option<String>,
    /// Every number that begins like this; null where it is one number. Its path is the prefix and a star: `+1900*`.
    prefix: Option<String>,
    source: String,
    note: Option<String>,
    expires_at: Option<Time>,
    evidence: Option<EvidenceView>,
    created_at: Time,
}

/// What shows that a number is not to be called.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Evidence)]
struct EvidenceView {
    text: Option<String>,
    url: Option<String>,
    at: Option<Time>,
}

impl From<Suppression> for SuppressionView {
    fn from(row: Suppression) -> Self {
        let prefix = row.number.strip_suffix(PREFIX_MARK).map(ToOwned::to_owned);
        let (text, url, at) = (row.evidence, row.evidence_url, row.evidence_at.map(Time::from));
        let some = text.is_some() || url.is_some() || at.is_some();
        Self {
            number: prefix.is_none().then_some(row.number),
            prefix,
            source: row.source,
            note: row.note,
            expires_at: row.expires_at.map(Into::into),
            evidence: some.then_some(EvidenceView { text, url, at }),
            created_at: row.created_at.into(),
        }
    }
}

/// What shows that a number is not to be called. What is absent stays as it is, null takes it away.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEvidence)]
struct Evidence {
    /// In words, at most 2,000 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    text: Change<Option<String>>,
    /// Where it can be looked at (http or https).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    url: Change<Option<String>>,
    /// When it was said: a time, or a day, which is its beginning in UTC.
    #[serde(default)]
    #[schema(value_type = Option<Moment>)]
    at: Change<Option<Moment>>,
}

impl Evidence {
    /// Nothing shows it.
    fn none() -> Self {
        Self { text: Change::To(None), url: Change::To(None), at: Change::To(None) }
    }
}

/// A number or a prefix to be suppressed: one of the two. Of what was suppressed before, what is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSuppression {
    /// E.164.
    number: Option<String>,
    /// What all numbers begin with that are meant: `+` and 1 to 14 digits, e.g. `+1900`.
    prefix: Option<String>,
    /// Where the wish came from; `api` where a number that is new to the list names none.
    source: Option<String>,
    /// Anything to remember.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    note: Change<Option<String>>,
    /// After this the number may be called again: a time, or a day, which is its beginning in UTC; never where null.
    #[serde(default)]
    #[schema(value_type = Option<Moment>)]
    expires_at: Change<Option<Moment>>,
    /// What shows it.
    #[serde(default)]
    #[schema(value_type = Option<Evidence>)]
    evidence: Change<Option<Evidence>>,
}

/// On what terms the number in the path is suppressed. Of a number that was suppressed before, what is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SuppressionTerms {
    /// Where the wish came from; `api` where a number that is new to the list names none.
    source: Option<String>,
    /// Anything to remember.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    note: Change<Option<String>>,
    /// After this the number may be called again: a time, or a day, which is its beginning in UTC; never where null.
    #[serde(default)]
    #[schema(value_type = Option<Moment>)]
    expires_at: Change<Option<Moment>>,
    /// What shows it.
    #[serde(default)]
    #[schema(value_type = Option<Evidence>)]
    evidence: Change<Option<Evidence>>,
}

/// What was there already and is changed, or what an uploaded list came to.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used: the document shows both shapes of one answer")]
enum Taken {
    One(SuppressionView),
    List(ListTaken),
}

/// The connections that show a list: a business's own, or the operator's.
pub(super) fn pool(ctx: &Context, list: List) -> &PgPool {
    match list {
        List::Business(_) => &ctx.stores.tenant,
        List::Installation => &ctx.stores.pg,
    }
}

/// Suppress a number or a prefix, or upload a list of them
///
/// 201 where it is new to the list, 200 where it was there: then what is given replaces what it had, what is absent (or an empty cell)
/// stays, and null takes it away (but for `source`, which every entry has). An entry that has expired holds again for good, unless `expires_at` is given. Every claim after the
/// answer knows it; jobs to a prefix that wait end in the background where there are many. A `text/csv` body is a list with the columns `number` (a prefix ends
/// with a star), `source`, `note`, `expires_at`, `evidence`, `evidence_url` and `evidence_at`, of which only the first is needed.
#[utoipa::path(post, path = "/v1/suppressions", tag = "numbers", operation_id = "suppress",
    request_body(content((NewSuppression = "application/json"), (String = "text/csv"))),
    responses((status = 201, body = SuppressionView),
              (status = 200, body = Taken)))]
async fn create(
    ListManager(list): ListManager,
    State(ctx): State<Context>,
    request: Request,
) -> Result<Response, ApiError> {
    if is_upload(request.headers()) {
        let file = spool(request.into_body()).await?;
        let taken = suppress::from_csv(&ctx, pool(&ctx, list), list, file).await?;
        return Ok(Json(taken).into_response());
    }
    let Body(new): Body<NewSuppression> = Body::from_request(request, &()).await.map_err(|error: ApiError| {
        if error.slug() == Slug::UnsupportedMediaType {
            return ApiError::new(Slug::UnsupportedMediaType, "Send application/json, or a list as text/csv.");
        }
        error
    })?;
    let terms =
        SuppressionTerms { source: new.source, note: new.note, expires_at: new.expires_at, evidence: new.evidence };
    let key = match (new.number, new.prefix) {
        (Some(number), None) => Key { text: number, pointer: "/number" },
        (None, Some(prefix)) => Key { text: format!("{prefix}{PREFIX_MARK}"), pointer: "/prefix" },
        _ => {
            let detail = "Name either a number or a prefix.";
            return Err(ApiError::validation(vec![FieldError::new("/number", "required", detail)]));
        }
    };
    Ok(write(&ctx, list, key, terms).await?.into_response())
}

/// List suppressed numbers and prefixes in their order, expired ones too
#[utoipa::path(get, path = "/v1/suppressions", tag = "numbers", operation_id = "list_suppressions", params(PageQuery),
    responses((status = 200, body = Page<SuppressionView>)))]
async fn list(
    ListViewer(list): ListViewer,
    State(ctx): State<Context>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<SuppressionView>>, ApiError> {
    let page = query.page::<String>("suppressions")?;
    let rows = suppressions::list(pool(&ctx, list), list, page.after.as_deref(), page.fetch()).await?;
    Ok(Json(Page::new(rows, &page, |row| row.number.clone(), Into::into)))
}

/// Suppress a number, or a prefix with a star: jobs that wait end as skipped; what is absent of an entry that is there stays
#[utoipa::path(put, path = "/v1/suppressions/{number}", tag = "numbers", operation_id = "put_suppression", params(("number" = String, Path)),
    request_body = SuppressionTerms,
    responses((status = 200, body = SuppressionView), (status = 201, body = SuppressionView)))]
async fn put(
    ListManager(list): ListManager,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
    Body(terms): Body<SuppressionTerms>,
) -> Result<(StatusCode, Json<SuppressionView>), ApiError> {
    write(&ctx, list, Key { text: number, pointer: "number" }, terms).await
}

/// Look at one suppressed number or prefix
#[utoipa::path(get, path = "/v1/suppressions/{number}", tag = "numbers", operation_id = "one_suppression", params(("number" = String, Path)),
    responses((status = 200, body = SuppressionView)))]
async fn get(
    ListViewer(list): ListViewer,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
) -> Result<Json<SuppressionView>, ApiError> {
    fits(&number).map_err(|_| not_suppressed())?;
    let row = suppressions::get(pool(&ctx, list), list, &number).await?;
    row.map(|row| Json(row.into())).ok_or_else(not_suppressed)
}

/// Let a number or a prefix be called again; jobs that were skipped stay skipped
#[utoipa::path(delete, path = "/v1/suppressions/{number}", tag = "numbers", operation_id = "remove_suppression", params(("number" = String, Path)),
    responses((status = 204)))]
async fn delete(
    ListManager(list): ListManager,
    State(ctx): State<Context>,
    Ids(number): Ids<String>,
) -> Result<StatusCode, ApiError> {
    fits(&number).map_err(|_| not_suppressed())?;
    if !suppressions::delete(pool(&ctx, list), list, &number).await? {
        return Err(not_suppressed());
    }
    if let List::Business(business) = list {
        ctx.ring(business).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A number, or a prefix with its star, and where the request has it: a field of the body, or the path's own parameter.
struct Key {
    text: String,
    pointer: &'static str,
}

async fn write(
    ctx: &Context,
    list: List,
    key: Key,
    given: SuppressionTerms,
) -> Result<(StatusCode, Json<SuppressionView>), ApiError> {
    let mut check = Check::new();
    check.field(key.pointer, listed(&key.text));
    let source = given.source.as_deref().and_then(|source| check.field("/source", rules::name(source)));
    let words = |text: &Change<Option<String>>| {
        rules::free_text(text.given().and_then(Option::as_deref).unwrap_or_default(), TEXT_LIMIT)
    };
    check.field("/note", words(&given.note));
    let evidence =
        given.evidence.into_given().map(|evidence| evidence.unwrap_or_else(Evidence::none)).unwrap_or_default();
    check.field("/evidence/text", words(&evidence.text));
    if let Some(Some(url)) = evidence.url.given() {
        check.field("/evidence/url", rules::link(url));
    }
    check.done()?;
    let moment = |at: Change<Option<Moment>>| at.into_given().map(|at| at.map(|at| at.0));
    let terms = Terms {
        source,
        note: given.note.into_given(),
        expires_at: moment(given.expires_at),
        evidence: evidence.text.into_given(),
        evidence_url: evidence.url.into_given(),
        evidence_at: moment(evidence.at),
    };
    let entry = Entry { number: key.text, terms };
    let written = suppress::one(ctx, pool(ctx, list), list, entry).await?;
    let written = written.ok_or_else(|| ApiError::not_found("business"))?;
    let status = if written.put == Put::Added { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(written.row.into())))
}

/// A number, or a prefix with its star, that may stand in a list: shorter numbers than are taken now could be put there once.
fn fits(key: &str) -> Result<(), rules::Fault> {
    key.strip_suffix(PREFIX_MARK).map_or_else(|| rules::e164(key), rules::prefix)
}

fn not_suppressed() -> ApiError {
    ApiError::new(Slug::NotFound, "This number is not suppressed.")
}
