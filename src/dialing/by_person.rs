//! What a person found out about an attempt in doubt that the reconciler cannot tell.
//!
//! A person's word is checked where it can be: a call that is named must be one that the carrier has, to and from the same
//! numbers; "not placed" is not taken while the owner may still be sending, nor while the carrier shows a call that says otherwise.

use anyhow::{Context as _, bail};

use crate::{
    attempts::{
        events,
        ledger::{self, Closing, Verdict},
        looks::{self, InDoubt},
        state::{AttemptState, Source},
    },
    carriers::CallState,
    context::Context,
    dialing::{
        doubt::{self, Found},
        finish, translate,
    },
    ids::AttemptId,
    slots::Learned,
};

/// What the person says.
#[derive(Debug, Clone)]
pub enum Word {
    /// It is this call of the carrier's.
    Placed {
        /// The carrier's id of the call.
        call_id: String,
    },
    /// The carrier never had it.
    NotPlaced,
}

/// Applies a person's word to an attempt in doubt.
///
/// # Errors
/// Where it is not in doubt, the carrier's view does not fit the word, or a store or the carrier does not answer.
pub async fn settle(ctx: &Context, attempt: AttemptId, word: &Word) -> anyhow::Result<()> {
    let pg = &ctx.stores.pg;
    let doubt = looks::one_in_doubt(pg, attempt).await?.context("there is no attempt in doubt with this id")?;
    let change = match word {
        Word::NotPlaced => {
            if doubt.age_ms < i64::try_from(ctx.settings.times.intent_grace_ms)? {
                bail!(
                    "the attempt is younger than {} ms: its owner may still be sending it",
                    ctx.settings.times.intent_grace_ms
                );
            }
            no_call_is_shown(ctx, &doubt).await?;
            ledger::close(pg, attempt, Source::Ops, Closing::NOT_PLACED).await?
        }
        Word::Placed { call_id } => {
            let account = ctx
                .account(doubt.business, &doubt.account)
                .await?
                .context("the business has this account no longer")?;
            let view = ctx
                .carriers
                .fetch(&account, call_id, Some(&doubt.to))
                .await?
                .context("the carrier has no such call")?;
            let ours = match &view.marks {
                Some(marks) => marks.contains(&ctx.tokens.make(doubt.business, doubt.attempt)),
                None => view.to.as_ref() == Some(&doubt.to) && view.from.as_ref() == Some(&doubt.from),
            };
            if !ours {
                bail!("that call is another one than the attempt: it has other numbers, or another mark of ours");
            }
            let moved = view.state.map_or((AttemptState::Placed, None), translate::state);
            events::apply(pg, (doubt.business, attempt), Source::Ops, moved, &translate::said(&view)).await?
        }
    };
    let change = change.context("there is no such attempt")?;
    if change.verdict != Verdict::Applied {
        bail!("the attempt moved on meanwhile; nothing was changed");
    }
    finish::after(ctx, attempt, &change, Learned::Asked).await;
    Ok(())
}

/// Asks the carrier before its silence is believed: the number would be called while a call to it is under way. Of several calls that
/// could be the attempt a person may know that none is, once all of them are over.
async fn no_call_is_shown(ctx: &Context, doubt: &InDoubt) -> anyhow::Result<()> {
    let found = doubt::look(ctx, doubt).await.context("the carrier was asked first, and nothing was changed")?;
    let (call, then) = match &found {
        Found::Nothing(_) => return Ok(()),
        Found::Call(view) => (&**view, format!("say --as placed --call-id {}", view.call_id)),
        Found::Several(calls) => {
            let live = calls.iter().find(|view| !matches!(view.state, Some(CallState::Ended(_))));
            let Some(view) = live else { return Ok(()) };
            (
                view,
                "it is one of several that could be this attempt: end it there, or say --as placed with the right one"
                    .to_owned(),
            )
        }
    };
    bail!("the carrier has {}: {}; {then}", call.call_id, call.raw_status)
}
