//! Calls with a known id that have gone silent: the account's live list is read, and what it does not show is fetched.
//!
//! Only a final status frees a slot. Absence from a list frees nothing: lists lag.

use std::collections::HashMap;

use futures::{StreamExt, stream};

use crate::{
    attempts::looks::{self, DueAccount},
    businesses::health,
    carriers::{CallView, CarrierError},
    context::Context,
    dialing::{
        asked::{Asked, name},
        hang_up, translate,
    },
    telemetry::metrics,
};

/// Accounts that are picked together.
const MOST: i64 = 16;
/// A carrier that cannot be asked for so long is an alarm.
const ALARM_SECS: i64 = 300;
/// A call that a list without states shows is asked about after so many times the silence of one that is not shown.
const LISTED_SILENCE: i64 = 6;
/// Requests to carriers at once.
const AT_ONCE: usize = 8;

/// One round, until no account is due; returns how many are being looked at. `asked` has one look at each.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn round(ctx: &Context, asked: &Asked) -> sqlx::Result<usize> {
    let lease = i64::try_from(ctx.settings.times.live_look_ms).unwrap_or(i64::MAX);
    let pick = |full: Vec<String>| async move { looks::pick_accounts(&ctx.stores.pg, MOST, lease, &full).await };
    let begin = |due: DueAccount| asked.begin(name(due.business, &due.account), "its calls", one(ctx.clone(), due));
    asked.all_due(MOST, pick, begin).await
}

async fn one(ctx: Context, due: DueAccount) {
    let pg = &ctx.stores.pg;
    match read(&ctx, &due).await {
        // Nothing had to be asked: that says nothing of the carrier.
        Ok(false) => {}
        Ok(true) => {
            if let Err(error) = health::readable(pg, due.business, &due.account).await {
                tracing::debug!(%error, "that the carrier answers again was not written down");
            }
        }
        Err(error) => {
            metrics::look_failed();
            let refused = matches!(error.downcast_ref(), Some(CarrierError::Unauthorized { .. }));
            let secs = health::unreadable(pg, due.business, &due.account, refused).await.unwrap_or(0);
            let error = format!("{error:#}");
            if secs >= ALARM_SECS {
                tracing::error!(business.id = %due.business, secs, error, "the carrier cannot be asked about live calls; slots stay held");
            } else {
                tracing::warn!(business.id = %due.business, error, "the live list could not be read; slots stay held");
            }
        }
    }
}

/// Reads the list and fetches what it leaves open; false where the carrier did not have to be asked at all.
async fn read(ctx: &Context, due: &DueAccount) -> anyhow::Result<bool> {
    if mostly_asked(ctx, &due.account).await {
        let soon = i64::try_from(ctx.settings.times.live_look_fast_ms)?;
        looks::look_again_after(&ctx.stores.pg, due, soon).await?;
    }
    let calls = looks::live_calls(&ctx.stores.pg, due).await?;
    let silent_after = i64::try_from(ctx.settings.times.silent_after_ms)?;
    if !due.unreadable && calls.iter().all(|call| call.silent_ms < silent_after) {
        return Ok(false);
    }
    let Some(account) = ctx.account(due.business, &due.account).await? else { return Ok(false) };
    let listed = live_list(ctx, &account).await?;
    let mut silent = Vec::new();
    for call in calls {
        match listed.get(&call.call_id) {
            Some(CallView { state: Some(state), .. }) if translate::state(*state).0.rank() > call.state.rank() => {
                hang_up::applied(ctx, &account, &call, &listed[&call.call_id]).await;
            }
            // It lives, and that is all this list says.
            Some(CallView { state: None, .. }) if call.silent_ms >= silent_after * LISTED_SILENCE => silent.push(call),
            Some(_) => {}
            None if call.silent_ms >= silent_after => silent.push(call),
            None => {}
        }
    }
    stream::iter(&silent).for_each_concurrent(AT_ONCE, |call| hang_up::look(ctx, &account, call)).await;
    Ok(true)
}

/// True where more than a tenth of the last minute's ends were learned by asking: callbacks are being lost.
async fn mostly_asked(ctx: &Context, account: &str) -> bool {
    let (told, asked) = ctx.gate.ends_learned(account).await.unwrap_or((0, 0));
    asked * 10 > told + asked
}

/// Every call that the account has now, by its id.
pub(crate) async fn live_list(
    ctx: &Context,
    account: &crate::carriers::Account,
) -> Result<HashMap<String, CallView>, CarrierError> {
    let listed = ctx.carriers.live(account, None).await?;
    Ok(listed.into_iter().map(|view| (view.call_id.clone(), view)).collect())
}
