//! Rows of runs: made, and read with their progress in one snapshot.

use std::collections::HashMap;

use sqlx::{PgExecutor, PgTransaction, types::Json};

use super::{
    LeadCounts, Machine, Message, Pause, Progress, Run, RunRules, RunState, Span,
    eta::Pace,
    new::LocalPresence,
    progress::{Held, StateCounts},
};
use crate::{
    clock::Time,
    ids::{AgentId, BusinessId, Carrier, RunId},
    policy::{AbandonGuard, Breaker, Budget, Retry, Window},
};

struct Row {
    run_id: RunId,
    business_id: BusinessId,
    name: String,
    external_id: Option<String>,
    carriers: Vec<Carrier>,
    caller_ids: Vec<String>,
    local_presence: LocalPresence,
    agent_id: Option<AgentId>,
    message: Option<Json<Message>>,
    default_region: String,
    max_concurrent_calls: Option<i32>,
    weight: i32,
    ring_timeout_secs: i32,
    call_time_limit_secs: i32,
    record: bool,
    machine: Option<Json<Machine>>,
    calling_window: Option<Json<Window>>,
    retry: Option<Json<Retry>>,
    breaker: Option<Json<Breaker>>,
    budget: Option<Json<Budget>>,
    abandon_guard: Option<Json<AbandonGuard>>,
    start_at: Option<Time>,
    end_at: Option<Time>,
    state: RunState,
    pause_reason: Option<String>,
    paused_by: Option<String>,
    paused_at: Option<Time>,
    rows: i64,
    accepted: i64,
    duplicates: i64,
    suppressed: i64,
    rejected: i64,
    created_at: Time,
    started_at: Option<Time>,
    ended_at: Option<Time>,
    archived_at: Option<Time>,
    skip_called_within_days: Option<i16>,
    at: Time,
    tally: Json<HashMap<String, i64>>,
    attempts_open: i64,
    calls_live: i64,
    held: i64,
    slot_limit: i32,
    pace: Option<Json<Pace>>,
}

impl From<Row> for Run {
    fn from(row: Row) -> Self {
        let slots = Held { held: row.held, limit: row.slot_limit };
        let most = row.retry.as_ref().map_or(1, |retry| retry.max_attempts);
        let end_at = row.end_at;
        let eta =
            |states: &StateCounts, attempts| row.pace.and_then(|pace| pace.0.eta(states, (attempts, most), end_at));
        let pause = row.pause_reason.zip(row.paused_at).map(|(reason, at)| Pause { reason, by: row.paused_by, at });
        Self {
            id: row.run_id,
            business_id: row.business_id,
            rules: RunRules {
                name: row.name,
                external_id: row.external_id,
                carriers: row.carriers,
                caller_ids: row.caller_ids,
                local_presence: row.local_presence,
                agent_id: row.agent_id,
                message: row.message.map(|message| message.0),
                default_region: row.default_region,
                max_concurrent_calls: row.max_concurrent_calls,
                weight: row.weight,
                ring_timeout_secs: row.ring_timeout_secs,
                call_time_limit_secs: row.call_time_limit_secs,
                record: row.record,
                machine: row.machine.map(|machine| machine.0).unwrap_or_default(),
                // Columns of rules that are not built are empty in every row.
                window: row.calling_window.map(|window| window.0),
                retry: row.retry.map(|retry| retry.0).unwrap_or_default(),
                breaker: row.breaker.map(|breaker| breaker.0),
                budget: row.budget.map(|budget| budget.0),
                abandon_guard: row.abandon_guard.map(|guard| guard.0),
                start_at: row.start_at,
                end_at: row.end_at,
                skip_called_within_days: row.skip_called_within_days,
            },
            state: row.state,
            pause,
            leads: LeadCounts {
                rows: row.rows,
                accepted: row.accepted,
                duplicates: row.duplicates,
                suppressed: row.suppressed,
                rejected: row.rejected,
            },
            progress: Progress::of(&row.tally, (row.at, eta), row.attempts_open, row.calls_live, slots),
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            archived_at: row.archived_at,
        }
    }
}

