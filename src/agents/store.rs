//! Rows of agents and of their versions.

use serde::Serialize;
use sqlx::{PgExecutor, PgPool, types::Json};
use utoipa::ToSchema;

use crate::{
    agents::{Definition, PipelineKind},
    clock::Time,
    ids::{AgentId, AttemptId, BusinessId, RunId},
};

/// An agent in its newest version.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Agent {
    /// Its name in the API.
    pub id: AgentId,
    /// Whose it is.
    pub business_id: BusinessId,
    /// From 1; each change makes one more.
    pub version: i32,
    /// When it was made.
    pub created_at: Time,
    /// When its newest version was made.
    pub updated_at: Time,
    /// What it is.
    #[serde(flatten)]
    pub definition: Definition,
}

/// One version of an agent, as a run or call keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    /// Which agent.
    pub agent: AgentId,
    /// Which version.
    pub version: i32,
    /// What it is.
    pub definition: Definition,
}

struct Row {
    agent_id: AgentId,
    business_id: BusinessId,
    version: i32,
    created_at: Time,
    updated_at: Time,
    definition: Json<Definition>,
}

impl From<Row> for Agent {
    fn from(row: Row) -> Self {
        Self {
            id: row.agent_id,
            business_id: row.business_id,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            definition: row.definition.0,
        }
    }
}

/// Stores a new agent under this id; nothing where there is one already, which the same request made before.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn insert(
    pg: &PgPool,
    business: BusinessId,
    id: AgentId,
    definition: &Definition,
) -> sqlx::Result<Option<Agent>> {
    sqlx::query!(
        "WITH made AS (INSERT INTO agent (agent_id, business_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING agent_id)
         INSERT INTO agent_version (agent_id, business_id, version, definition) SELECT agent_id, $2, 1, $3 FROM made",
        id.0,
        business.0,
        Json(definition) as Json<&Definition>
    )
    .execute(pg)
    .await?;
    one(pg, business, id).await
}

/// True where any business has an agent.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn any(pg: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM agent WHERE deleted_at IS NULL) AS "any!""#).fetch_one(pg).await
}

/// Agents of a business in the order in which they were made, after the one with the id `after`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn list(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    after: Option<AgentId>,
    most: i64,
) -> sqlx::Result<Vec<Agent>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT a.agent_id AS "agent_id: AgentId", a.business_id AS "business_id: BusinessId", a.version,
               a.created_at AS "created_at: Time", a.updated_at AS "updated_at: Time",
               v.definition AS "definition: Json<Definition>"
           FROM agent a JOIN agent_version v USING (agent_id, version)
           WHERE a.business_id = $1 AND a.deleted_at IS NULL AND ($2::uuid IS NULL OR a.agent_id > $2)
           ORDER BY a.agent_id LIMIT $3"#,
        business.0,
        after.map(|id| id.0),
        most
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Agent::from).collect())
}

/// One agent of a business, not deleted.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn one(pg: impl PgExecutor<'_>, business: BusinessId, id: AgentId) -> sqlx::Result<Option<Agent>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT a.agent_id AS "agent_id: AgentId", a.business_id AS "business_id: BusinessId", a.version,
               a.created_at AS "created_at: Time", a.updated_at AS "updated_at: Time",
               v.definition AS "definition: Json<Definition>"
           FROM agent a JOIN agent_version v USING (agent_id, version)
           WHERE a.business_id = $1 AND a.agent_id = $2 AND a.deleted_at IS NULL"#,
        business.0,
        id.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(Agent::from))
}

