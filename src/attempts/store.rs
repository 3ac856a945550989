//! Reads the ledger for people, and asks for the end of attempts in flight.

use sqlx::{PgExecutor, PgTransaction, types::Json};
use uuid::Uuid;

use super::{
    inbound::as_said,
    state::{AttemptState, Disposition},
    view::{Attempt, Call, CallState, InFlight, Price, Session},
};
use crate::{
    clock::Time,
    ids::{AgentId, AttemptId, BusinessId, Carrier, JobId, RunId},
};

/// The most attempts in flight that an answer lists.
pub const IN_FLIGHT_MAX: i64 = 10_000;

struct Row {
    attempt_id: AttemptId,
    n: i32,
    job_id: Option<JobId>,
    run_id: Option<RunId>,
    business_id: BusinessId,
    direction: String,
    state: AttemptState,
    disposition: Option<Disposition>,
    needs_person: bool,
    carrier: Carrier,
    carrier_call_id: Option<String>,
    from_number: String,
    to_number: String,
    slot: i32,
    line: i32,
    answered_by: Option<String>,
    carrier_status: Option<String>,
    carrier_code: Option<i32>,
    sip_code: Option<i32>,
    intent_at: Time,
    sent_at: Option<Time>,
    placed_at: Option<Time>,
    ringing_at: Option<Time>,
    answered_at: Option<Time>,
    ended_at: Option<Time>,
    duration_secs: Option<i32>,
    price: Option<String>,
    currency: Option<String>,
    recording_url: Option<String>,
    events: Json<serde_json::Value>,
}

impl From<Row> for Attempt {
    fn from(row: Row) -> Self {
        // The ledger has the other side as `to`, whoever rings.
        let (from, to) = directed(&row.direction, row.from_number, row.to_number, row.carrier_call_id.as_deref());
        Self {
            id: row.attempt_id,
            n: row.n,
            job_id: row.job_id,
            run_id: row.run_id,
            business_id: row.business_id,
            direction: row.direction,
            state: row.state,
            disposition: row.disposition,
            needs_person: row.needs_person,
            carrier: row.carrier,
            carrier_call_id: row.carrier_call_id,
            from,
            to,
            slot: row.slot,
            line: row.line,
            answered_by: row.answered_by,
            carrier_status: row.carrier_status,
            carrier_code: row.carrier_code,
            sip_code: row.sip_code,
            intent_at: row.intent_at,
            sent_at: row.sent_at,
            placed_at: row.placed_at,
            ringing_at: row.ringing_at,
            answered_at: row.answered_at,
            ended_at: row.ended_at,
            duration_secs: row.duration_secs,
            price: price(row.price, row.currency),
            recording_url: row.recording_url,
            events: row.events.0,
        }
    }
}

/// Who rang, and who was rung, of the two numbers of an attempt.
fn directed(direction: &str, ours: String, theirs: String, call_id: Option<&str>) -> (String, String) {
    if direction == "inbound" { (as_said(theirs, call_id), ours) } else { (ours, theirs) }
}

fn price(amount: Option<String>, currency: Option<String>) -> Option<Price> {
    amount.map(|amount| Price { amount, currency })
}

/// One attempt of a business, or every attempt of one of its jobs in the order of the dials.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn list(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    attempt: Option<AttemptId>,
    job: Option<JobId>,
) -> sqlx::Result<Vec<Attempt>> {
    of(pg, business, attempt.as_slice(), job.as_slice()).await
}

/// These attempts of a business, and every attempt of these of its jobs, job by job in the order of the dials.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn of(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    attempts: &[AttemptId],
    jobs: &[JobId],
) -> sqlx::Result<Vec<Attempt>> {
    let attempts: Vec<Uuid> = attempts.iter().map(|attempt| attempt.0).collect();
    let jobs: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT attempt_id AS "attempt_id: AttemptId", n, job_id AS "job_id: JobId", run_id AS "run_id: RunId",
                  business_id AS "business_id: BusinessId", direction, state AS "state: AttemptState",
                  disposition AS "disposition: Disposition", needs_person, carrier AS "carrier: Carrier", carrier_call_id,
                  from_number, to_number, slot, line, answered_by, carrier_status, carrier_code, sip_code,
                  intent_at AS "intent_at: Time", sent_at AS "sent_at: Time", placed_at AS "placed_at: Time",
                  ringing_at AS "ringing_at: Time", answered_at AS "answered_at: Time", ended_at AS "ended_at: Time",
                  duration_secs, price::text, currency, recording_url, transitions(events) AS "events!: Json<serde_json::Value>"
           FROM attempt WHERE business_id = $1 AND (attempt_id = ANY ($2) OR job_id = ANY ($3)) ORDER BY job_id, n"#,
        business as BusinessId,
        &attempts,
        &jobs,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Attempt::from).collect())
}

