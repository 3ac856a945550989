//! One open attempt, asked about now: for a person who does not wait for the next round.
//!
//! It is the reconciler's look and what the reconciler does after it, no other rule: only a final status frees a slot, only
//! two looks that prove it close an attempt without a call, and an intent that its owner may still be sending is left alone.

use crate::{
    attempts::{
        looks::{self, LiveCall},
        open::Open,
        state::AttemptState,
    },
    carriers::{CallState, CallView},
    context::Context,
    dialing::{
        doubt::{self, Empty, Found},
        hang_up,
    },
};

/// What the carrier said about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It was not asked: no worker has taken this single call, so nothing was sent.
    Untaken,
    /// It was not asked: the owner may still be sending it.
    Young,
    /// It was not asked: somebody else is asking just now, or the attempt has closed.
    Elsewhere,
    /// It could not be asked, and why.
    Silence(String),
    /// It has this call.
    Call {
        /// Its id.
        call_id: String,
        /// The carrier's own word for its state.
        status: String,
        /// True where the call is over.
        over: bool,
        /// True where the carrier has not begun to dial it.
        queued: bool,
    },
    /// It does not show the call whose id we have. That proves nothing.
    NotShown,
    /// It shows no call that could be it.
    Nothing(Empty),
    /// It shows so many that could be it.
    Several(usize),
}

impl From<&CallView> for Heard {
    fn from(view: &CallView) -> Self {
        Self::Call {
            call_id: view.call_id.clone(),
            status: view.raw_status.clone(),
            over: matches!(view.state, Some(CallState::Ended(_))),
            queued: view.state == Some(CallState::Queued),
        }
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untaken => f.write_str("not asked: no worker took this call, so nothing was sent"),
            Self::Young => f.write_str("not asked: its owner may still be sending it"),
            Self::Elsewhere => f.write_str("not asked: somebody else is asking, or it has closed"),
            Self::Silence(why) => write!(f, "the carrier could not be asked: {why}"),
            Self::Call { call_id, status, .. } => write!(f, "the carrier has {call_id}: {status}"),
            Self::NotShown => f.write_str("the carrier does not show its call now, which proves nothing"),
            Self::Nothing(Empty::Early) => f.write_str("the carrier shows no such call; too early to count"),
            Self::Nothing(Empty::First) => f.write_str("the carrier shows no such call; the first look that counts"),
            Self::Nothing(Empty::Soon) => f.write_str("the carrier shows no such call; too soon after the first look"),
            Self::Nothing(Empty::Stale) => {
                f.write_str("the carrier shows no such call, but no newer one either: its list may be old")
            }
            Self::Nothing(Empty::Proof) => f.write_str("the carrier shows no such call at two looks: it never had it"),
            Self::Several(count) => write!(f, "{count} calls at the carrier could be it"),
        }
    }
}

/// Asks the carrier and changes nothing.
pub async fn look(ctx: &Context, open: &Open) -> Heard {
    ask(ctx, open, false).await.unwrap_or_else(|error| Heard::Silence(format!("{error:#}")))
}

/// Asks the carrier and does what follows, as the reconciler does.
pub async fn settle(ctx: &Context, open: &Open) -> Heard {
    ask(ctx, open, true).await.unwrap_or_else(|error| Heard::Silence(format!("{error:#}")))
}

async fn ask(ctx: &Context, open: &Open, apply: bool) -> anyhow::Result<Heard> {
    if !open.owned {
        return Ok(Heard::Untaken);
    }
    if let Some(call) = live_call(open) {
        return ask_about_call(ctx, &call, apply).await;
    }
    let grace = i64::try_from(ctx.settings.times.intent_grace_ms)?;
    if open.state == AttemptState::Intent && open.age_ms < grace {
        return Ok(Heard::Young);
    }
    let pg = &ctx.stores.pg;
    let doubt = if apply {
        looks::take_in_doubt(pg, open.attempt, grace, doubt::again_ms(ctx)).await?
    } else {
        looks::one_in_doubt(pg, open.attempt).await?
    };
    let Some(doubt) = doubt else { return Ok(Heard::Elsewhere) };
    let found = if apply { doubt::resolve(ctx, &doubt).await? } else { doubt::look(ctx, &doubt).await? };
    Ok(match found {
        Found::Call(view) => Heard::from(&*view),
        Found::Nothing(empty) => Heard::Nothing(empty),
        Found::Several(calls) => Heard::Several(calls.len()),
    })
}

async fn ask_about_call(ctx: &Context, call: &LiveCall, apply: bool) -> anyhow::Result<Heard> {
    let Some(account) = ctx.account(call.business, &call.account).await? else {
        anyhow::bail!("the business has this account no longer");
    };
    let Some(view) = hang_up::fetched(ctx, &account, call).await? else { return Ok(Heard::NotShown) };
    if apply {
        hang_up::applied(ctx, &account, call, &view).await;
    }
    Ok(Heard::from(&view))
}

/// The attempt as a call, where its id is known.
fn live_call(open: &Open) -> Option<LiveCall> {
    Some(LiveCall {
        attempt: open.attempt,
        business: open.business,
        account: open.account.clone(),
        call_id: open.call_id.clone()?,
        state: open.state,
        silent_ms: open.silent_ms,
    })
}
