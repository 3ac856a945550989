//! What was said in a call, kept with its attempt, and what a call must be known by to be talked in.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    calls::state::CallState,
    clock::Time,
    ids::{AgentId, AttemptId, BusinessId, Carrier, JobId, RunId},
};

/// What was said in a call and what came of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Conversation {
    /// The call's attempt.
    pub attempt_id: AttemptId,
    /// Who talked.
    pub agent_id: AgentId,
    /// In which version.
    pub agent_version: i32,
    /// Why it ended: `hung_up`, `ended_by_agent`, `transferred`, `silence`, `voicemail`, `time_limit`, `turn_limit`, `trouble`,
    /// `handed_over`, `stream_broke`, `dead_stream`, `malformed` (frames that cannot be read), `stopped` or `lost`.
    pub end_reason: String,
    /// `{who, text, at_ms, cut}`, oldest first; the agent's as far as it was heard. Where a conversation was too long to be kept as a
    /// whole, the first line is of `note`, and says how many lines before it are gone.
    pub transcript: Value,
    /// What the agent wrote down; null where nothing.
    pub outcome: Option<Value>,
    /// Per turn of the agent: milliseconds of each part until it was heard.
    pub turns: Value,
    /// What was used at the providers.
    pub usage: Value,
    /// When the first session began.
    pub started_at: Time,
    /// When the last one ended.
    pub ended_at: Time,
}

/// Keeps what was said so far; a later session of the same call replaces it. Nothing is kept where the number was erased.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn keep(pg: &PgPool, state: &CallState, end_reason: &str) -> sqlx::Result<()> {
    let memory = &state.memory;
    let outcome = (!memory.outcome.is_empty()).then(|| Value::Object(memory.outcome.clone()));
    sqlx::query!(
        "INSERT INTO conversation (attempt_id, business_id, agent_id, agent_version, end_reason, transcript, outcome, turns, usage,
                                   started_at)
         SELECT $1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10::float8 / 1000)
         WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt_id = $1 AND is_erased(to_number))
         ON CONFLICT (attempt_id) DO UPDATE SET end_reason = excluded.end_reason, transcript = excluded.transcript,
             outcome = excluded.outcome, turns = excluded.turns, usage = excluded.usage, ended_at = clock_timestamp()",
        state.attempt.0,
        state.business.0,
        state.agent.0,
        state.agent_version,
        end_reason,
        json!(memory.transcript()),
        outcome,
        json!(memory.latencies),
        json!(memory.usage),
        memory.started_at_ms as f64,
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// What was said in a call of a business; `None` where nothing was.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of(pg: &PgPool, business: BusinessId, attempt: AttemptId) -> sqlx::Result<Option<Conversation>> {
    sqlx::query_as!(
        Conversation,
        r#"SELECT attempt_id AS "attempt_id: AttemptId", agent_id AS "agent_id: AgentId", agent_version, end_reason, transcript,
               outcome, turns, usage, started_at AS "started_at: Time", ended_at AS "ended_at: Time"
           FROM conversation WHERE business_id = $1 AND attempt_id = $2"#,
        business.0,
        attempt.0
    )
    .fetch_optional(pg)
    .await
}

/// Which of these calls of a business have words that were kept.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn among(pg: &PgPool, business: BusinessId, attempts: &[Uuid]) -> sqlx::Result<Vec<AttemptId>> {
    sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM conversation
           WHERE business_id = $1 AND attempt_id = ANY ($2) AND transcript <> '[]'"#,
        business.0,
        attempts
    )
    .fetch_all(pg)
    .await
}

/// Takes the words, and what the agent wrote down, out of these calls of a business; how many had any. How long each turn took
/// stays, and so does what was used.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn erase(db: &mut PgConnection, business: BusinessId, attempts: &[Uuid]) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "UPDATE conversation SET transcript = '[]', outcome = NULL
         WHERE business_id = $1 AND attempt_id = ANY ($2) AND (transcript <> '[]' OR outcome IS NOT NULL)",
        business.0,
        attempts
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// The same for calls that ended so many days ago, at most `most`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn forget_old(pg: &PgPool, business: BusinessId, days: i32, most: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "UPDATE conversation SET transcript = '[]', outcome = NULL
         WHERE attempt_id = ANY (ARRAY(SELECT attempt_id FROM conversation
             WHERE business_id = $1 AND (transcript <> '[]' OR outcome IS NOT NULL)
                 AND ended_at < statement_timestamp() - make_interval(days => $2) ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED))",
        business.0,
        days,
        most
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected())
}

/// An open attempt that was answered, as its conversation needs it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its run.
    pub run: Option<RunId>,
    /// Its job.
    pub job: Option<JobId>,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// Through whom.
    pub carrier: Carrier,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call.
    pub call_id: String,
    /// Caller, E.164.
    pub from: String,
    /// Callee, E.164.
    pub to: String,
    /// What answered.
    pub answered_by: Option<String>,
    /// What is to be done with machines, `{detect, then, message}`; none where the carrier does not listen for them.
    pub machine: Option<Value>,
    /// Seconds that the call may last.
    pub call_time_limit_secs: i32,
    /// The callee's variables.
    pub variables: Map<String, Value>,
    /// Where a job's number may be; none without one.
    pub zones: Vec<String>,
    /// The zone of a number that none is known of.
    pub home_zone: Option<String>,
}

/// An attempt that may be talked in: open, with a call id, and nobody wants it hung up. `None` where it may not.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn answered(pg: &PgPool, business: BusinessId, attempt: AttemptId) -> sqlx::Result<Option<Answered>> {
    let row = sqlx::query!(
        r#"SELECT a.run_id AS "run: RunId", a.job_id AS "job: JobId", a.direction AS "direction!: String",
               a.carrier AS "carrier!: Carrier", a.account, a.carrier_call_id AS "call_id!", a.from_number, a.to_number,
               a.answered_by, a.call_time_limit_secs, coalesce(j.variables, a.variables) AS "variables!", d.rule AS "machine?",
               coalesce(j.time_zones, '{}') AS "zones!", (SELECT time_zone FROM business b WHERE b.business_id = a.business_id) AS home_zone
           FROM attempt a LEFT JOIN job j USING (job_id) LEFT JOIN detection d ON d.attempt_id = a.attempt_id
           WHERE a.attempt_id = $2 AND a.business_id = $1 AND a.open AND NOT a.hangup_wanted AND NOT a.fenced
               AND a.carrier_call_id IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM run r WHERE r.run_id = a.run_id AND r.state IN ('cancelling', 'cancelled') AND NOT r.finish_calls)"#,
        business.0,
        attempt.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| Answered {
        run: row.run,
        job: row.job,
        carrier: row.carrier,
        account: row.account,
        call_id: row.call_id,
        // The ledger has the other side as `to`, whoever rings.
        from: if row.direction == "inbound" { row.to_number.clone() } else { row.from_number.clone() },
        to: if row.direction == "inbound" { row.from_number } else { row.to_number },
        direction: row.direction,
        answered_by: row.answered_by,
        machine: row.machine,
        call_time_limit_secs: row.call_time_limit_secs,
        variables: match row.variables {
            Value::Object(variables) => variables,
            _ => Map::new(),
        },
        zones: row.zones,
        home_zone: row.home_zone,
    }))
}
