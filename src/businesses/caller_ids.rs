//! How a business uses each number that it calls from. Which one is taken for a call is decided by `pick_caller`, in the claim.
//!
//! Not here: which numbers there are (`accounts`), and who talks to people who ring them (`answering`).

use sqlx::PgPool;

use crate::{businesses::store, ids::BusinessId};

/// What may be set of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What people call it.
    pub label: Option<String>,
    /// False where nobody is called from it.
    pub enabled: bool,
    /// Calls from it in a day of the business's zone; none: as many as there are.
    pub max_per_day: Option<i32>,
    /// Calls from it at once; none: as many as there are.
    pub max_at_once: Option<i32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { label: None, enabled: true, max_per_day: None, max_at_once: None }
    }
}

/// True where nobody is called from this number.
///
/// # Errors
/// Where Postgres does.
pub async fn is_off(pg: &PgPool, business: BusinessId, number: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM caller_id WHERE business_id = $1 AND number = $2 AND NOT enabled) AS "off!""#,
        business.0,
        number
    )
    .fetch_one(pg)
    .await
}

/// Changes the settings of a number, under the lock that claims take. False where it is no number of the business.
///
/// # Errors
/// Where Postgres does.
pub async fn change(
    pg: &PgPool,
    business: BusinessId,
    number: &str,
    edit: impl FnOnce(&mut Settings),
) -> sqlx::Result<bool> {
    let mut tx = pg.begin().await?;
    if !store::lock(&mut *tx, business).await? {
        return Ok(false);
    }
    let old = sqlx::query_as!(
        Settings,
        "SELECT label, enabled, max_per_day, max_at_once FROM caller_id WHERE business_id = $1 AND number = $2",
        business.0,
        number
    );
    let mut settings = old.fetch_optional(&mut *tx).await?.unwrap_or_default();
    edit(&mut settings);
    let done = sqlx::query!(
        "INSERT INTO caller_id (business_id, number, label, enabled, max_per_day, max_at_once)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE EXISTS (SELECT 1 FROM carrier_account c WHERE c.business_id = $1 AND $2 = ANY (c.caller_ids))
         ON CONFLICT (business_id, number) DO UPDATE SET label = excluded.label, enabled = excluded.enabled,
             max_per_day = excluded.max_per_day, max_at_once = excluded.max_at_once",
        business.0,
        number,
        settings.label,
        settings.enabled,
        settings.max_per_day,
        settings.max_at_once
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}
