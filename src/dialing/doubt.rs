//! Attempts in doubt: a POST may have gone out, and no call id is known. The carrier is asked until it has said what happened.
//!
//! Evidence only: a call that carries our token, or the only candidate there can be, is ours; two complete looks far enough
//! apart that find nothing, while the list shows newer calls, prove that there is none. Until then the slot stays held and
//! nothing is dialed again.

use std::collections::HashSet;

use chrono::{DateTime, Duration as Days, NaiveDate, Utc};

use crate::{
    attempts::{
        events,
        ledger::{self, Closing},
        looks::{self, InDoubt},
        state::{AttemptState, Source},
    },
    businesses::health,
    carriers::{Account, CallView, CarrierError, ListFilter},
    context::Context,
    dialing::{
        answer,
        asked::{Asked, name},
        finish, translate,
    },
    killpoints::{Bug, Point, lacks, reach},
    slots::Learned,
    telemetry::{metrics, traces},
};

/// Attempts that are picked together.
const MOST: i64 = 32;
/// What is in doubt for so long is an alarm.
const ALARM_SECS: i64 = 300;
/// A look is due again after this, ms: a fresh list costs a few requests, and a person waits for the slot.
const AGAIN_MS: i64 = 5_000;
/// The carrier's clock may be behind ours by this much.
const CLOCKS_APART: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

/// What a look found.
#[derive(Debug)]
pub enum Found {
    /// The call.
    Call(Box<CallView>),
    /// Nothing, on all pages of every list.
    Nothing(Empty),
    /// Several that could be it.
    Several(Vec<CallView>),
}

/// What a look that found nothing proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// Nothing yet: the carrier may still come to show it.
    Early,
    /// It is the first that counts.
    First,
    /// It comes too soon after the first.
    Soon,
    /// The list shows no newer call of the account either: it may be old.
    Stale,
    /// With the first one, that there is no call.
    Proof,
}

/// One round, until no attempt is due; returns how many are being looked for.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn round(ctx: &Context, asked: &Asked) -> sqlx::Result<usize> {
    let pick =
        |full: Vec<String>| async move { looks::pick_in_doubt(&ctx.stores.pg, MOST, again_ms(ctx), &full).await };
    let begin = |due: InDoubt| asked.begin(name(due.business, &due.account), due.attempt, one(ctx.clone(), due));
    asked.all_due(MOST, pick, begin).await
}

/// A look is due again after this, ms.
pub(crate) fn again_ms(ctx: &Context) -> i64 {
    AGAIN_MS.min(i64::try_from(ctx.settings.times.first_empty_look_ms).unwrap_or(AGAIN_MS) / 4).max(50)
}

async fn one(ctx: Context, attempt: InDoubt) {
    let mut step = traces::step(attempt.attempt, "look for it");
    let resolved = resolve(&ctx, &attempt).await;
    told_of_carrier(&ctx, &attempt, resolved.as_ref().err()).await;
    if let Err(error) = resolved {
        metrics::look_failed();
        step.failed("the carrier cannot be asked");
        let secs = attempt.age_ms / 1_000;
        if secs >= ALARM_SECS {
            tracing::error!(attempt.id = %attempt.attempt, secs, error = format!("{error:#}"), "in doubt, and the carrier cannot be asked");
        } else {
            tracing::warn!(attempt.id = %attempt.attempt, error = format!("{error:#}"), "the carrier cannot be asked; the slot stays held");
        }
    }
}

/// Writes down whether the carrier can be asked about the account's calls: where none of them is known, only this look tells.
async fn told_of_carrier(ctx: &Context, doubt: &InDoubt, error: Option<&anyhow::Error>) {
    let (pg, account) = (&ctx.stores.pg, doubt.account.as_str());
    let written = match error {
        None => health::readable(pg, doubt.business, account).await,
        Some(error) => match error.downcast_ref::<CarrierError>() {
            Some(why) => {
                let refused = matches!(why, CarrierError::Unauthorized { .. });
                health::unreadable(pg, doubt.business, account, refused).await.map(drop)
            }
            None => Ok(()),
        },
    };
    if let Err(error) = written {
        tracing::debug!(%error, "whether the carrier can be asked was not written down");
    }
}