/// The agent of a run, in the version that it started with, or else the newest; `None` where it has none.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of_run(pg: impl PgExecutor<'_>, business: BusinessId, run: RunId) -> sqlx::Result<Option<Agent>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT a.agent_id AS "agent_id: AgentId", a.business_id AS "business_id: BusinessId", v.version,
               a.created_at AS "created_at: Time", a.updated_at AS "updated_at: Time",
               v.definition AS "definition: Json<Definition>"
           FROM run r JOIN agent a USING (agent_id, business_id)
               JOIN agent_version v ON v.agent_id = a.agent_id AND v.version = coalesce(r.agent_version, a.version)
           WHERE r.business_id = $1 AND r.run_id = $2 AND (a.deleted_at IS NULL OR r.agent_version IS NOT NULL)"#,
        business.0,
        run.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(Agent::from))
}

/// Adds a version after `version`; false where somebody else added one meanwhile, or the agent is gone.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn add_version(
    pg: &PgPool,
    business: BusinessId,
    id: AgentId,
    version: i32,
    definition: &Definition,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "WITH moved AS (UPDATE agent SET version = version + 1, updated_at = clock_timestamp()
             WHERE agent_id = $1 AND business_id = $2 AND version = $3 AND deleted_at IS NULL RETURNING agent_id, version)
         INSERT INTO agent_version (agent_id, business_id, version, definition) SELECT agent_id, $2, version, $4 FROM moved",
        id.0,
        business.0,
        version,
        Json(definition) as Json<&Definition>
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes an agent: no new run or call can have it, and those that have it keep it. False where there is none.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn delete(pg: &PgPool, business: BusinessId, id: AgentId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE agent SET deleted_at = clock_timestamp() WHERE agent_id = $1 AND business_id = $2 AND deleted_at IS NULL",
        id.0,
        business.0
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The version that an attempt's run started with, or that the call itself was given; `None` without an agent.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of_attempt(pg: impl PgExecutor<'_>, attempt: AttemptId) -> sqlx::Result<Option<Pinned>> {
    let row = sqlx::query!(
        r#"SELECT v.agent_id AS "agent: AgentId", v.version, v.definition AS "definition: Json<Definition>"
           FROM attempt t LEFT JOIN attempt_agent g USING (attempt_id) LEFT JOIN run r ON r.run_id = t.run_id
           JOIN agent_version v ON v.agent_id = coalesce(g.agent_id, r.agent_id)
               AND v.version = coalesce(g.agent_version, r.agent_version)
           WHERE t.attempt_id = $1"#,
        attempt.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| Pinned { agent: row.agent, version: row.version, definition: row.definition.0 }))
}

/// Which of these attempts talk to an agent, and how it hears and speaks.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn talking_among(
    pg: impl PgExecutor<'_>,
    attempts: &[AttemptId],
) -> sqlx::Result<Vec<(AttemptId, PipelineKind)>> {
    let ids: Vec<_> = attempts.iter().map(|attempt| attempt.0).collect();
    let rows = sqlx::query!(
        r#"SELECT a.attempt_id AS "attempt!: AttemptId", coalesce(v.pipeline, '') AS "pipeline!" FROM attempt a
               LEFT JOIN run r ON r.run_id = a.run_id LEFT JOIN attempt_agent g ON g.attempt_id = a.attempt_id
               LEFT JOIN agent_version v ON v.agent_id = coalesce(g.agent_id, r.agent_id)
                   AND v.version = coalesce(g.agent_version, r.agent_version)
           WHERE a.attempt_id = ANY ($1) AND (r.agent_id IS NOT NULL OR g.attempt_id IS NOT NULL)"#,
        &ids
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.iter().map(|row| (row.attempt, PipelineKind::named(&row.pipeline))).collect())
}

/// Gives an attempt without a run its agent, before the attempt is written.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn pin_attempt(
    pg: impl PgExecutor<'_>,
    attempt: AttemptId,
    (agent, version): (AgentId, i32),
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO attempt_agent (attempt_id, agent_id, agent_version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        attempt.0,
        agent.0,
        version
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Takes the agent of an attempt that was not admitted.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn unpin_attempt(pg: impl PgExecutor<'_>, attempt: AttemptId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM attempt_agent WHERE attempt_id = $1", attempt.0).execute(pg).await?;
    Ok(())
}
