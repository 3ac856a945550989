//! `rollcall-ops reconcile`: asks the carrier now about attempts in doubt, or takes a person's word on one.

use clap::{Args, ValueEnum};
use futures::{StreamExt, stream};
use serde::Serialize;

use crate::{
    attempts::{
        AttemptState,
        open::{self as ledger, Open},
    },
    config::Settings,
    context::Context,
    dialing::{
        ask,
        by_person::{self, Word},
        cleanup::span,
    },
    ids::{AttemptId, BusinessId},
    ops::{
        exit, open,
        print::{Form, List, counting, masked, table},
    },
};

/// Attempts asked about at once.
const AT_ONCE: usize = 8;

/// Exit codes of this command.
pub(super) const AFTER_HELP: &str = "\
Without --as the carrier is asked now, as the workers ask it, and what it says is applied: only a final status frees a
slot, and only two looks far enough apart prove that there is no call.

Exit codes:
  0   every attempt that was asked about is settled, or there was none
  1   it failed; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read
  3   an attempt that was asked about still holds its slot; the table says why
  64  settings contradict each other, or ROLLCALL_SEALING_KEY is missing";

/// The order.
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// The attempt, as `why`, the job and the log name it. Without one: every attempt in doubt.
    attempt: Option<AttemptId>,
    /// What a person found out about it.
    #[arg(long = "as", value_enum, requires = "attempt")]
    became: Option<Became>,
    /// The carrier's id of the call; needed with `--as placed`.
    #[arg(long, required_if_eq("became", "placed"), requires = "became")]
    call_id: Option<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Became {
    /// It is the call that `--call-id` names.
    Placed,
    /// The carrier never had it; its number may be called again.
    NotPlaced,
}

/// An attempt, what the carrier said of it, and how it stands.
#[derive(Debug, Serialize)]
struct Settled {
    attempt_id: AttemptId,
    business_id: BusinessId,
    to: String,
    before: AttemptState,
    age_ms: i64,
    heard: String,
    state: Option<AttemptState>,
    slot_held: bool,
}

/// Asks, or applies the person's word, and prints what came of it.
///
/// # Errors
/// Where there is no such attempt, the word does not fit what the carrier shows, or a store does not answer.
pub(super) async fn reconcile(order: Reconcile) -> anyhow::Result<u8> {
    let word = match (order.became, order.call_id) {
        (Some(Became::Placed), Some(call_id)) => Some(Word::Placed { call_id }),
        (Some(Became::Placed), None) => anyhow::bail!("--call-id is needed with --as placed"),
        (Some(Became::NotPlaced), _) => Some(Word::NotPlaced),
        (None, _) => None,
    };
    let ctx = open::context(order.settings)?;
    let attempts = chosen(&ctx, order.attempt).await?;
    let bar = counting(attempts.len(), "attempts asked about at the carrier")?;
    let settled = match (&word, attempts.first()) {
        (Some(word), Some(open)) => {
            by_person::settle(&ctx, open.attempt, word).await?;
            vec![settled(&ctx, open, "a person said so".into()).await?]
        }
        _ => {
            let asked = stream::iter(&attempts).map(|open| async {
                let heard = ask::settle(&ctx, open).await;
                bar.inc(1);
                settled(&ctx, open, heard.to_string()).await
            });
            let settled: Vec<sqlx::Result<Settled>> = asked.buffered(AT_ONCE).collect().await;
            settled.into_iter().collect::<sqlx::Result<_>>()?
        }
    };
    bar.finish_and_clear();
    let held = word.is_none() && settled.iter().any(|one| one.slot_held);
    order.form.print(&List::whole(settled), text)?;
    Ok(if held { exit::FOUND } else { exit::OK })
}

/// The attempt that was named, or all in doubt.
async fn chosen(ctx: &Context, attempt: Option<AttemptId>) -> anyhow::Result<Vec<Open>> {
    let mut open = ledger::list(&ctx.stores.pg, None).await?;
    let Some(attempt) = attempt else {
        open.retain(|open| open.owned && open.state.rank() < AttemptState::Placed.rank());
        return Ok(open);
    };
    open.retain(|open| open.attempt == attempt);
    if open.is_empty() {
        match ledger::state(&ctx.stores.pg, attempt).await? {
            Some(state) => anyhow::bail!("attempt {attempt} is {} and holds nothing", state.as_str()),
            None => anyhow::bail!("there is no attempt {attempt}"),
        }
    }
    Ok(open)
}

async fn settled(ctx: &Context, open: &Open, heard: String) -> sqlx::Result<Settled> {
    let state = ledger::state(&ctx.stores.pg, open.attempt).await?;
    Ok(Settled {
        attempt_id: open.attempt,
        business_id: open.business,
        to: masked(&open.to),
        before: open.state,
        age_ms: open.age_ms,
        heard,
        state,
        slot_held: state.is_some_and(AttemptState::is_open),
    })
}

fn text(list: &List<Settled>) -> String {
    if list.data.is_empty() {
        return "No attempt is in doubt.".into();
    }
    let rows = list.data.iter().map(|one| {
        let state = one.state.map_or("gone", AttemptState::as_str);
        [
            one.attempt_id.to_string(),
            one.to.clone(),
            format!("{} for {}", one.before.as_str(), span(one.age_ms)),
            one.heard.clone(),
            format!("{state}; its slot is {}", if one.slot_held { "held" } else { "free" }),
        ]
    });
    table(["attempt", "to", "it was", "heard", "it is"], rows)
}