/// Looks for one attempt now and does what follows, as a round does. Its owner must be done with it: an intent that is
/// younger than its grace is not asked for.
///
/// # Errors
/// Where Postgres or the carrier does not answer; the slot then stays held.
pub async fn resolve(ctx: &Context, doubt: &InDoubt) -> anyhow::Result<Found> {
    let found = look(ctx, doubt).await?;
    reach(Point::K11).await;
    match &found {
        Found::Call(view) => adopt(ctx, doubt, view).await?,
        Found::Several(calls) => {
            let count = calls.len();
            let secs = looks::needs_person(
                &ctx.stores.pg,
                doubt.attempt,
                i64::try_from(ctx.settings.times.empty_looks_apart_ms)?,
            )
            .await?;
            if secs >= ALARM_SECS {
                tracing::error!(attempt.id = %doubt.attempt, count, secs, "a person must say which call this attempt is; its slot stays held");
            } else {
                tracing::warn!(attempt.id = %doubt.attempt, count, "several calls could be this attempt; a person must say which");
            }
        }
        Found::Nothing(Empty::First) => looks::found_nothing(&ctx.stores.pg, doubt.attempt).await?,
        Found::Nothing(Empty::Proof) => close(ctx, doubt).await?,
        Found::Nothing(_) => {}
    }
    Ok(found)
}

/// Asks the carrier about one attempt and changes nothing.
///
/// # Errors
/// Where Postgres or the carrier does not answer.
pub async fn look(ctx: &Context, doubt: &InDoubt) -> anyhow::Result<Found> {
    let Some(account) = ctx.account(doubt.business, &doubt.account).await? else {
        anyhow::bail!("the business has this account no longer");
    };
    let mut plain = candidates_of_nobody(ctx, &account, doubt).await?;
    // Open attempts never share account, caller id and callee, so a single candidate can be nobody else's.
    Ok(match plain.len() {
        0 => Found::Nothing(empty(ctx, &account, doubt).await?),
        1 => Found::Call(Box::new(plain.remove(0))),
        _ => Found::Several(plain),
    })
}

async fn adopt(ctx: &Context, doubt: &InDoubt, view: &CallView) -> anyhow::Result<()> {
    // A status word that we do not know still proves that the carrier has the call.
    let key = (doubt.business, doubt.attempt);
    let state = match view.state {
        Some(state) => Some(finish::turned_away(ctx, key, state).await?),
        None => None,
    };
    let moved = state.map_or((AttemptState::Placed, None), translate::state);
    let said = translate::said(view);
    let change = events::apply(&ctx.stores.pg, key, Source::Reconcile, moved, &said).await?;
    tracing::info!(attempt.id = %doubt.attempt, call.id = view.call_id, state = view.raw_status, "found at the carrier");
    if let Some(change) = change {
        finish::after(ctx, doubt.attempt, &change, Learned::Asked).await;
    }
    if let Some(account) = ctx.account(doubt.business, &doubt.account).await? {
        answer::catch_up(ctx, &account, key, view).await;
    }
    Ok(())
}

/// What it means that this look found nothing.
async fn empty(ctx: &Context, account: &Account, doubt: &InDoubt) -> anyhow::Result<Empty> {
    let times = &ctx.settings.times;
    if lacks(Bug::AbsenceIsProof) {
        return Ok(Empty::Proof);
    }
    // The POST left at the latest this long after the intent, so it is surely this old.
    let since_post = doubt.age_ms - i64::try_from(times.claim_max_age_ms.min(times.first_empty_look_ms / 4))?;
    if doubt.empty_looks == 0 {
        let counts = since_post >= i64::try_from(times.first_empty_look_ms)?;
        return Ok(if counts { Empty::First } else { Empty::Early });
    }
    let apart = doubt.since_empty_ms.unwrap_or(0) >= i64::try_from(times.empty_looks_apart_ms)?;
    if since_post < i64::try_from(times.second_empty_look_ms)? || !apart {
        return Ok(Empty::Soon);
    }
    let patience_over = since_post >= i64::try_from(times.look_give_up_ms)?;
    if !patience_over && !shows_newer(ctx, account, doubt).await? {
        return Ok(Empty::Stale);
    }
    Ok(Empty::Proof)
}

/// Closes the attempt: the carrier never had it.
async fn close(ctx: &Context, doubt: &InDoubt) -> anyhow::Result<()> {
    let change = ledger::close(&ctx.stores.pg, doubt.attempt, Source::Reconcile, Closing::NOT_PLACED).await?;
    tracing::warn!(attempt.id = %doubt.attempt, age_ms = doubt.age_ms, "the carrier never had this call");
    if let Some(change) = change {
        finish::after(ctx, doubt.attempt, &change, Learned::NoCall).await;
    }
    Ok(())
}

