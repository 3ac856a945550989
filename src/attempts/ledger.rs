//! The writing side of the dial ledger: every move of an attempt's state, each one round trip.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{
    attempts::state::{AttemptState, Disposition, Source},
    ids::{AttemptId, BusinessId, Carrier, Held, JobId, RunId},
    telemetry::{metrics, traces},
};

/// What the carrier said about a call, in our words.
#[derive(Debug, Clone, Default)]
pub struct Said<'a> {
    /// The carrier's id of the call, where it was named.
    pub call_id: Option<&'a str>,
    /// Seconds from answer to end.
    pub duration_secs: Option<i32>,
    /// What answered, in the carrier's word.
    pub answered_by: Option<&'a str>,
    /// The carrier's own status word, or the HTTP status of a refusal.
    pub carrier_status: Option<&'a str>,
    /// The carrier's error code.
    pub carrier_code: Option<i32>,
    /// The SIP status that ended the call.
    pub sip_code: Option<i32>,
    /// What the carrier charges, as a decimal number, and its currency (ISO 4217).
    pub price: Option<(&'a str, &'a str)>,
    /// Milliseconds since the request left, where this is its answer.
    pub sent_ms_ago: Option<i32>,
    /// When it happened, by the carrier's clock.
    pub at: Option<DateTime<Utc>>,
}

/// What became of an event or a closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The attempt moved.
    Applied,
    /// It was there already, or further.
    Stale,
    /// The attempt was closed without a call: this call must be hung up.
    Late,
    /// The attempt has another call id: this second call must be hung up.
    OtherCall,
}

/// An attempt after an event or a closing.
#[derive(Debug, Clone)]
pub struct Change {
    /// What became of it.
    pub verdict: Verdict,
    /// True where this very change closed it: its slot is to be released and the next rung for.
    pub closed: bool,
    /// True where its run ended with it.
    pub run_ended: bool,
    /// Whose it is.
    pub business: BusinessId,
    /// Its run.
    pub run: Option<RunId>,
    /// Its job.
    pub job: Option<JobId>,
    /// The carrier's own name of the account.
    pub account: String,
    /// The call's id at the carrier, as far as known; for `OtherCall` the second one.
    pub call_id: Option<String>,
    /// Somebody wants it hung up.
    pub hangup_wanted: bool,
}

/// How an attempt without a call is closed, and what becomes of its job.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// `Refused`, `NotSent` or `NotPlaced`.
    pub state: AttemptState,
    /// Back to the queue, uncharged, or final.
    pub job: JobThen,
    /// The attempt's disposition, and the job's where it is final.
    pub disposition: Option<Disposition>,
    /// Why, by API.md's words.
    pub reason: Option<&'a str>,
    /// HTTP status of a refusal.
    pub carrier_status: Option<&'a str>,
    /// The carrier's error code.
    pub carrier_code: Option<i32>,
}

impl Closing<'_> {
    /// It was sent, and the carrier is proven not to have it: the job is dialed again, at most twice.
    pub const NOT_PLACED: Self = Self {
        state: AttemptState::NotPlaced,
        job: JobThen::Requeue,
        disposition: Some(Disposition::NotPlaced),
        reason: Some("not_placed"),
        carrier_status: None,
        carrier_code: None,
    };
}

/// What becomes of the job of an attempt that never became a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobThen {
    /// It is dialed again, and this attempt is not charged.
    Requeue,
    /// It has failed.
    Fail,
}

/// Closes an attempt that never became a call; `Stale` where it was closed already or has a call id.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn close(
    pg: &PgPool,
    attempt: AttemptId,
    source: Source,
    closing: Closing<'_>,
) -> sqlx::Result<Option<Change>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT verdict AS "verdict!", closed, run_ended, business_id, run_id, job_id, account, carrier_call_id, hangup_wanted
           FROM close_attempt($1, $2, $3, $4, $5, $6, $7, $8)"#,
        attempt.0,
        source.as_str(),
        closing.state.as_str(),
        match closing.job {
            JobThen::Requeue => "requeue",
            JobThen::Fail => "final",
        },
        closing.disposition.map(Disposition::as_str),
        closing.reason,
        closing.carrier_status,
        closing.carrier_code,
    )
    .fetch_one(pg)
    .await?;
    let word = match (closing.state, closing.job) {
        // The carrier said "not now": the same job comes again, and nothing has failed.
        (AttemptState::Refused, JobThen::Requeue) => "requeued",
        (state, _) => closing.disposition.map_or(state.as_str(), Disposition::as_str),
    };
    Ok(told(attempt, row.change(), word))
}

