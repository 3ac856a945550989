//! Stray calls: calls at a carrier that no open attempt answers for. They are hung up until the carrier says that they ended.

use sqlx::PgPool;

use crate::ids::BusinessId;

/// A call that no open attempt answers for.
#[derive(Debug, Clone)]
pub struct Stray {
    /// Whose account.
    pub business: BusinessId,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call.
    pub call_id: String,
    /// Seconds since it was heard of first.
    pub age_secs: i64,
}

/// Stray calls to hang up, longest not asked for first. Each is asked for again after `again_ms`, and more and more rarely
/// (a tenth of its age), so that one that can never be ended keeps no other waiting. None of `full` accounts, each by its business
/// and its name.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn pick(pg: &PgPool, most: i64, again_ms: i64, full: &[String]) -> sqlx::Result<Vec<Stray>> {
    sqlx::query_as!(
        Stray,
        r#"UPDATE stray_call SET asked_at = clock_timestamp()
           WHERE (account, call_id) IN (SELECT account, call_id FROM stray_call
               WHERE ended_at IS NULL AND (asked_at IS NULL OR asked_at < clock_timestamp()
                   - greatest(make_interval(secs => $2::float8 / 1000), (asked_at - seen_at) / 10))
                   AND business_id::text || ' ' || account <> ALL($3)
               ORDER BY asked_at NULLS FIRST LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING business_id AS "business: BusinessId", account, call_id,
               extract(epoch FROM clock_timestamp() - seen_at)::bigint AS "age_secs!""#,
        most,
        again_ms as f64,
        full,
    )
    .fetch_all(pg)
    .await
}

/// Stray calls that are not over, oldest first, at most `most`; nobody's turn is taken.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn open(pg: &PgPool, most: i64) -> sqlx::Result<Vec<Stray>> {
    sqlx::query_as!(
        Stray,
        r#"SELECT business_id AS "business: BusinessId", account, call_id,
               extract(epoch FROM clock_timestamp() - seen_at)::bigint AS "age_secs!"
           FROM stray_call WHERE ended_at IS NULL ORDER BY seen_at LIMIT $1"#,
        most
    )
    .fetch_all(pg)
    .await
}

/// Writes down that a stray call is over.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn ended(pg: &PgPool, stray: &Stray) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE stray_call SET ended_at = clock_timestamp() WHERE account = $1 AND call_id = $2 AND ended_at IS NULL",
        stray.account,
        stray.call_id
    )
    .execute(pg)
    .await?;
    Ok(())
}