/// True where the carrier lists a call of the account that is younger than this attempt.
async fn shows_newer(ctx: &Context, account: &Account, doubt: &InDoubt) -> anyhow::Result<bool> {
    // Younger than the POST, not only than the intent: as late as it can have left.
    let times = &ctx.settings.times;
    let left_by = chrono::TimeDelta::milliseconds(i64::try_from(times.claim_max_age_ms + times.post_timeout_ms)?);
    let newer = looks::newer_call(&ctx.stores.pg, &doubt.account, doubt.intent_at + left_by).await?;
    let Some((to, call_id)) = newer else { return Ok(false) };
    for day in days(doubt) {
        let filter = ListFilter { to: Some(to.clone()), day: Some(day), ..ListFilter::default() };
        if ctx.carriers.list(account, &filter).await?.iter().any(|view| view.call_id == call_id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The call that carries this attempt's token, or else every candidate that carries none and is bound to no attempt.
async fn candidates_of_nobody(ctx: &Context, account: &Account, doubt: &InDoubt) -> anyhow::Result<Vec<CallView>> {
    let mut candidates = candidates(ctx, account, doubt).await?;
    let ids: Vec<String> = candidates.iter().map(|view| view.call_id.clone()).collect();
    let bound = looks::bound(&ctx.stores.pg, &doubt.account, &ids).await?;
    candidates.retain(|view| !bound.contains(&view.call_id));
    let mut plain = Vec::new();
    for view in candidates {
        match whose(ctx, account, &view).await? {
            Whose::Attempt(attempt) if attempt == doubt.attempt => return Ok(vec![view]),
            Whose::Attempt(_) | Whose::SomebodyElses => {}
            Whose::Unknown => plain.push(view),
        }
    }
    Ok(plain)
}

/// Who made a call.
enum Whose {
    /// The attempt whose token it was created with.
    Attempt(crate::ids::AttemptId),
    /// The carrier shows what it was created with, and nothing of that is ours: each call of ours has its token there.
    SomebodyElses,
    /// The carrier does not show it, or not yet.
    Unknown,
}

/// Who made a call, where the carrier shows it.
async fn whose(ctx: &Context, account: &Account, view: &CallView) -> Result<Whose, CarrierError> {
    let shown = match &view.marks {
        Some(marks) => Ok(Some(marks.clone())),
        None => ctx.carriers.request_parameters(account, &view.call_id).await,
    };
    let shown = match shown {
        Ok(shown) => shown.unwrap_or_default(),
        // The events are second evidence: where there are none, the list alone decides.
        Err(CarrierError::Refused { .. } | CarrierError::Unreadable { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut tokens = shown.iter().flat_map(|text| text.split(['/', '?', '#', '&', '=']));
    Ok(match tokens.find_map(|part| ctx.tokens.read(part)) {
        Some((_, attempt)) => Whose::Attempt(attempt),
        None if view.marks.is_some() || !shown.is_empty() => Whose::SomebodyElses,
        None => Whose::Unknown,
    })
}

async fn candidates(ctx: &Context, account: &Account, doubt: &InDoubt) -> Result<Vec<CallView>, CarrierError> {
    let mut views: Vec<CallView> = Vec::new();
    let to = Some(doubt.to.clone());
    let filters = days(doubt).map(|day| ListFilter {
        to: to.clone(),
        from: Some(doubt.from.clone()),
        day: Some(day),
        status: None,
    });
    for filter in filters {
        views.extend(ctx.carriers.list(account, &filter).await?);
    }
    // A call that waits at the carrier has no start yet and matches no day.
    views.extend(ctx.carriers.live(account, to.as_deref()).await?);
    let mut seen = HashSet::new();
    views.retain(|view| could_be(view, doubt) && seen.insert(view.call_id.clone()));
    Ok(views)
}

fn could_be(view: &CallView, doubt: &InDoubt) -> bool {
    let same = |shown: &Option<String>, ours: &str| shown.as_deref().is_none_or(|shown| shown == ours);
    let created: Option<DateTime<Utc>> = view.created_at.or(view.started_at);
    view.direction_outbound_api
        && same(&view.to, &doubt.to)
        && same(&view.from, &doubt.from)
        && created.is_none_or(|at| at >= doubt.intent_at - CLOCKS_APART)
}

/// The UTC days on which the call can have started: carriers filter by day only.
fn days(doubt: &InDoubt) -> impl Iterator<Item = NaiveDate> + use<> {
    let first = (doubt.intent_at - Days::days(1)).date_naive();
    let last = doubt.now.date_naive();
    first.iter_days().take_while(move |day| *day <= last)
}
