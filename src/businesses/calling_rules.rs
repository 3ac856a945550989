//! What holds for every list of a business: its hours, how often one number is dialed, and the days on which nobody is called.
//!
//! Invariant: a change counts from the next claim on, because both hold the business's lock, and because what was worked out from
//! other hours is void at once (`window_version`).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgPool, PgTransaction, types::Json};

use crate::{businesses::store, clock::Time, ids::BusinessId, policy::Window};

/// How often one number is dialed by all runs of a business together; null: as often as they want.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object with per_day, per_24h and lifetime, each a number or null for no limit"
)]
pub struct AttemptCaps {
    /// In a day of the callee, 1 to 100.
    pub per_day: Option<i32>,
    /// Within any 24 hours, 1 to 100.
    pub per_24h: Option<i32>,
    /// Ever, 1 to 1,000.
    pub lifetime: Option<i32>,
}

impl AttemptCaps {
    /// True where one of the limits is higher than it was, or gone: what it held may be dialed sooner.
    fn lets_more_than(&self, before: &Self) -> bool {
        [(self.per_day, before.per_day), (self.per_24h, before.per_24h), (self.lifetime, before.lifetime)]
            .into_iter()
            .any(|(now, before)| before.is_some_and(|before| now.is_none_or(|now| now > before)))
    }
}

/// What holds for every list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CallingRules {
    /// When calls may ring, besides what a run says; null: at any time.
    pub window: Option<Window>,
    /// How often one number is dialed.
    pub attempt_caps: AttemptCaps,
}

/// The rules of a business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn get(pg: impl PgExecutor<'_>, business: BusinessId) -> sqlx::Result<Option<CallingRules>> {
    let row = sqlx::query!(
        r#"SELECT calling_window AS "window: Json<Window>", cap_per_day, cap_per_24h, cap_lifetime FROM business WHERE business_id = $1"#,
        business as BusinessId
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| CallingRules {
        window: row.window.map(|window| window.0),
        attempt_caps: AttemptCaps { per_day: row.cap_per_day, per_24h: row.cap_per_24h, lifetime: row.cap_lifetime },
    }))
}

/// What says when a number may ring for a business, whatever a run says besides.
#[derive(Debug)]
pub struct Home {
    /// Its window.
    pub window: Option<Window>,
    /// The zone of a number that none is known of.
    pub zone: Option<String>,
    /// The days of its calendars.
    pub calendars: BTreeMap<String, BTreeSet<NaiveDate>>,
    /// The moment by Postgres.
    pub now: DateTime<Utc>,
    /// Grows with every change of the window and of the calendars.
    pub version: i64,
}

/// The window of a business with all that it needs.
///
/// # Errors
/// Where Postgres does not answer, or there is no such business.
pub async fn home(pg: impl PgExecutor<'_>, business: BusinessId) -> sqlx::Result<Home> {
    let row = sqlx::query!(
        r#"SELECT calling_window AS "window: Json<Window>", time_zone, window_version,
                  (SELECT coalesce(jsonb_object_agg(name, dates), '{}') FROM calendar c WHERE c.business_id = b.business_id)
                      AS "calendars!: Json<BTreeMap<String, BTreeSet<NaiveDate>>>", wall_clock() AS "now!: DateTime<Utc>"
           FROM business b WHERE b.business_id = $1"#,
        business as BusinessId
    )
    .fetch_one(pg)
    .await?;
    let window = row.window.map(|window| window.0);
    Ok(Home { window, zone: row.time_zone, calendars: row.calendars.0, now: row.now, version: row.window_version })
}

/// Changes the rules by `edit`, from the next claim on.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn change(
    pg: &PgPool,
    business: BusinessId,
    edit: impl FnOnce(&mut CallingRules),
) -> sqlx::Result<Option<CallingRules>> {
    let mut tx = pg.begin().await?;
    store::lock(&mut *tx, business).await?;
    let Some(mut rules) = get(&mut *tx, business).await? else { return Ok(None) };
    let before = rules.attempt_caps;
    edit(&mut rules);
    let caps = rules.attempt_caps;
    sqlx::query!(
        "UPDATE business SET window_version = window_version + CASE WHEN calling_window IS DISTINCT FROM $2 THEN 1 ELSE 0 END,
             calling_window = $2, cap_per_day = $3, cap_per_24h = $4, cap_lifetime = $5, updated_at = clock_timestamp()
         WHERE business_id = $1",
        business as BusinessId,
        rules.window.as_ref().map(Json) as Option<Json<&Window>>,
        caps.per_day,
        caps.per_24h,
        caps.lifetime
    )
    .execute(&mut *tx)
    .await?;
    if caps.lets_more_than(&before) {
        review_caps(&mut tx, business).await?;
    }
    tx.commit().await?;
    Ok(Some(rules))
}

