//! For how long a business keeps what it knows about people.
//!
//! Not here: forgetting it (`dialing::retention`).

use serde::{Deserialize, Serialize};
use sqlx::PgExecutor;

use crate::ids::BusinessId;

/// Days for which each is kept; null: for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// What was said in a call, and what its agent wrote down: from the end of the call on, 1 to 3650.
    #[serde(default)]
    pub transcripts_days: Option<i32>,
    /// Recordings, which are then deleted at the carrier too: from when they were made, 1 to 3650.
    #[serde(default)]
    pub recordings_days: Option<i32>,
    /// The variables of leads and rows that did not become jobs: from the end of the run on; of single calls from the end of the
    /// call on; 1 to 3650.
    #[serde(default)]
    pub variables_days: Option<i32>,
}

/// The businesses that do not keep everything for good.
///
/// # Errors
/// Where Postgres does.
pub async fn set(pg: impl PgExecutor<'_>) -> sqlx::Result<Vec<(BusinessId, Retention)>> {
    let rows = sqlx::query!(
        r#"SELECT business_id AS "business: BusinessId", retain_transcripts_days, retain_recordings_days, retain_variables_days
           FROM business
           WHERE coalesce(retain_transcripts_days, retain_recordings_days, retain_variables_days) IS NOT NULL ORDER BY business_id"#
    );
    let set = rows.fetch_all(pg).await?.into_iter().map(|row| {
        let retention = Retention {
            transcripts_days: row.retain_transcripts_days,
            recordings_days: row.retain_recordings_days,
            variables_days: row.retain_variables_days,
        };
        (row.business, retention)
    });
    Ok(set.collect())
}
