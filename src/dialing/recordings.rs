//! Recordings that their carrier has not told of: it is asked for them, a few times within a day of the call's end.

use futures::{StreamExt, stream};

use crate::{
    attempts::recordings::{self, Untold},
    context::Context,
};

/// Calls per round.
const MOST: i64 = 20;
/// A carrier tells of a recording some seconds after the end. So many times as long as a silent call is left alone, it is not asked.
const PATIENCE: u64 = 3;

/// One round; returns how many recordings were found.
///
/// # Errors
/// Where Postgres does not answer; a carrier that does not is asked again in a later round.
pub async fn round(ctx: &Context) -> sqlx::Result<usize> {
    let after = i64::try_from(ctx.settings.times.silent_after_ms.saturating_mul(PATIENCE)).unwrap_or(i64::MAX);
    let untold = recordings::pick_untold(&ctx.stores.pg, MOST, after).await?;
    let found = stream::iter(untold).map(|call| asked(ctx, call)).buffer_unordered(4).collect::<Vec<usize>>().await;
    Ok(found.into_iter().sum())
}

async fn asked(ctx: &Context, call: Untold) -> usize {
    let asked = async {
        let Some(account) = ctx.account(call.business, &call.account).await? else { return Ok(0) };
        let mut found = 0;
        for recording in ctx.carriers.recordings_of(&account, &call.call_id, &call.to).await? {
            let secs = recording.duration_secs.and_then(|secs| i32::try_from(secs).ok());
            let channels = recording.channels.map(i16::from);
            let key = (call.business, call.attempt);
            found += usize::from(recordings::saved(&ctx.stores.pg, key, &recording.id, secs, channels).await?);
        }
        anyhow::Ok(found)
    };
    match asked.await {
        Ok(found) => {
            tracing::info!(attempt.id = %call.attempt, call.id = call.call_id, found, "the carrier was asked for a recording that it did not tell of");
            found
        }
        Err(error) => {
            tracing::warn!(attempt.id = %call.attempt, error = format!("{error:#}"), "the carrier could not be asked for a recording");
            0
        }
    }
}
