//! What people and keys did that others may ask about later.
//!
//! Not here: reading it back, and the changes themselves.

use serde_json::Value;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Writes down that `actor` did `action`; `business` where it concerns one.
///
/// # Errors
/// Where Postgres does.
pub async fn note(
    db: impl PgExecutor<'_>,
    business: Option<Uuid>,
    actor: &str,
    action: &str,
    detail: &Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO audit (audit_id, business_id, actor, action, detail) VALUES ($1, $2, $3, $4, $5)",
        Uuid::now_v7(),
        business,
        actor,
        action,
        detail
    )
    .execute(db)
    .await?;
    Ok(())
}
