//! Cancel a run, a job or a call: what is not sent never will be, what is sent is hung up.
//!
//! I7: the lock of the business is the one that a claim takes first, so nothing is claimed between the mark on the open
//! attempts and the end of the queued jobs. Attempts are locked before jobs and the tally, as callbacks lock them.

use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::moves::Stopped;
use crate::{
    attempts::{self, Call, store::HangUp},
    context::Context,
    error::{ApiError, Slug},
    ids::{AttemptId, BusinessId, JobId, RunId},
    jobs::{
        self, Job, JobState,
        store::{CANCEL_BATCH, Cancelled},
    },
    runs::{self, Action, locked::lock},
    slots::Learned,
};

/// What becomes of the calls in flight of a run that is cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InFlightThen {
    /// They are hung up.
    #[default]
    HangUp,
    /// They go on to their end.
    Finish,
}

/// Cancels a run: marks what is in flight to be hung up, unless it may finish, and ends every other job. The caller rings for the business.
///
/// The one transaction is short whatever the list: once it is through, nothing of the run is claimed again, and the answer
/// lists all that may still be sent. The rest of a long list ends batch by batch in the sweep ([`finish`]).
///
/// # Errors
/// 404; 409 `run-state`.
pub async fn run(
    pg: &PgPool,
    (business, run): (BusinessId, RunId),
    in_flight: InFlightThen,
    by: &str,
) -> Result<Stopped, ApiError> {
    let mut tx = pg.begin().await?;
    let mut locked = lock(&mut tx, business, run).await?;
    locked.check(Action::Cancel)?;
    let open = match in_flight {
        InFlightThen::HangUp => attempts::store::want_hangup(&mut tx, business, HangUp::Run(run)).await?,
        InFlightThen::Finish => {
            locked.finish_calls(&mut tx).await?;
            attempts::store::in_flight(&mut *tx, business, run).await?.1.unsigned_abs()
        }
    };
    let done = jobs::store::cancel_queued(&mut *tx, Cancelled::Run(run)).await?;
    locked.act(&mut tx, Action::Cancel, by).await?;
    if open == 0 && done < CANCEL_BATCH && !jobs::store::any_unfinished(&mut *tx, run).await? {
        locked.end_cancel(&mut tx).await?;
    }
    let (in_flight, in_flight_total) = attempts::store::in_flight(&mut *tx, business, run).await?;
    tx.commit().await?;
    tracing::info!(business.id = %business, run.id = %run, in_flight = in_flight_total, by, "a run was cancelled");
    let run = runs::store::one(pg, business, run).await?.ok_or_else(|| ApiError::not_found("run"))?;
    Ok(Stopped { run, in_flight, in_flight_total })
}

/// Ends a batch of what is left of every run that is being cancelled: the sweep's part. Returns how many jobs it ended. A
/// batch, not all of it: the sweep has other businesses to see to in the same second.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn finish(pg: &PgPool) -> sqlx::Result<u64> {
    let mut ended = 0;
    for run in runs::store::cancelling(pg).await? {
        ended += jobs::store::cancel_queued(pg, Cancelled::Run(run)).await?;
        runs::store::end_if_done(pg, run).await?;
    }
    Ok(ended)
}

/// Cancels one job: a queued one at once, one that is being dialed by a hang-up. The caller rings for the business.
///
/// # Errors
/// 404; 409 `conflict` where the job has its outcome.
pub async fn job(pg: &PgPool, business: BusinessId, id: JobId) -> Result<Job, ApiError> {
    let mut tx = pg.begin().await?;
    let found = jobs::read::one(&mut *tx, business, id).await?.ok_or_else(|| ApiError::not_found("job"))?;
    lock(&mut tx, business, found.run_id).await?;
    let open = attempts::store::want_hangup(&mut tx, business, HangUp::Job(id)).await?;
    if open == 0 && jobs::store::cancel_queued(&mut *tx, Cancelled::Job(id)).await? == 0 {
        let job = jobs::read::one(&mut *tx, business, id).await?.ok_or_else(|| ApiError::not_found("job"))?;
        return Err(has_outcome(job.state));
    }
    // It may have been the last one of its run.
    runs::store::end_if_done(&mut *tx, found.run_id).await?;
    let job = jobs::read::one(&mut *tx, business, id).await?.ok_or_else(|| ApiError::not_found("job"))?;
    tx.commit().await?;
    Ok(job)
}

fn has_outcome(state: JobState) -> ApiError {
    let state = state.as_str();
    ApiError::new(Slug::Conflict, format!("The job is {state}; its outcome never changes."))
        .with("state", state)
        .with("allowed", serde_json::json!([]))
}

/// Hangs up a single call; one that no worker has taken yet is never dialed, and its slot is free.
///
/// # Errors
/// 404; 409 `conflict` where the call is over.
pub async fn call(ctx: &Context, business: BusinessId, id: AttemptId) -> Result<Call, ApiError> {
    let mut tx = ctx.stores.tenant.begin().await?;
    let open = attempts::store::want_hangup(&mut tx, business, HangUp::Call(id)).await?;
    let untaken = open > 0 && attempts::store::close_untaken(&mut tx, id).await?;
    let call = attempts::store::calls(&mut *tx, business, (id.0, id.0), 1).await?.pop();
    let call = call.ok_or_else(|| ApiError::not_found("call"))?;
    if open == 0 {
        return Err(ApiError::new(Slug::Conflict, "The call is over.").with("state", "ended"));
    }
    tx.commit().await?;
    if untaken {
        match ctx.gate.release(business, "", &[id], Learned::NoCall).await {
            Ok(freed) => ctx.ring_turns(&freed.turns).await,
            Err(error) => {
                tracing::warn!(attempt.id = %id, %error, "the slot is not free at the gate yet; the sweep releases it")
            }
        }
    }
    ctx.ring(business).await;
    Ok(call)
}
