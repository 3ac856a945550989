//! Every account and limit of the installation, for a person on call. Nothing here is changed.

use sqlx::PgPool;

use crate::{
    businesses::store::Health,
    clock::Time,
    ids::{BusinessId, Carrier},
};

/// An account, how it stands, and its secret still sealed.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Whose.
    pub business: BusinessId,
    /// At which carrier.
    pub carrier: Carrier,
    /// The carrier's own name of it.
    pub reference: String,
    /// Where its API is, if not where the settings say.
    pub api_base_url: Option<String>,
    /// What is known of it.
    pub health: Health,
    /// Why it is not well.
    pub detail: Option<String>,
    /// No call before this.
    pub hold_until: Option<Time>,
    /// For so long its calls cannot be asked about, ms.
    pub unreadable_ms: Option<i64>,
    /// The envelope.
    pub secret: Vec<u8>,
    /// The id of the key that opens it.
    pub sealing_key: String,
}

/// All accounts.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn accounts(pg: &PgPool) -> sqlx::Result<Vec<Standing>> {
    sqlx::query_as!(
        Standing,
        r#"SELECT business_id AS "business: BusinessId", carrier AS "carrier: Carrier", reference, api_base_url,
                  health AS "health: Health", health_detail AS detail,
                  CASE WHEN hold_until > clock_timestamp() THEN hold_until END AS "hold_until: Time",
                  (extract(epoch FROM clock_timestamp() - unreadable_since) * 1000)::bigint AS unreadable_ms,
                  secret, sealing_key
           FROM carrier_account ORDER BY business_id, carrier"#
    )
    .fetch_all(pg)
    .await
}

/// How many calls there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the installation; none before the first start of an api.
    pub max_lines: Option<i32>,
    /// Lines that are held.
    pub lines_open: i64,
    /// The largest limit of a business.
    pub most_of_one: Option<i32>,
    /// Businesses.
    pub businesses: i64,
}

/// Reads them in one snapshot.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn limits(pg: &PgPool) -> sqlx::Result<Limits> {
    sqlx::query_as!(
        Limits,
        r#"SELECT (SELECT max_lines FROM installation) AS max_lines,
                  (SELECT count(*) FROM attempt WHERE open AND line IS NOT NULL) AS "lines_open!",
                  max(max_concurrent_calls) AS most_of_one, count(*) AS "businesses!"
           FROM business"#
    )
    .fetch_one(pg)
    .await
}
