//! Rows of businesses, and what a worker needs to know of one.
//!
//! Not here: keys, accounts and suppressed numbers, which have files of their own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{
    businesses::retention::Retention,
    ids::{BusinessId, Carrier},
    stores::through_restarts,
};

/// Whether a business is dialed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum BusinessState {
    /// Dialed for.
    Active,
    /// Nothing new is dialed; live calls go on, and everything can be read and changed.
    Suspended,
}

/// What is known of an account at a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Health {
    /// The carrier took the last request.
    Ok,
    /// The carrier refuses the credentials or the account; one try a minute.
    Refused,
    /// The carrier cannot be reached.
    Down,
    /// Nothing was asked since the credentials were set.
    Unchecked,
}

/// A row of `business`, with the slots that are held.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented there and in the API's schema")]
pub struct Business {
    pub id: BusinessId,
    pub name: String,
    pub state: BusinessState,
    pub max_concurrent_calls: i32,
    pub default_region: String,
    pub time_zone: Option<String>,
    pub allowed_countries: Option<Vec<String>>,
    pub carriers: Vec<Carrier>,
    pub retain_transcripts_days: Option<i32>,
    pub retain_recordings_days: Option<i32>,
    pub retain_variables_days: Option<i32>,
    pub held: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What may be set of a business.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented there and in the API's schema")]
pub struct Terms {
    pub name: String,
    pub state: BusinessState,
    pub max_concurrent_calls: i32,
    pub default_region: String,
    pub time_zone: Option<String>,
    pub allowed_countries: Option<Vec<String>>,
    pub carriers: Vec<Carrier>,
    pub retention: Retention,
}

impl Business {
    /// For how long it keeps what it knows.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            transcripts_days: self.retain_transcripts_days,
            recordings_days: self.retain_recordings_days,
            variables_days: self.retain_variables_days,
        }
    }
}

impl From<Business> for Terms {
    fn from(b: Business) -> Self {
        Self {
            retention: b.retention(),
            name: b.name,
            state: b.state,
            max_concurrent_calls: b.max_concurrent_calls,
            default_region: b.default_region,
            time_zone: b.time_zone,
            allowed_countries: b.allowed_countries,
            carriers: b.carriers,
        }
    }
}

/// True where there is such a business.
///
/// # Errors
/// Where Postgres does.
pub async fn exists(db: impl PgExecutor<'_>, id: BusinessId) -> sqlx::Result<bool> {
    let found =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM business WHERE business_id = $1) AS "found!""#, id.0);
    found.fetch_one(db).await
}

/// Locks the business as a claim does, so that nothing is claimed under rules that are about to change. False where there
/// is none.
///
/// # Errors
/// Where Postgres does; 55P03 where the lock is not had within 500 ms.
pub async fn lock(db: impl PgExecutor<'_>, id: BusinessId) -> sqlx::Result<bool> {
    let row = sqlx::query_scalar!(r#"SELECT 1 AS "one!" FROM business WHERE business_id = $1 FOR NO KEY UPDATE"#, id.0);
    Ok(row.fetch_optional(db).await?.is_some())
}

/// Adds a business, unless there is one with this id, which then is the one that the same request made before.
///
/// # Errors
/// Where Postgres does.
pub async fn create(db: impl PgExecutor<'_>, id: BusinessId, terms: &Terms) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO business (business_id, name, state, max_concurrent_calls, default_region, time_zone, allowed_countries, carriers,
             retain_transcripts_days, retain_recordings_days, retain_variables_days)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (business_id) DO NOTHING",
        id.0,
        terms.name,
        terms.state as BusinessState,
        terms.max_concurrent_calls,
        terms.default_region,
        terms.time_zone,
        terms.allowed_countries.as_deref(),
        &terms.carriers as &[Carrier],
        terms.retention.transcripts_days,
        terms.retention.recordings_days,
        terms.retention.variables_days
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Changes what may be set, under the business's lock, so that no claim is judged by half of it. None where there is no
/// such business.
///
/// # Errors
/// Where Postgres does.
pub async fn change(pg: &PgPool, id: BusinessId, edit: impl FnOnce(&mut Terms)) -> sqlx::Result<Option<Business>> {
    let mut tx = pg.begin().await?;
    lock(&mut *tx, id).await?;
    let Some(old) = get(&mut *tx, id).await? else { return Ok(None) };
    let mut terms = old.into();
    edit(&mut terms);
    set(&mut *tx, id, &terms).await?;
    let new = get(&mut *tx, id).await?;
    tx.commit().await?;
    Ok(new)
}

async fn set(db: impl PgExecutor<'_>, id: BusinessId, terms: &Terms) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE business SET name = $2, state = $3, max_concurrent_calls = $4, default_region = $5, time_zone = $6,
             allowed_countries = $7, carriers = $8, retain_transcripts_days = $9, retain_recordings_days = $10,
             retain_variables_days = $11, updated_at = clock_timestamp()
         WHERE business_id = $1",
        id.0,
        terms.name,
        terms.state as BusinessState,
        terms.max_concurrent_calls,
        terms.default_region,
        terms.time_zone,
        terms.allowed_countries.as_deref(),
        &terms.carriers as &[Carrier],
        terms.retention.transcripts_days,
        terms.retention.recordings_days,
        terms.retention.variables_days
    )
    .execute(db)
    .await?;
    Ok(())
}

