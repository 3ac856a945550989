//! Calls that came in, in the same ledger: they hold a slot and a line like any other.

use serde_json::Value;
use sqlx::PgPool;

use crate::ids::{AttemptId, BusinessId, Carrier, Held};

/// A call that rings here.
#[derive(Debug, Clone)]
pub struct Inbound<'a> {
    /// Its slot and line.
    pub held: Held,
    /// Through whom it came.
    pub carrier: Carrier,
    /// The carrier's own name of the account.
    pub account: &'a str,
    /// The carrier's id of the call.
    pub call_id: &'a str,
    /// The number that was rung.
    pub ours: &'a str,
    /// Whoever rings.
    pub theirs: &'a str,
    /// What the agent's texts may name.
    pub variables: &'a Value,
    /// Seconds that it may last.
    pub call_time_limit_secs: i32,
}

/// Whoever rings and shows no number, as the ledger has them: they are not one caller, so each goes by their call, too.
#[must_use]
pub fn without_number(theirs: &str, call_id: &str) -> String {
    format!("{theirs}:{call_id}")
}

/// The same as the carrier said it: what the ledger has added is nobody else's to see.
#[must_use]
pub fn as_said(mut theirs: String, call_id: Option<&str>) -> String {
    let said = call_id.and_then(|id| theirs.strip_suffix(id)).and_then(|said| said.strip_suffix(':'));
    if let Some(length) = said.map(str::len) {
        theirs.truncate(length);
    }
    theirs
}

/// Writes a call that rings here into the ledger, if that agrees that there is room. The answer is one of `admit_inbound`'s
/// words: admitted, full, in_call, business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn admit(pg: &PgPool, business: BusinessId, call: &Inbound<'_>) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        r#"SELECT admit_inbound($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS "word!""#,
        business.0,
        call.held.attempt.0,
        call.held.slot,
        call.held.line,
        call.carrier.as_str(),
        call.account,
        call.call_id,
        call.ours,
        call.theirs,
        call.variables,
        call.call_time_limit_secs,
    )
    .fetch_one(pg)
    .await
}

/// True for a call that nobody has answered yet, as far as known, and nobody wants ended.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn is_waiting(pg: &PgPool, (business, attempt): (BusinessId, AttemptId)) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM attempt WHERE attempt_id = $2 AND business_id = $1 AND direction = 'inbound' AND open
                          AND answered_at IS NULL AND NOT hangup_wanted) AS "is!""#,
        business.0,
        attempt.0
    )
    .fetch_one(pg)
    .await
}

/// The attempt of a call by the carrier's id of it, of this business alone.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn known(pg: &PgPool, business: BusinessId, account: &str, call_id: &str) -> sqlx::Result<Option<AttemptId>> {
    sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt
           WHERE account = $2 AND carrier_call_id = $3 AND business_id = $1"#,
        business.0,
        account,
        call_id
    )
    .fetch_optional(pg)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shows_no_number_is_shown_as_the_carrier_said() {
        for said in ["anonymous", "", "sip:bob@example.com", "a:b"] {
            let kept = without_number(said, "CA1");
            assert_ne!(kept, without_number(said, "CA2"), "they are not one caller");
            assert_eq!(as_said(kept, Some("CA1")), said);
        }
        assert_eq!(as_said("+12055550100".to_owned(), Some("CA1")), "+12055550100");
        assert_eq!(as_said("+12055550100".to_owned(), None), "+12055550100");
    }
}