/// Runs of a business in `span`, newest first, at most `limit`: each with its progress, all of one moment.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn list(pg: impl PgExecutor<'_>, business: BusinessId, span: Span, limit: i64) -> sqlx::Result<Vec<Run>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT r.run_id AS "run_id: RunId", r.business_id AS "business_id: BusinessId", r.name, r.external_id,
                  r.carriers AS "carriers: Vec<Carrier>", r.caller_ids,
                  r.local_presence AS "local_presence: LocalPresence", r.agent_id AS "agent_id: AgentId", r.message AS "message: Json<Message>",
                  r.default_region, r.max_concurrent_calls, r.weight, r.ring_timeout_secs, r.call_time_limit_secs, r.record,
                  r.machine AS "machine: Json<Machine>",
                  r.calling_window AS "calling_window: Json<Window>", r.retry AS "retry: Json<Retry>",
                  r.breaker AS "breaker: Json<Breaker>", r.budget AS "budget: Json<Budget>", r.abandon_guard AS "abandon_guard: Json<AbandonGuard>",
                  r.start_at AS "start_at: Time", r.end_at AS "end_at: Time", r.state AS "state: RunState", r.pause_reason,
                  r.paused_by, r.paused_at AS "paused_at: Time", r.rows, r.accepted, r.duplicates, r.suppressed, r.rejected,
                  r.created_at AS "created_at: Time", r.started_at AS "started_at: Time", r.ended_at AS "ended_at: Time",
                  r.archived_at AS "archived_at: Time", r.skip_called_within_days, statement_timestamp() AS "at!: Time",
                  t.sums AS "tally!: Json<HashMap<String, i64>>",
                  o.open AS "attempts_open!", o.live AS "calls_live!", o.held AS "held!", b.max_concurrent_calls AS slot_limit,
                  CASE WHEN r.state = 'running' THEN pace_of_run(r.business_id, r.run_id) END AS "pace: Json<Pace>"
           FROM run r JOIN business b USING (business_id)
           CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(jsonb_build_object(
                   'changes', sum(changes), 'attempts', sum(attempts), 'queued', sum(queued), 'waiting', sum(waiting),
                   'dialing', sum(dialing), 'completed', sum(completed), 'unreached', sum(unreached), 'failed', sum(failed),
                   'skipped', sum(skipped), 'cancelled', sum(cancelled), 'd:answered', sum(d_answered), 'd:machine', sum(d_machine),
                   'd:voicemail_left', sum(d_voicemail_left), 'd:fax', sum(d_fax), 'd:busy', sum(d_busy),
                   'd:no_answer', sum(d_no_answer), 'd:failed', sum(d_failed), 'd:cancelled', sum(d_cancelled),
                   'd:abandoned', sum(d_abandoned), 'd:refused', sum(d_refused), 'd:not_placed', sum(d_not_placed))) AS sums
               FROM tally_shard WHERE run_id = r.run_id) t
           CROSS JOIN LATERAL (SELECT count(*) AS held, count(*) FILTER (WHERE a.run_id = r.run_id) AS open,
                   count(*) FILTER (WHERE a.run_id = r.run_id AND rank >= 2) AS live
               FROM attempt a WHERE a.business_id = r.business_id AND open) o
           WHERE r.business_id = $1 AND r.run_id BETWEEN $2 AND $3 AND ($5 OR r.archived_at IS NULL) ORDER BY r.run_id DESC LIMIT $4"#,
        business as BusinessId,
        span.from,
        span.to,
        limit,
        span.archived
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Run::from).collect())
}

/// One run of a business with its progress, all of one moment.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn one(pg: impl PgExecutor<'_>, business: BusinessId, run: RunId) -> sqlx::Result<Option<Run>> {
    Ok(list(pg, business, Span::one(run), 1).await?.pop())
}

/// True where the business has this run.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn exists(pg: impl PgExecutor<'_>, business: BusinessId, run: RunId) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM run WHERE business_id = $1 AND run_id = $2) AS "found!""#,
        business as BusinessId,
        run as RunId
    );
    found.fetch_one(pg).await
}

