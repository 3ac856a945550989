//! Rows of businesses.

use sqlx::PgExecutor;

use crate::ids::BusinessId;

/// True where there is such a business.
///
/// # Errors
/// Where Postgres does.
pub async fn exists(db: impl PgExecutor<'_>, id: BusinessId) -> sqlx::Result<bool> {
    let found =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM business WHERE business_id = $1) AS "found!""#, id.0);
    found.fetch_one(db).await
}
