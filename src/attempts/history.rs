//! Did we call this number: every attempt of a business with it, counted, and its calls outside of runs.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    clock::Time,
    ids::{AttemptId, BusinessId},
};

/// What was dialed to, and came from, one number.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct Dialed {
    /// Attempts to it, whatever came of them.
    pub attempts: i64,
    /// Calls that came from it.
    pub inbound: i64,
    /// Of both, those that are not over.
    pub open: i64,
    /// When it was first dialed.
    pub first_at: Option<Time>,
    /// When it was last dialed.
    pub last_at: Option<Time>,
    /// How many attempts ended how.
    pub dispositions: BTreeMap<String, i64>,
}

/// Every attempt of a business with this number, counted.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn dialed(pg: impl PgExecutor<'_>, business: BusinessId, number: &str) -> sqlx::Result<Dialed> {
    let rows = sqlx::query!(
        r#"SELECT disposition, count(*) AS "n!", count(*) FILTER (WHERE direction = 'outbound') AS "dialed!",
                  count(*) FILTER (WHERE open) AS "open!",
                  min(sent_at) FILTER (WHERE direction = 'outbound') AS "first: Time", max(sent_at) FILTER (WHERE direction = 'outbound') AS "last: Time"
           FROM attempt WHERE business_id = $1 AND to_number = $2 AND intent_at IS NOT NULL
           GROUP BY disposition ORDER BY disposition"#,
        business.0,
        number
    )
    .fetch_all(pg)
    .await?;
    let mut dialed = Dialed::default();
    for row in rows {
        dialed.attempts += row.dialed;
        dialed.inbound += row.n - row.dialed;
        dialed.open += row.open;
        dialed.first_at = dialed.first_at.into_iter().chain(row.first).min();
        dialed.last_at = dialed.last_at.max(row.last);
        if let Some(disposition) = row.disposition {
            dialed.dispositions.insert(disposition, row.n);
        }
    }
    Ok(dialed)
}

/// The single calls and the calls that came in, of a business with this number, newest first, before this one.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn singles(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    number: &str,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<AttemptId>> {
    sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt
           WHERE business_id = $1 AND to_number = $2 AND intent_at IS NOT NULL AND job_id IS NULL AND attempt_id < $3 ORDER BY attempt_id DESC LIMIT $4"#,
        business.0,
        number,
        before,
        limit
    )
    .fetch_all(pg)
    .await
}