/// What waits because of the former limits is looked at again: by the sweep, because a list may have a million such numbers.
async fn review_caps(tx: &mut PgTransaction<'_>, business: BusinessId) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO cap_review (run_id, business_id)
         SELECT run_id, business_id FROM run WHERE business_id = $1 AND state IN ('running', 'paused')
         ON CONFLICT (run_id) DO UPDATE SET after_decision = 0, last_decision = NULL",
        business as BusinessId
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Days without calls, under a name that windows refer to.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Calendar {
    /// 1 to 100 characters.
    pub name: String,
    /// The days, in the callee's zone (or in that of the window).
    pub dates: Vec<NaiveDate>,
    /// When it was put there last.
    pub updated_at: Time,
}

/// Up to `limit` calendars of a business in the order of their names, after the name `after`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn calendars(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<Calendar>> {
    sqlx::query_as!(
        Calendar,
        r#"SELECT name, dates, updated_at AS "updated_at: Time" FROM calendar WHERE business_id = $1 AND name > $2 ORDER BY name LIMIT $3"#,
        business as BusinessId,
        after,
        limit
    )
    .fetch_all(pg)
    .await
}

/// The names of all calendars of a business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn calendar_names(pg: impl PgExecutor<'_>, business: BusinessId) -> sqlx::Result<BTreeSet<String>> {
    let names = sqlx::query_scalar!("SELECT name FROM calendar WHERE business_id = $1", business as BusinessId);
    Ok(names.fetch_all(pg).await?.into_iter().collect())
}

/// Puts a calendar in place of the one of that name, from the next claim on. None where there is no such business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn put_calendar(
    pg: &PgPool,
    business: BusinessId,
    name: &str,
    dates: &BTreeSet<NaiveDate>,
) -> sqlx::Result<Option<Calendar>> {
    let mut tx = pg.begin().await?;
    if !store::lock(&mut *tx, business).await? {
        return Ok(None);
    }
    let dates: Vec<NaiveDate> = dates.iter().copied().collect();
    let put = sqlx::query_as!(
        Calendar,
        r#"INSERT INTO calendar (business_id, name, dates, updated_at) VALUES ($1, $2, $3, clock_timestamp())
           ON CONFLICT (business_id, name) DO UPDATE SET dates = excluded.dates, updated_at = excluded.updated_at
           RETURNING name, dates, updated_at AS "updated_at: Time""#,
        business as BusinessId,
        name,
        &dates
    )
    .fetch_one(&mut *tx)
    .await?;
    windows_changed(&mut tx, business, name).await?;
    tx.commit().await?;
    Ok(Some(put))
}

/// What became of a calendar that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Yes,
    /// There was none.
    None,
    /// A window of the business, or of a run that is not over, refers to it.
    InUse,
}

/// Removes a calendar that no window refers to.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn remove_calendar(pg: &PgPool, business: BusinessId, name: &str) -> sqlx::Result<Removed> {
    let mut tx = pg.begin().await?;
    store::lock(&mut *tx, business).await?;
    let used = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM business WHERE business_id = $1 AND calling_window -> 'calendars' ? $2)
               OR EXISTS (SELECT 1 FROM run WHERE business_id = $1 AND name IS NOT NULL
                          AND state NOT IN ('completed', 'cancelled') AND calling_window -> 'calendars' ? $2) AS "used!""#,
        business as BusinessId,
        name
    )
    .fetch_one(&mut *tx)
    .await?;
    if used {
        return Ok(Removed::InUse);
    }
    let done = sqlx::query!("DELETE FROM calendar WHERE business_id = $1 AND name = $2", business as BusinessId, name)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(if done.rows_affected() == 1 { Removed::Yes } else { Removed::None })
}

/// What was worked out with the days of this calendar is void.
async fn windows_changed(tx: &mut PgTransaction<'_>, business: BusinessId, calendar: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE business SET window_version = window_version + 1 WHERE business_id = $1 AND calling_window -> 'calendars' ? $2",
        business as BusinessId,
        calendar
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "UPDATE run SET window_version = window_version + 1
         WHERE business_id = $1 AND state NOT IN ('completed', 'cancelled') AND calling_window -> 'calendars' ? $2",
        business as BusinessId,
        calendar
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
