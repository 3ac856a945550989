//! Open attempts that the carrier has to say something about, and stray calls.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};

use super::{Action, Finding, Kind, Told, span};
use crate::{
    attempts::{
        open::{self, Open},
        strays,
    },
    context::Context,
    dialing::{
        ask::{self, Heard},
        asked::MOST_OF_ONE,
        doubt::Empty,
        hang_up, live, untaken,
    },
    ids::{AttemptId, BusinessId},
};

/// Attempts asked about at once.
const AT_ONCE: usize = 8;
/// Stray calls that are looked at.
const MOST_STRAYS: i64 = 500;

/// Attempts that are stuck, each with what the carrier says of it now.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn find(ctx: &Context, told: Told<'_>) -> anyhow::Result<Vec<Finding>> {
    let mut found = heard_of(ctx, open::list(&ctx.stores.pg, None).await?, told).await;
    for stray in strays::open(&ctx.stores.pg, MOST_STRAYS).await? {
        let evidence = format!(
            "no open attempt answers for this call; it was heard of {} ago and not seen to end",
            span(stray.age_secs * 1_000)
        );
        found.push(Finding::new(Kind::StrayCall, stray.call_id, evidence, Action::HangUp).of(stray.business));
    }
    Ok(found)
}

/// Of the attempts whose calls nothing was heard of for `silent_ms`, those that are stuck.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn silent(ctx: &Context, silent_ms: i64) -> sqlx::Result<Vec<Finding>> {
    let mut open = open::list(&ctx.stores.pg, None).await?;
    open.retain(|open| open.call_id.is_some() && open.silent_ms >= silent_ms);
    Ok(heard_of(ctx, open, &|_, _| ()).await)
}

/// What the carrier says of those that are suspicious and not on its live lists.
async fn heard_of(ctx: &Context, open: Vec<Open>, told: Told<'_>) -> Vec<Finding> {
    let alive = alive(ctx, &open).await;
    let mut asked = open;
    asked.retain(|open| suspicious(ctx, open) && !alive.contains(&open.attempt));
    let all = asked.len();
    let heard = stream::iter(asked).map(|open| async move {
        let heard = ask::look(ctx, &open).await;
        judge(ctx, open, &heard)
    });
    let mut heard = heard.buffered(AT_ONCE).enumerate();
    let mut found = Vec::new();
    while let Some((n, finding)) = heard.next().await {
        told(n + 1, all);
        found.extend(finding);
    }
    found
}

/// True where a worker should have learned more of it by now, or is late with it.
fn suspicious(ctx: &Context, open: &Open) -> bool {
    let times = &ctx.settings.times;
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    if !open.owned {
        return open.late_ms.is_some_and(|late| late > 0);
    }
    if open.call_id.is_none() {
        return open.age_ms >= ms(times.intent_grace_ms);
    }
    // Workers ask for a hang-up every 3 s, and read the live lists as often as `live_look_ms` says.
    open.silent_ms >= ms(times.live_look_ms + times.silent_after_ms)
}

/// Attempts whose calls are on the live lists of their accounts and wait for nothing: they are well. A list that cannot be
/// read says nothing.
async fn alive(ctx: &Context, open: &[Open]) -> HashSet<AttemptId> {
    let mut calls: HashMap<(BusinessId, &str), Vec<&Open>> = HashMap::new();
    for open in open.iter().filter(|open| open.call_id.is_some() && !open.hangup_wanted && !in_queue(ctx, open)) {
        calls.entry((open.business, &open.account)).or_default().push(open);
    }
    let listed = stream::iter(calls).map(|((business, reference), calls)| async move {
        let Ok(Some(account)) = ctx.account(business, reference).await else { return Vec::new() };
        let Ok(listed) = live::live_list(ctx, &account).await else { return Vec::new() };
        let live = calls.into_iter().filter(|open| open.call_id.as_ref().is_some_and(|id| listed.contains_key(id)));
        live.map(|open| open.attempt).collect::<Vec<_>>()
    });
    listed.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().flatten().collect()
}