/// One business.
///
/// # Errors
/// Where Postgres does.
pub async fn get(db: impl PgExecutor<'_>, id: BusinessId) -> sqlx::Result<Option<Business>> {
    sqlx::query_as!(
        Business,
        r#"SELECT business_id AS "id: BusinessId", name, state AS "state: BusinessState", max_concurrent_calls,
                  default_region, time_zone, allowed_countries, carriers AS "carriers: Vec<Carrier>",
                  retain_transcripts_days, retain_recordings_days, retain_variables_days,
                  (SELECT count(*) FROM attempt a WHERE a.business_id = b.business_id AND a.open) AS "held!",
                  created_at, updated_at
           FROM business b WHERE business_id = $1"#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// Every active business.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn active(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<BusinessId>> {
    sqlx::query_scalar!(
        r#"SELECT business_id AS "business: BusinessId" FROM business WHERE state = 'active' ORDER BY business_id"#
    )
    .fetch_all(db)
    .await
}

/// Up to `limit` businesses in the order they were made, after the business `after`.
///
/// # Errors
/// Where Postgres does.
pub async fn list(db: impl PgExecutor<'_>, after: Option<BusinessId>, limit: i64) -> sqlx::Result<Vec<Business>> {
    sqlx::query_as!(
        Business,
        r#"SELECT business_id AS "id: BusinessId", name, state AS "state: BusinessState", max_concurrent_calls,
                  default_region, time_zone, allowed_countries, carriers AS "carriers: Vec<Carrier>",
                  retain_transcripts_days, retain_recordings_days, retain_variables_days,
                  (SELECT count(*) FROM attempt a WHERE a.business_id = b.business_id AND a.open) AS "held!",
                  created_at, updated_at
           FROM business b WHERE business_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY business_id LIMIT $2"#,
        after.map(|id| id.0),
        limit
    )
    .fetch_all(db)
    .await
}

/// Sets how many calls all businesses may have at once. Waits up to 10 s for claims that are under way, and for a Postgres that
/// goes away in the middle.
///
/// # Errors
/// Where Postgres refuses it.
pub async fn set_max_lines(pg: &PgPool, max_lines: i32) -> anyhow::Result<()> {
    through_restarts("the number of lines", async || Ok(write_max_lines(pg, max_lines).await?)).await
}

async fn write_max_lines(pg: &PgPool, max_lines: i32) -> sqlx::Result<()> {
    let mut tx = pg.begin().await?;
    let db: &mut PgConnection = &mut tx;
    sqlx::query!(
        "SELECT set_config('lock_timeout', '10s', true) AS a, set_config('statement_timeout', '15s', true) AS b"
    )
    .fetch_one(&mut *db)
    .await?;
    sqlx::query_scalar!(r#"SELECT 1 AS "one!" FROM pg_advisory_xact_lock(lines_lock())"#).fetch_one(&mut *db).await?;
    sqlx::query!(
        "INSERT INTO installation (max_lines) VALUES ($1)
         ON CONFLICT (only_row) DO UPDATE SET max_lines = excluded.max_lines",
        max_lines
    )
    .execute(&mut *db)
    .await?;
    tx.commit().await
}