/// Stores a new run as a draft under this id; false where there is one already, which the same request made before.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn insert(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    run: RunId,
    rules: &RunRules,
) -> sqlx::Result<bool> {
    let carriers: Vec<String> = rules.carriers.iter().map(ToString::to_string).collect();
    let done = sqlx::query!(
        "INSERT INTO run (run_id, business_id, name, carriers, default_region, ring_timeout_secs, call_time_limit_secs)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (run_id) DO NOTHING",
        run as RunId,
        business as BusinessId,
        rules.name,
        &carriers,
        rules.default_region,
        rules.ring_timeout_secs,
        rules.call_time_limit_secs,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    write(tx, run, rules).await?;
    Ok(true)
}

/// Lets a new run dial again whom another one did not reach: the calls of that one, and of those that it took up itself, are not
/// minded by `skip_called_within_days`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn take_up(tx: &mut PgTransaction<'_>, (from, to): (RunId, RunId)) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE run SET again_of = (SELECT again_of || run_id FROM run WHERE run_id = $1) WHERE run_id = $2",
        from as RunId,
        to as RunId
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes the rules of a run, all of them.
pub(super) async fn write(tx: &mut PgTransaction<'_>, run: RunId, rules: &RunRules) -> sqlx::Result<()> {
    let carriers: Vec<String> = rules.carriers.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "UPDATE run SET name = $2, external_id = $3, carriers = $4, caller_ids = $5, message = $6, default_region = $7, weight = $8,
             ring_timeout_secs = $9, call_time_limit_secs = $10, record = $11, agent_id = $12, max_concurrent_calls = $13,
             window_version = window_version + CASE WHEN calling_window IS DISTINCT FROM $14 OR ring_timeout_secs <> $9 THEN 1 ELSE 0 END,
             calling_window = $14, retry = $15, max_attempts = ($15::jsonb ->> 'max_attempts')::integer, start_at = $16, end_at = $17,
             skip_called_within_days = $18, machine = $19, local_presence = $20, breaker = $21,
             budget = $22, abandon_guard = $23
         WHERE run_id = $1",
        run as RunId,
        rules.name,
        rules.external_id,
        &carriers,
        &rules.caller_ids,
        rules.message.as_ref().map(Json) as Option<Json<&Message>>,
        rules.default_region,
        rules.weight,
        rules.ring_timeout_secs,
        rules.call_time_limit_secs,
        rules.record,
        rules.agent_id as Option<AgentId>,
        rules.max_concurrent_calls,
        rules.window.as_ref().map(Json) as Option<Json<&Window>>,
        Json(&rules.retry) as Json<&Retry>,
        rules.start_at as Option<Time>,
        rules.end_at as Option<Time>,
        rules.skip_called_within_days,
        rules.machine.stored() as Option<Json<&Machine>>,
        rules.local_presence as LocalPresence,
        rules.breaker.map(Json) as Option<Json<Breaker>>,
        rules.budget.map(Json) as Option<Json<Budget>>,
        rules.abandon_guard.map(Json) as Option<Json<AbandonGuard>>,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Variables that every lead of a run has; `None` before the first lead.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn lead_variables(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<Option<Vec<String>>> {
    let found = sqlx::query_scalar!("SELECT lead_variables FROM run WHERE run_id = $1", run as RunId);
    Ok(found.fetch_optional(pg).await?.flatten())
}

/// What became of a run that was to be put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    /// It is away now; its state.
    Yes(RunState),
    /// It is away already; its state.
    Already(RunState),
    /// It is not over; its state.
    No(RunState),
}

/// Puts a run away that is over, or a draft: lists do not show it any more. None where the business has no such run.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn archive(pg: impl PgExecutor<'_>, business: BusinessId, run: RunId) -> sqlx::Result<Option<Archived>> {
    let row = sqlx::query!(
        r#"WITH done AS (
               UPDATE run SET archived_at = clock_timestamp()
               WHERE business_id = $1 AND run_id = $2 AND state IN ('draft', 'cancelled', 'completed') AND archived_at IS NULL
               RETURNING run_id
           )
           SELECT state AS "state: RunState", EXISTS (SELECT 1 FROM done) AS "done!", archived_at IS NOT NULL AS "before!"
           FROM run WHERE business_id = $1 AND run_id = $2"#,
        business as BusinessId,
        run as RunId
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| match (row.done, row.before) {
        (true, _) => Archived::Yes(row.state),
        (false, true) => Archived::Already(row.state),
        (false, false) => Archived::No(row.state),
    }))
}

/// Runs that are being cancelled and not over.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn cancelling(pg: impl PgExecutor<'_>) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"SELECT run_id AS "run: RunId" FROM run WHERE state = 'cancelling' AND business_id IS NOT NULL"#
    )
    .fetch_all(pg)
    .await
}

/// Ends a run whose jobs all have their outcome. A run that is locked just now is left to the sweep.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn end_if_done(pg: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT end_run_if_done($1) AS "ended!""#, run as RunId).fetch_one(pg).await
}

/// Has this import the run to itself, until its transaction ends? A start, a deletion or another import has to wait for it; pause and
/// cancel do not. Whoever has the run now is often through with it at once: that is waited for. False where it is not; then the
/// transaction can only be taken back.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn import_lock(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<bool> {
    let had = sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock(hashtextextended('rollcall.import:' || $1::text, 0)) AS "had!""#,
        run.to_string()
    );
    if had.fetch_one(&mut **tx).await? {
        return Ok(true);
    }
    sqlx::query!("SELECT set_config('lock_timeout', '1s', true) AS a").fetch_one(&mut **tx).await?;
    let waited = sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('rollcall.import:' || $1::text, 0)) IS NULL AS had",
        run.to_string()
    );
    match waited.fetch_one(&mut **tx).await {
        Ok(_) => Ok(true),
        // Not had in time (PostgreSQL manual, appendix A).
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => Ok(false),
        Err(error) => Err(error),
    }
}

/// True where no import has the run: from here on none gets it before this transaction ends. Those who ask for this do not
/// keep each other out, and nobody takes them for an import.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn keep_imports_out(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock_shared(hashtextextended('rollcall.import:' || $1::text, 0)) AS "had!""#,
        run.to_string()
    )
    .fetch_one(&mut **tx)
    .await
}