struct CallRow {
    attempt_id: AttemptId,
    business_id: BusinessId,
    direction: String,
    state: AttemptState,
    owner: Option<String>,
    disposition: Option<Disposition>,
    reason: Option<String>,
    external_id: Option<String>,
    variables: Json<serde_json::Value>,
    message: Option<Json<serde_json::Value>>,
    carrier: Carrier,
    carrier_call_id: Option<String>,
    from_number: String,
    to_number: String,
    answered_by: Option<String>,
    intent_at: Time,
    answered_at: Option<Time>,
    ended_at: Option<Time>,
    duration_secs: Option<i32>,
    price: Option<String>,
    currency: Option<String>,
    agent_id: Option<AgentId>,
    agent_version: Option<i32>,
    talked_at: Option<Time>,
    talked_until: Option<Time>,
    end_reason: Option<String>,
}

impl CallRow {
    /// All of it is there, or nothing.
    fn session(&mut self) -> Option<Session> {
        Some(Session {
            agent_id: self.agent_id?,
            agent_version: self.agent_version?,
            started_at: self.talked_at?,
            ended_at: self.talked_until?,
            end_reason: self.end_reason.take()?,
        })
    }
}

impl From<CallRow> for Call {
    fn from(mut row: CallRow) -> Self {
        let session = row.session();
        let (from, to) = directed(&row.direction, row.from_number, row.to_number, row.carrier_call_id.as_deref());
        Self {
            id: row.attempt_id,
            business_id: row.business_id,
            direction: row.direction,
            state: CallState::of(row.state, row.owner.as_deref()),
            disposition: row.disposition,
            reason: row.reason,
            external_id: row.external_id,
            variables: row.variables.0,
            message: row.message.map(|message| message.0),
            carrier: row.carrier,
            carrier_call_id: row.carrier_call_id,
            from,
            to,
            answered_by: row.answered_by,
            created_at: row.intent_at,
            answered_at: row.answered_at,
            ended_at: row.ended_at,
            duration_secs: row.duration_secs,
            price: price(row.price, row.currency),
            session,
        }
    }
}

/// Single calls of a business, newest first, with ids from `from` to `to`, at most `limit`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn calls(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    (from, to): (Uuid, Uuid),
    limit: i64,
) -> sqlx::Result<Vec<Call>> {
    let rows = sqlx::query_as!(
        CallRow,
        r#"SELECT a.attempt_id AS "attempt_id: AttemptId", a.business_id AS "business_id: BusinessId", direction,
                  state AS "state: AttemptState", owner, disposition AS "disposition: Disposition", reason, external_id,
                  variables AS "variables: Json<serde_json::Value>", message AS "message: Json<serde_json::Value>",
                  carrier AS "carrier: Carrier", carrier_call_id, from_number, to_number, answered_by,
                  intent_at AS "intent_at: Time", answered_at AS "answered_at: Time", a.ended_at AS "ended_at: Time",
                  duration_secs, price::text, currency, c.agent_id AS "agent_id?: AgentId", c.agent_version AS "agent_version?",
                  c.started_at AS "talked_at?: Time", c.ended_at AS "talked_until?: Time", c.end_reason AS "end_reason?"
           FROM attempt a LEFT JOIN conversation c ON c.attempt_id = a.attempt_id
           WHERE a.business_id = $1 AND a.job_id IS NULL AND a.attempt_id BETWEEN $2 AND $3
           ORDER BY a.attempt_id DESC LIMIT $4"#,
        business as BusinessId,
        from,
        to,
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Call::from).collect())
}

