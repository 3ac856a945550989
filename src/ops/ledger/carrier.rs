//! An exported ledger beside the carrier's own list: is every call there, and is there none that nobody answers for?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context as _;
use chrono::{Days, TimeDelta};

use super::{
    record::{Dial, Ledger},
    rules::{Found, Told},
};
use crate::{
    attempts::{AttemptState, erase::ERASED, export},
    carriers::{Account, CallState, CallView, Disposition, ListFilter},
    context::Context,
    leads::mask,
};

/// How far the carrier's clock may be from ours, as the reconciler sees it too.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(5);

/// Compares every attempt with what the carrier has: the number of its calls that were read, and what does not fit.
/// `compared` is called before each attempt.
///
/// # Errors
/// Where an account is gone, the carrier cannot be asked, or Postgres does not answer.
pub(super) async fn compare(
    ctx: &Context,
    ledger: &Ledger,
    told: &[Told],
    compared: impl Fn(),
) -> anyhow::Result<(usize, Found)> {
    let mut found = Found::new();
    let mut by_account: BTreeMap<&str, Vec<&Told>> = BTreeMap::new();
    for one in told {
        by_account.entry(&one.dial.account).or_default().push(one);
    }
    // Not held on to: the carrier takes minutes.
    let (mut tx, _) = export::moment(&ctx.stores.pg).await?;
    let dialed = export::dialed(&mut tx, ledger.run_id).await?;
    tx.commit().await?;
    let dialed: HashMap<_, _> = dialed.into_iter().map(|(attempt, from, to)| (attempt, (from, to))).collect();
    let mut calls = 0;
    for (reference, told) in by_account {
        let account = ctx.account(ledger.business_id, reference).await?;
        let account = account.with_context(|| format!("the business has account {reference} no longer"))?;
        let listed = listed(ctx, &account, ledger, &told).await?;
        calls += listed.len();
        for one in &told {
            compared();
            let Some(call) = &one.dial.call_id else { continue };
            // Between whom a call was whose number was erased, nobody can say.
            let numbers = dialed.get(&one.dial.attempt_id).filter(|(_, to)| !to.starts_with(ERASED));
            let view = match listed.get(call) {
                Some(view) => Some(view.clone()),
                // A list leaves out what waits in the carrier's queue, and is a little late.
                None => ctx.carriers.fetch(&account, call, numbers.map(|(_, to)| to.as_str())).await?,
            };
            let what = view
                .map_or_else(|| Some("the carrier has no such call".into()), |view| differs(&one.dial, &view, numbers));
            found.extend(what.map(|what| (one.line, format!("its call {call}: {what}"))));
        }
        found.extend(unknown(ctx, ledger, reference, &told, &listed, &dialed).await?);
    }
    Ok((calls, found))
}

/// Every call that the account lists on the days of the run, by id.
async fn listed(
    ctx: &Context,
    account: &Account,
    ledger: &Ledger,
    told: &[&Told],
) -> anyhow::Result<HashMap<String, CallView>> {
    let first = told.iter().map(|one| one.dial.intent_at).min().unwrap_or(ledger.at) - Days::new(1);
    let mut calls = HashMap::new();
    for day in first.date_naive().iter_days().take_while(|day| *day <= ledger.at.date_naive()) {
        let filter = ListFilter { day: Some(day), ..ListFilter::default() };
        let listed = ctx.carriers.list(account, &filter).await?;
        calls.extend(listed.into_iter().map(|view| (view.call_id.clone(), view)));
    }
    Ok(calls)
}

/// How the carrier's call is another than the ledger's.
fn differs(dial: &Dial, view: &CallView, numbers: Option<&(String, String)>) -> Option<String> {
    let other = |shown: &Option<String>, ours: &str| shown.as_deref().is_some_and(|shown| shown != ours);
    if numbers.is_some_and(|(from, to)| other(&view.to, to) || other(&view.from, from)) {
        return Some("the carrier has it between other numbers".into());
    }
    let Some(state) = view.state else { return Some(format!("the carrier says {}", view.raw_status)) };
    match (dial.state, state) {
        (AttemptState::Ended, CallState::Ended(how)) => {
            let ours = dial.disposition.as_deref().unwrap_or_default();
            (!may_be(how, ours)).then(|| format!("the ledger says {ours}, the carrier {}", how.as_str()))
        }
        (AttemptState::Ended, live) => Some(format!("the ledger says that it is over, the carrier {}", live.as_str())),
        // What was open at the export may be over by now.
        _ => None,
    }
}

/// True where the carrier's end may be this disposition of ours, which may know more.
fn may_be(how: Disposition, ours: &str) -> bool {
    let picked_up = ["answered", "machine", "voicemail_left", "fax", "abandoned"];
    match how {
        Disposition::Answered | Disposition::Machine | Disposition::Fax => picked_up.contains(&ours),
        Disposition::Busy | Disposition::NoAnswer | Disposition::Failed => ours == how.as_str(),
        // In its queue: once too often, or it had left that and may have rung.
        Disposition::Cancelled => ["cancelled", "failed", "no_answer"].contains(&ours),
        // The job went back, or had been turned away too often.
        Disposition::TurnedAway => ["cancelled", "failed"].contains(&ours),
    }
}

/// Calls between the run's numbers and in its time that neither an attempt nor a stray answers for.
async fn unknown(
    ctx: &Context,
    ledger: &Ledger,
    reference: &str,
    told: &[&Told],
    listed: &HashMap<String, CallView>,
    dialed: &HashMap<crate::ids::AttemptId, (String, String)>,
) -> anyhow::Result<Found> {
    let pairs: BTreeSet<(&str, &str)> = dialed.values().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let first = told.iter().map(|one| one.dial.intent_at).min().unwrap_or(ledger.at) - CLOCKS_APART;
    let in_time = |view: &CallView| {
        let created = view.created_at.or(view.started_at);
        created.is_none_or(|at| at >= first && at <= ledger.at)
    };
    let ours = listed.values().filter(|view| {
        let pair = (view.from.as_deref().unwrap_or_default(), view.to.as_deref().unwrap_or_default());
        view.direction_outbound_api && pairs.contains(&pair) && in_time(view)
    });
    let ids: Vec<String> = ours.map(|view| view.call_id.clone()).collect();
    let known = export::known(&ctx.stores.pg, ledger.business_id, reference, &ids).await?;
    let file: BTreeSet<&str> = told.iter().filter_map(|one| one.dial.call_id.as_deref()).collect();
    let strange = ids.iter().filter(|id| !known.contains(id) && !file.contains(id.as_str()));
    Ok(strange
        .map(|id| {
            let to = listed[id].to.as_deref().map(mask).unwrap_or_default();
            (1, format!("the carrier has a call {id} to {to} that no attempt answers for"))
        })
        .collect())
}
