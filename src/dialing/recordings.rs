//! Recordings that their carrier has not told of: it is asked for them, a few times within a day of the call's end.

use crate::{
    attempts::recordings::{self, Untold},
    context::Context,
    dialing::asked::{Asked, name},
};

/// Calls that are picked together.
const MOST: i64 = 20;
/// A carrier tells of a recording some seconds after the end. So many times as long as a silent call is left alone, it is not asked.
const PATIENCE: u64 = 3;

/// One round, until nothing is due; returns of how many calls it is asked.
///
/// # Errors
/// Where Postgres does not answer; a carrier that does not is asked again in a later round.
pub async fn round(ctx: &Context, asked: &Asked) -> sqlx::Result<usize> {
    let after = i64::try_from(ctx.settings.times.silent_after_ms.saturating_mul(PATIENCE)).unwrap_or(i64::MAX);
    let pick = |full: Vec<String>| async move { recordings::pick_untold(&ctx.stores.pg, MOST, after, &full).await };
    let begin = |call: Untold| asked.begin(name(call.business, &call.account), call.attempt, ask(ctx.clone(), call));
    asked.all_due(MOST, pick, begin).await
}

async fn ask(ctx: Context, call: Untold) {
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
        }
        Err(error) => {
            tracing::warn!(attempt.id = %call.attempt, error = format!("{error:#}"), "the carrier could not be asked for a recording");
        }
    }
}