/// The open attempts of a run, those that may still be sent first, at most [`IN_FLIGHT_MAX`], and how many there are.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn in_flight(
    pg: impl PgExecutor<'_>,
    business: BusinessId,
    run: RunId,
) -> sqlx::Result<(Vec<InFlight>, i64)> {
    let rows = sqlx::query!(
        r#"SELECT attempt_id AS "attempt_id: AttemptId", job_id AS "job_id: JobId", to_number, state AS "state: AttemptState",
                  coalesce(last_moved_at(events), intent_at) AS "since!: Time", count(*) OVER () AS "total!"
           FROM attempt WHERE business_id = $1 AND run_id = $2 AND open
           ORDER BY rank, intent_at DESC LIMIT $3"#,
        business as BusinessId,
        run as RunId,
        IN_FLIGHT_MAX
    )
    .fetch_all(pg)
    .await?;
    let total = rows.first().map_or(0, |row| row.total);
    let listed = rows
        .into_iter()
        .map(|row| InFlight {
            attempt_id: row.attempt_id,
            job_id: row.job_id,
            to: row.to_number,
            state: row.state,
            since: row.since,
        })
        .collect();
    Ok((listed, total))
}

/// What is to be hung up.
#[derive(Debug, Clone, Copy)]
pub enum HangUp {
    /// Every open attempt of a run.
    Run(RunId),
    /// The open attempt of a job.
    Job(JobId),
    /// One single call.
    Call(AttemptId),
}

/// Marks open attempts to be hung up by whoever has or learns their call id. Returns how many are open. That of a job is marked as
/// cancelled, too: a run that is over dials nobody again, but a job is dialed again unless its last end says that somebody took it
/// from the list, and the mark for the hang-up does not say so: sessions set it as well.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn want_hangup(tx: &mut PgTransaction<'_>, business: BusinessId, what: HangUp) -> sqlx::Result<u64> {
    let (run, job, call) = match what {
        HangUp::Run(run) => (Some(run), None, None),
        HangUp::Job(job) => (None, Some(job), None),
        HangUp::Call(call) => (None, None, Some(call)),
    };
    // Locked in the order in which events lock theirs.
    let done = sqlx::query!(
        "WITH own AS (SELECT attempt_id FROM attempt
             WHERE business_id = $1 AND open AND (run_id = $2 OR job_id = $3 OR (attempt_id = $4 AND job_id IS NULL))
             ORDER BY attempt_id FOR NO KEY UPDATE)
         UPDATE attempt a SET hangup_wanted = true, reason = CASE WHEN a.job_id = $3 THEN 'cancelled' ELSE a.reason END
         FROM own WHERE a.attempt_id = own.attempt_id",
        business as BusinessId,
        run as Option<RunId>,
        job as Option<JobId>,
        call as Option<AttemptId>,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Marks an open attempt to be hung up whose conversation is over; false where it is closed.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn want_ended(pg: impl PgExecutor<'_>, attempt: AttemptId) -> sqlx::Result<bool> {
    let done =
        sqlx::query!("UPDATE attempt SET hangup_wanted = true WHERE attempt_id = $1 AND open", attempt as AttemptId)
            .execute(pg)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Closes a single call that no worker has taken: nothing was sent, and now nothing will be. True if it did.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn close_untaken(tx: &mut PgTransaction<'_>, call: AttemptId) -> sqlx::Result<bool> {
    // The row lock comes first, so that a worker that is just taking it is seen.
    let untaken = sqlx::query_scalar!(
        "SELECT 1 FROM attempt WHERE attempt_id = $1 AND job_id IS NULL AND owner IS NULL AND state = 'intent' FOR NO KEY UPDATE",
        call as AttemptId
    )
    .fetch_optional(&mut **tx)
    .await?;
    if untaken.is_none() {
        return Ok(false);
    }
    let verdict = sqlx::query_scalar!(
        "SELECT (close_attempt($1, 'ops', 'not_sent', 'final', 'cancelled', 'cancelled', NULL, NULL)).verdict",
        call as AttemptId
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(verdict.as_deref() == Some("applied"))
}
