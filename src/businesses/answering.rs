//! The numbers that a business calls from, and who talks to the people who ring them.

use sqlx::PgPool;

use crate::ids::{AgentId, BusinessId, Carrier};

/// Who talks to people who ring a number, and what becomes of them where there is no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answering {
    /// Who talks.
    pub agent: AgentId,
    /// What they hear where there is no room.
    pub fallback: Option<String>,
    /// The number that they are put through to then, after that. E.164.
    pub redirect: Option<String>,
}

/// A number of a business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerId {
    /// E.164.
    pub number: String,
    /// Where it is.
    pub carrier: Carrier,
    /// Who talks to people who ring it; nobody where none.
    pub agent: Option<AgentId>,
    /// What they hear where there is no room.
    pub fallback: Option<String>,
    /// The number that they are put through to then, after that.
    pub redirect: Option<String>,
    /// What people call it.
    pub label: Option<String>,
    /// False where nobody is called from it.
    pub enabled: bool,
    /// Calls from it in a day of the business's zone.
    pub max_per_day: Option<i32>,
    /// Calls from it at once.
    pub max_at_once: Option<i32>,
    /// How often it was taken for a call today; counted where it has settings of its own.
    pub dials_today: Option<i32>,
}

/// The numbers of a business in their order, after the one whose number and carrier are `after`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn list(pg: &PgPool, business: BusinessId, after: Option<&str>, most: i64) -> sqlx::Result<Vec<CallerId>> {
    sqlx::query_as!(
        CallerId,
        r#"SELECT n.number AS "number!", c.carrier AS "carrier: Carrier", a.agent_id AS "agent?: AgentId", a.fallback AS "fallback?", a.redirect AS "redirect?",
                  s.label AS "label?", coalesce(s.enabled, true) AS "enabled!", s.max_per_day AS "max_per_day?", s.max_at_once AS "max_at_once?",
                  CASE WHEN s.day = (clock_timestamp() AT TIME ZONE coalesce(b.time_zone, 'UTC'))::date THEN s.dials
                       WHEN s.number IS NOT NULL THEN 0 END AS "dials_today?"
           FROM carrier_account c JOIN business b USING (business_id) CROSS JOIN LATERAL unnest(c.caller_ids) AS n (number)
           LEFT JOIN answering a ON a.business_id = c.business_id AND a.number = n.number
           LEFT JOIN caller_id s ON s.business_id = c.business_id AND s.number = n.number
           WHERE c.business_id = $1 AND ($2::text IS NULL OR n.number || ' ' || c.carrier > $2)
           ORDER BY n.number || ' ' || c.carrier LIMIT $3"#,
        business.0,
        after,
        most
    )
    .fetch_all(pg)
    .await
}

/// Who talks to people who ring this number of a business, if it is one and anybody does.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of(pg: &PgPool, business: BusinessId, number: &str) -> sqlx::Result<Option<Answering>> {
    sqlx::query_as!(
        Answering,
        r#"SELECT agent_id AS "agent: AgentId", fallback, redirect FROM answering a WHERE business_id = $1 AND number = $2
               AND EXISTS (SELECT 1 FROM carrier_account c WHERE c.business_id = $1 AND $2 = ANY (c.caller_ids))"#,
        business.0,
        number
    )
    .fetch_optional(pg)
    .await
}

/// Lets an agent talk to people who ring this number, or nobody. False where it is no number of the business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn set(pg: &PgPool, business: BusinessId, number: &str, answering: Option<&Answering>) -> sqlx::Result<bool> {
    let Some(answering) = answering else {
        sqlx::query!("DELETE FROM answering WHERE business_id = $1 AND number = $2", business.0, number)
            .execute(pg)
            .await?;
        return is_ours(pg, business, number).await;
    };
    let done = sqlx::query!(
        "INSERT INTO answering (business_id, number, agent_id, fallback, redirect) SELECT $1, $2, $3, $4, $5
         WHERE EXISTS (SELECT 1 FROM carrier_account c WHERE c.business_id = $1 AND $2 = ANY (c.caller_ids))
         ON CONFLICT (business_id, number) DO UPDATE SET agent_id = excluded.agent_id, fallback = excluded.fallback,
             redirect = excluded.redirect",
        business.0,
        number,
        answering.agent.0,
        answering.fallback,
        answering.redirect
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// True where one of these is a number that anybody of this installation calls from: a call that is put through to it, or comes from
/// it, may be on its way in a circle.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn is_anybodys(pg: &PgPool, numbers: &[&str]) -> sqlx::Result<bool> {
    let numbers: Vec<String> = numbers.iter().map(|number| (*number).to_owned()).collect();
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM carrier_account WHERE caller_ids && $1::text[]) AS "is!""#,
        &numbers
    )
    .fetch_one(pg)
    .await
}

/// True where this is a number that the business calls from.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn is_ours(pg: &PgPool, business: BusinessId, number: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM carrier_account WHERE business_id = $1 AND $2 = ANY (caller_ids)) AS "is!""#,
        business.0,
        number
    )
    .fetch_one(pg)
    .await
}
