//! What a business keeps only for so many days is forgotten, by whichever worker comes to it, a part at a time.
//!
//! Each part may be done twice and by two workers at once. A recording is deleted at its carrier; one whose carrier does not answer
//! is asked for again some minutes later, and nobody is shown it meanwhile.

use crate::{
    attempts::erase::{self, Unwanted},
    businesses::retention::{self, Retention},
    calls::conversation,
    context::Context,
    dialing::asked::{Asked, name},
    ids::{BusinessId, RunId},
    jobs::skip,
    leads, runs,
};

/// Rows that one statement changes.
const PART: i64 = 1000;
/// Parts of one kind in one round and business, so that no business keeps the others waiting.
const PARTS: usize = 20;
/// Recordings that are picked together.
const RECORDINGS: i64 = 50;

/// One round over every business that does not keep everything, and over every recording that is to be deleted: how many rows were
/// forgotten, and how many recordings are being deleted.
///
/// # Errors
/// Where Postgres does not answer; what was done is done.
pub async fn round(ctx: &Context, asked: &Asked) -> sqlx::Result<usize> {
    let mut forgotten = 0;
    for (business, kept) in retention::set(&ctx.stores.pg).await? {
        let rows = forget(ctx, business, kept).await?;
        if rows > 0 {
            tracing::info!(business.id = %business, rows, "what was kept for its time is forgotten");
        }
        forgotten += rows;
    }
    let pick = |full: Vec<String>| async move { erase::unwanted(&ctx.stores.pg, RECORDINGS, &full).await };
    let begin =
        |one: Unwanted| asked.begin(name(one.business, &one.account), one.recording.clone(), delete(ctx.clone(), one));
    Ok(forgotten + asked.all_due(RECORDINGS, pick, begin).await?)
}

/// A round, and all that it begins.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn whole_round(ctx: &Context) -> sqlx::Result<usize> {
    let asked = Asked::alone();
    let count = round(ctx, &asked).await?;
    asked.ended().await;
    Ok(count)
}

async fn forget(ctx: &Context, business: BusinessId, kept: Retention) -> sqlx::Result<usize> {
    let pg = &ctx.stores.pg;
    let mut rows = 0;
    if let Some(days) = kept.transcripts_days {
        rows += in_parts(|| conversation::forget_old(pg, business, days, PART)).await?;
    }
    if let Some(days) = kept.recordings_days {
        rows += in_parts(|| erase::unwant_old_recordings(pg, business, days, PART)).await?;
    }
    if let Some(days) = kept.variables_days {
        rows += in_parts(|| erase::forget_variables(pg, business, days, PART)).await?;
        for run in runs::forgotten::remembered(pg, business, days, PART).await? {
            if forget_leads(ctx, run).await? {
                rows += 1;
            } else {
                break;
            }
        }
    }
    Ok(rows)
}

/// Repeats a step until it does less than a whole part, or has done its share of the round.
async fn in_parts<F: Future<Output = sqlx::Result<u64>>>(step: impl Fn() -> F) -> sqlx::Result<usize> {
    let mut rows = 0;
    for _ in 0..PARTS {
        let part = step().await?;
        rows += usize::try_from(part).unwrap_or(usize::MAX);
        if part < PART.unsigned_abs() {
            break;
        }
    }
    Ok(rows)
}

/// Takes the variables out of a run's jobs, and what its other rows said. True where nothing is left; else the next round goes on.
async fn forget_leads(ctx: &Context, run: RunId) -> sqlx::Result<bool> {
    let pg = &ctx.stores.pg;
    let mut db = pg.acquire().await?;
    for _ in 0..PARTS {
        if skip::forget_variables(&mut db, run, PART).await? {
            continue;
        }
        if in_parts(|| leads::store::forget_rejected(pg, run, PART)).await? >= PARTS * PART.unsigned_abs() as usize {
            return Ok(false);
        }
        runs::forgotten::done(&mut *db, run).await?;
        return Ok(true);
    }
    Ok(false)
}

/// Has a carrier delete a recording.
async fn delete(ctx: Context, one: Unwanted) {
    let told = async {
        let Some(account) = ctx.account(one.business, &one.account).await? else {
            tracing::error!(
                attempt.id = %one.attempt, account = one.account, recording = one.recording,
                "the business has this account no longer: its recording must be deleted there by hand"
            );
            return anyhow::Ok(());
        };
        ctx.carriers.delete_recording(&account, &one.recording).await?;
        Ok(())
    };
    if let Err(error) = told.await {
        tracing::warn!(attempt.id = %one.attempt, error = format!("{error:#}"), "a recording was not deleted; it is tried again");
        return;
    }
    if let Err(error) = erase::deleted(&ctx.stores.pg, &one).await {
        tracing::warn!(attempt.id = %one.attempt, %error, "that a recording is gone was not written down; it is asked for again");
    }
}