/// True where the call may have waited in the carrier's queue for too long.
fn in_queue(ctx: &Context, open: &Open) -> bool {
    let limit = ctx.settings.carrier_queue_limit_ms();
    open.state.rank() == 2 && open.placed_ms.is_some_and(|placed| placed >= limit)
}

/// What follows from what the carrier said; nothing where the attempt is well.
fn judge(ctx: &Context, open: Open, heard: &Heard) -> Option<Finding> {
    let action = match heard {
        Heard::Untaken => Action::CloseUntaken,
        Heard::Young | Heard::Elsewhere => return None,
        Heard::Silence(_) | Heard::NotShown => Action::Wait,
        Heard::Call { over: true, .. } => Action::ApplyEnd,
        Heard::Call { .. } if open.hangup_wanted => Action::HangUp,
        Heard::Call { queued: true, .. } if in_queue(ctx, &open) => Action::CancelInQueue,
        Heard::Call { .. } if open.call_id.is_none() => Action::ApplyCall,
        Heard::Call { .. } => return None,
        Heard::Nothing(Empty::First) => Action::CountLook,
        Heard::Nothing(Empty::Proof) => Action::CloseNotPlaced,
        Heard::Nothing(_) => Action::Wait,
        Heard::Several(_) => Action::AskPerson,
    };
    let mut evidence = format!(
        "{} for {}, slot {}, line {}, silent for {}",
        open.state.as_str(),
        span(open.age_ms),
        open.slot,
        open.line,
        span(open.silent_ms)
    );
    if open.hangup_wanted {
        evidence.push_str(", to be hung up");
    }
    if let Some(late) = open.late_ms.filter(|_| !open.owned) {
        evidence.push_str(&format!(", its time ended {} ago", span(late)));
    }
    evidence.push_str(&format!("; {heard}"));
    let mut finding = Finding::new(Kind::Attempt, open.attempt, evidence, action).of(open.business);
    finding.open = Some(open);
    Some(finding)
}

/// Does what the reconciler, the hang-ups and the sweep do for what was found, and looks how it stands.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn apply(ctx: &Context, found: &mut [Finding], told: Told<'_>) -> anyhow::Result<()> {
    let hang_ups = found.iter().filter(|f| matches!(f.action, Action::HangUp | Action::CancelInQueue)).count();
    for _ in 0..hang_ups.div_ceil(MOST_OF_ONE) {
        hang_up::whole_round(ctx).await?;
    }
    let ours: Vec<&mut Finding> = found.iter_mut().filter(|finding| finding.kind == Kind::Attempt).collect();
    let all = ours.len();
    let mut settled = stream::iter(ours).map(|finding| one(ctx, finding)).buffer_unordered(AT_ONCE).enumerate();
    while let Some((n, done)) = settled.next().await {
        done?;
        told(n + 1, all);
    }
    drop(settled);
    let open = strays::open(&ctx.stores.pg, MOST_STRAYS).await?;
    for finding in found.iter_mut().filter(|finding| finding.kind == Kind::StrayCall) {
        if open.iter().any(|stray| stray.call_id == finding.id) {
            finding.left("the carrier was asked to end it, or will be when its turn comes");
        } else {
            finding.done("the call is over");
        }
    }
    Ok(())
}

async fn one(ctx: &Context, finding: &mut Finding) -> anyhow::Result<()> {
    let Some(attempt) = finding.open.clone() else { return Ok(()) };
    let heard = match finding.action {
        Action::CloseUntaken => {
            untaken::end(ctx, attempt.attempt, None).await?;
            Heard::Untaken
        }
        _ => ask::settle(ctx, &attempt).await,
    };
    match open::state(&ctx.stores.pg, attempt.attempt).await? {
        Some(state) if state.is_open() => {
            finding.left(format!("it is {} and holds its slot; {heard}", state.as_str()));
        }
        Some(state) => finding.done(format!("it is {} and its slot is free", state.as_str())),
        None => finding.done("it is gone from the ledger"),
    }
    Ok(())
}
