//! The claim: from holders at the gate to attempts in the ledger, in one round trip.

use std::{collections::HashMap, time::Duration};

use sqlx::{PgExecutor, PgPool};

use crate::{
    config::Times,
    ids::{AttemptId, BusinessId, Carrier, Held, JobId, RunId},
};

/// An attempt that this process may send, and nobody else.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The attempt, an intent.
    pub attempt: AttemptId,
    /// Its job; none for a single call.
    pub job: Option<JobId>,
    /// Its run; none for a single call.
    pub run: Option<RunId>,
    /// The carrier's own name of the account.
    pub account: String,
    /// Caller id, E.164.
    pub from: String,
    /// Callee, E.164.
    pub to: String,
    /// Seconds that it may ring.
    pub ring_timeout_secs: i32,
    /// Seconds that it may last.
    pub call_time_limit_secs: i32,
    /// Record it.
    pub record: bool,
    /// The pipeline of the agent that talks to whoever answers; none where none does.
    pub talks: Option<String>,
}

/// What a business may claim with.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose jobs.
    pub business: BusinessId,
    /// Through whom: the runs whose first carrier that takes calls now it is.
    pub carrier: Carrier,
    /// The claim's name in the ledger, by which its intents are found where its answer is lost.
    pub owner: String,
    /// Its holders at the gate.
    pub held: Vec<Held>,
    /// What may pass between the claim and the first ring, at most.
    pub until_rung: Duration,
}

impl Wanted {
    fn until_rung_ms(&self) -> i32 {
        i32::try_from(self.until_rung.as_millis()).unwrap_or(i32::MAX)
    }
}

/// What one business of several got.
#[derive(Debug, Clone, Default)]
pub struct Got {
    /// Its attempts.
    pub claimed: Vec<Claimed>,
    /// There may be more: it was locked, nothing was due where its claims begin, or jobs that may not be dialed now were taken out of
    /// the way. It is to be claimed for alone.
    pub again: bool,
    /// Runs that others got ahead of because the first of their jobs may not be dialed now: [`make_way`].
    pub blocked: Vec<RunId>,
}

/// Claims the single calls that wait, and due jobs for the given holders, as if they rang at once; holders without an answer are free to
/// be given back.
///
/// # Errors
/// Where Postgres does not answer: then the commit may have happened all the same, and `attempts::ledger::intents_of`
/// says so.
pub async fn claim(
    pg: &PgPool,
    (business, carrier): (BusinessId, Carrier),
    owner: &str,
    held: &[Held],
    times: &Times,
) -> sqlx::Result<Vec<Claimed>> {
    let wanted = Wanted { business, carrier, owner: owner.to_owned(), held: held.to_vec(), until_rung: Duration::ZERO };
    Ok(claim_alone(pg, &wanted, times).await?.claimed)
}

/// The same; it says, too, whether jobs that may not be dialed now were taken out of the way: then others may be due.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn claim_alone(pg: &PgPool, wanted: &Wanted, times: &Times) -> sqlx::Result<Got> {
    let mut got = claim_all(pg, &[wanted], (times.intent_grace_ms, times.refused_retry_ms)).await?;
    Ok(got.pop().unwrap_or_default())
}

/// The same for several businesses in one transaction, each named once; one answer for each, in their order. The times are the
/// grace of an intent and how long an account that refuses is left alone, ms.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn claim_all(
    pg: impl PgExecutor<'_>,
    wanted: &[&Wanted],
    (grace_ms, retry_ms): (u64, u64),
) -> sqlx::Result<Vec<Got>> {
    let held = || wanted.iter().flat_map(|one| one.held.iter().map(|held| (one.business, held)));
    let rows = sqlx::query!(
        r#"SELECT business_id AS "business!", attempt_id AS "attempt: AttemptId", job_id AS "job: JobId", run_id AS "run: RunId", account,
                  from_number, to_number, ring_timeout_secs, call_time_limit_secs, record, talks
           FROM claim_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
        &wanted.iter().map(|one| one.business.0).collect::<Vec<_>>(),
        &wanted.iter().map(|one| one.carrier.to_string()).collect::<Vec<_>>(),
        &wanted.iter().map(|one| one.owner.clone()).collect::<Vec<_>>(),
        &held().map(|(business, _)| business.0).collect::<Vec<_>>(),
        &held().map(|(_, held)| held.attempt.0).collect::<Vec<_>>(),
        &held().map(|(_, held)| held.slot).collect::<Vec<_>>(),
        &held().map(|(_, held)| held.line).collect::<Vec<_>>(),
        i32::try_from(grace_ms).unwrap_or(i32::MAX),
        i32::try_from(retry_ms).unwrap_or(i32::MAX),
        wanted.iter().map(|one| one.until_rung_ms()).max().unwrap_or(0),
    )
    .fetch_all(pg)
    .await?;
    let mut got = vec![Got::default(); wanted.len()];
    let place: HashMap<_, _> = wanted.iter().enumerate().map(|(i, one)| (one.business.0, i)).collect();
    for row in rows {
        let got = &mut got[place[&row.business]];
        let whole =
            (row.attempt, row.account, row.from_number, row.to_number, row.ring_timeout_secs, row.call_time_limit_secs);
        let (Some(attempt), Some(account), Some(from), Some(to), Some(ring_timeout_secs), Some(call_time_limit_secs)) =
            whole
        else {
            match row.run {
                Some(run) => got.blocked.push(run),
                None => got.again = true,
            }
            continue;
        };
        let (record, talks) = (row.record.unwrap_or(false), row.talks);
        let (job, run) = (row.job, row.run);
        got.claimed.push(Claimed {
            attempt,
            job,
            run,
            account,
            from,
            to,
            ring_timeout_secs,
            call_time_limit_secs,
            record,
            talks,
        });
    }
    Ok(got)
}

/// Takes the first jobs of these runs out of the way, as far as they may not be dialed now; true where there were any. A transaction of
/// its own: it moves tallies, and so did the claim.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn make_way(pg: &PgPool, wanted: &Wanted, runs: &[RunId]) -> sqlx::Result<bool> {
    let runs: Vec<_> = runs.iter().map(|run| run.0).collect();
    let made = sqlx::query_scalar!(
        r#"SELECT hold_back(b.business_id, a.reference, $3, $4) AS "any!"
           FROM (SELECT business_id FROM business WHERE business_id = $1 FOR NO KEY UPDATE) b JOIN carrier_account a USING (business_id)
           WHERE a.carrier = $2"#,
        wanted.business.0,
        wanted.carrier.as_str(),
        &runs,
        wanted.until_rung_ms()
    );
    Ok(made.fetch_optional(pg).await?.unwrap_or(false))
}

/// Postgres refused the statement, or it was never sent: nothing of the claim exists.
#[must_use]
pub fn surely_not_committed(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        // Class 57P is an administrator's end of the session, which may come between the commit and its answer.
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| !code.starts_with("57P")),
        _ => false,
    }
}

/// True where the business has a single call to dial, or a queued job in a running run that dials through this carrier now.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn has_due(pg: &PgPool, business: BusinessId, carrier: Carrier) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT (EXISTS (SELECT 1 FROM attempt WHERE business_id = $1 AND open AND owner IS NULL)
               OR EXISTS (SELECT 1 FROM run r WHERE r.business_id = $1 AND r.state = 'running'
                          AND (r.carriers = ARRAY[$2] OR carrier_of_run(r.business_id, r.carriers) = $2)
                          AND has_queued(r.run_id, true))) AS "due!""#,
        business.0,
        carrier.as_str(),
    )
    .fetch_one(pg)
    .await
}