/// The intents of one claim, which became some although its answer was lost.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn intents_of(pg: &PgPool, business: BusinessId, claim: &str) -> sqlx::Result<Vec<AttemptId>> {
    sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt WHERE business_id = $1 AND open AND owner = $2 AND state = 'intent'"#,
        business.0,
        claim
    )
    .fetch_all(pg)
    .await
}

/// Counts a closing and ends its trace: exactly one change closes an attempt, whoever else learns of its end.
pub(super) fn told(attempt: AttemptId, change: Option<Change>, word: &'static str) -> Option<Change> {
    if let Some(change) = change.as_ref().filter(|change| change.closed) {
        metrics::call_ended(word);
        traces::whole(attempt, change.business, word);
    }
    change
}

/// True where this intent is still to be sent: it is open and nobody wants it hung up.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn still_wanted(pg: &PgPool, attempt: AttemptId) -> sqlx::Result<bool> {
    let wanted = sqlx::query_scalar!(
        r#"SELECT NOT hangup_wanted AS "wanted!" FROM attempt WHERE attempt_id = $1 AND state = 'intent'"#,
        attempt.0
    )
    .fetch_optional(pg)
    .await?;
    Ok(wanted.unwrap_or(false))
}

/// A change as Postgres tells it.
pub(super) struct Row {
    pub(super) verdict: String,
    pub(super) closed: Option<bool>,
    pub(super) run_ended: Option<bool>,
    pub(super) business_id: Option<uuid::Uuid>,
    pub(super) run_id: Option<uuid::Uuid>,
    pub(super) job_id: Option<uuid::Uuid>,
    pub(super) account: Option<String>,
    pub(super) carrier_call_id: Option<String>,
    pub(super) hangup_wanted: Option<bool>,
}

impl Row {
    pub(super) fn is_again(&self) -> bool {
        self.verdict == "again"
    }

    pub(super) fn change(self) -> Option<Change> {
        let verdict = match self.verdict.as_str() {
            "applied" => Verdict::Applied,
            "stale" => Verdict::Stale,
            "late" => Verdict::Late,
            "other_call" => Verdict::OtherCall,
            _ => return None,
        };
        Some(Change {
            verdict,
            closed: self.closed.unwrap_or(false),
            run_ended: self.run_ended.unwrap_or(false),
            business: self.business_id?.into(),
            run: self.run_id.map(RunId),
            job: self.job_id.map(JobId),
            account: self.account?,
            call_id: self.carrier_call_id,
            hangup_wanted: self.hangup_wanted.unwrap_or(false),
        })
    }
}

/// A single call that asks to be admitted.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Its holder at the gate.
    pub held: Held,
    /// Through whom.
    pub carrier: Carrier,
    /// The numbers that it may come from, E.164; where there is none, the account's, its first before the others.
    pub callers: Vec<String>,
    /// Of a run's trial: by which rule the run takes one of them (`off` or as the run says).
    pub local_presence: Option<&'static str>,
    /// Callee, E.164.
    pub to: String,
    /// The client's own name for it.
    pub external_id: Option<String>,
    /// The callee's variables, a JSON object.
    pub variables: serde_json::Value,
    /// What is said, a template: `{text, language, voice}`; none where an agent talks.
    pub message: Option<serde_json::Value>,
    /// Seconds that it may ring.
    pub ring_timeout_secs: i32,
    /// Seconds that it may last.
    pub call_time_limit_secs: i32,
    /// Seconds within which a worker must take it.
    pub max_wait_secs: i32,
    /// Record it.
    pub record: bool,
    /// The zones that it may be in, for the limits of numbers.
    pub zones: Vec<String>,
    /// The version of the business's window that was looked at for it.
    pub window_version: i64,
}

/// Writes the intent of a single call, without an owner, if the ledger agrees that there is room. The answer is one of
/// `admit_call`'s words: admitted, full, held, suppressed, in_call, attempt_cap, account, caller, business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn admit(pg: &PgPool, business: BusinessId, call: &Admission) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        r#"SELECT admit_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) AS "word!""#,
        business.0,
        call.held.attempt.0,
        call.held.slot,
        call.held.line,
        call.carrier.as_str(),
        &call.callers,
        call.local_presence,
        call.to,
        call.external_id,
        call.variables,
        call.message,
        call.ring_timeout_secs,
        call.call_time_limit_secs,
        call.max_wait_secs,
        call.record,
        &call.zones,
        call.window_version,
    )
    .fetch_one(pg)
    .await
}
