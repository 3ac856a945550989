//! Ends single calls that wait for a worker and must not be dialed any more: nothing of them was sent.
//!
//! Not here: the claim, which takes none of them whoever comes first.

use std::time::Duration;

use crate::{
    attempts::untaken::{self, Unlooked},
    context::Context,
    dialing::{finish, windows},
    ids::{AttemptId, BusinessId},
    policy::Span,
    slots::Learned,
};

/// Single calls per round.
const MOST: i64 = 100;

/// One round, by any worker.
///
/// # Errors
/// Where Postgres does not answer.
pub(crate) async fn round(ctx: &Context) -> sqlx::Result<()> {
    for attempt in untaken::unwanted(&ctx.stores.pg, MOST).await? {
        end(ctx, attempt, None).await?;
    }
    for call in untaken::unlooked(&ctx.stores.pg, MOST).await? {
        look_again(ctx, &call).await?;
    }
    Ok(())
}

/// Closes those of a business whose time is over, for whoever asks for them while no worker is there to do it.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn of_business(ctx: &Context, business: BusinessId) -> sqlx::Result<()> {
    for attempt in untaken::overdue(&ctx.stores.pg, business).await? {
        end(ctx, attempt, None).await?;
    }
    Ok(())
}

/// Closes one whose time is over, whose number was suppressed, or for which the business's window of the version `shut` is closed. One
/// that a worker took after all is left alone.
///
/// # Errors
/// Where Postgres does not answer.
pub(crate) async fn end(ctx: &Context, attempt: AttemptId, shut: Option<i64>) -> sqlx::Result<()> {
    if let Some(change) = untaken::end(&ctx.stores.pg, attempt, shut).await? {
        finish::after(ctx, attempt, &change, Learned::NoCall).await;
    }
    Ok(())
}

/// The window has changed since it was admitted.
async fn look_again(ctx: &Context, call: &Unlooked) -> sqlx::Result<()> {
    // A zone that this program does not know keeps the number from being called.
    let zones = call.zones.iter().map(|name| name.parse().ok()).collect::<Option<Vec<_>>>();
    let rings = Duration::from_secs_f64(call.rings_secs) + Duration::from_secs(ctx.settings.carrier_queue_limit_secs);
    let hours = windows::of_number(&ctx.stores.pg, call.business, zones.as_deref().unwrap_or_default(), rings).await?;
    let open = match hours.span {
        Span::Always => true,
        Span::Within(opens, _) => opens <= hours.now,
        Span::Never => false,
    };
    if open && zones.is_some() {
        untaken::looked(&ctx.stores.pg, call.attempt, hours.version).await?;
        ctx.ring(call.business).await;
        return Ok(());
    }
    end(ctx, call.attempt, Some(hours.version)).await
}
