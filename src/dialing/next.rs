//! A look at one business: take what the gate gives, claim what is due, send it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agents::PipelineKind,
    attempts::ledger,
    businesses::profile::{Profile, SealedAccount},
    context::Context,
    dialing::{
        room,
        send::{self, ClaimedAt},
        windows,
    },
    ids::{AttemptId, BusinessId, Held},
    jobs::{
        claim::{self, Claimed, Wanted, surely_not_committed},
        queue::{Bell, Rang},
    },
    killpoints::{Point, reach},
    slots::{Ask, Short, Taken, Talks},
    telemetry::metrics,
};

/// Most attempts claimed in one transaction: the business is locked for as long as it takes.
const MOST_PER_CLAIM: usize = 32;
/// Most claims of one look, so that a handler stays far below a second.
const MOST_CLAIMS: usize = 16;
/// Below this pace a token is worth looking first whether anything is due.
const SLOW_PACE: f64 = 10.0;

/// This worker process, as the owner of what it claims.
#[derive(Clone)]
pub struct Owner {
    /// Its name in the ledger.
    pub name: Arc<str>,
    /// Its sends, awaited by the drain.
    pub sends: TaskTracker,
    /// Cancelled when nothing may be sent any more.
    pub draining: CancellationToken,
    looking: Arc<Mutex<HashMap<BusinessId, Again>>>,
}

/// Whether somebody asked for a look while one was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes(Option<Rang>),
}

impl Owner {
    /// An owner of this name.
    #[must_use]
    pub fn new(name: &str, draining: CancellationToken) -> Self {
        Self { name: name.into(), sends: TaskTracker::new(), draining, looking: Arc::default() }
    }

    /// True where this caller shall look; otherwise whoever looks will look once more.
    fn begin(&self, business: BusinessId, rang: Option<Rang>) -> bool {
        let mut looking = self.looking.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let under_way = looking.contains_key(&business);
        looking.insert(business, if under_way { Again::Yes(rang) } else { Again::No });
        !under_way
    }

    /// The ring for which the business must be looked at once more, if there was one.
    fn again(&self, business: BusinessId) -> Option<Option<Rang>> {
        let mut looking = self.looking.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(&Again::Yes(rang)) = looking.get(&business) {
            looking.insert(business, Again::No);
            return Some(rang);
        }
        looking.remove(&business);
        None
    }
}

/// Ends a look even where it is dropped or panics, so that the business is not locked out of this process.
struct Looking<'a>(&'a Owner, BusinessId);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.looking.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.1);
    }
}

/// Looks at a business and dials what may be dialed. One look per business at a time in a process.
///
/// # Errors
/// Where a store does not answer; the sweep rings again.
pub async fn next(ctx: &Context, owner: &Owner, business: BusinessId) -> anyhow::Result<()> {
    heard(ctx, owner, Bell { business, rung_ms: None, freed: false }).await
}

/// The same because of a bell.
///
/// # Errors
/// Where a store does not answer; the sweep rings again.
pub async fn heard(ctx: &Context, owner: &Owner, bell: Bell) -> anyhow::Result<()> {
    let business = bell.business;
    let mut rang = bell.rang(ctx.bells.take_down(business).await?);
    if !owner.begin(business, rang) {
        return Ok(());
    }
    let looking = Looking(owner, business);
    loop {
        look(ctx, owner, business, rang).await?;
        let Some(again) = owner.again(business) else {
            std::mem::forget(looking);
            return Ok(());
        };
        rang = again;
    }
}

async fn look(ctx: &Context, owner: &Owner, business: BusinessId, rang: Option<Rang>) -> anyhow::Result<()> {
    let Some(profile) = ctx.profile(business).await? else { return Ok(()) };
    if !profile.active {
        return Ok(());
    }
    let several = profile.to_dial().nth(1).is_some();
    let mut asked = false;
    for account in profile.to_dial() {
        // Below some pace a token is worth looking first; and of several carriers most have nothing to do.
        let look_first = several || account.calls_per_second < SLOW_PACE;
        if look_first && !claim::has_due(&ctx.stores.pg, business, account.carrier).await? {
            continue;
        }
        asked = true;
        let at = Through { business, profile: &profile, account };
        if let Dialed::AllThatMayBe = dial(ctx, owner, at, rang).await? {
            return Ok(());
        }
    }
    if !asked {
        let freed = ctx.gate.nothing_due(business, "", &[]).await?;
        ctx.ring_turns(&freed.turns).await;
    }
    Ok(())
}

/// One business at one carrier.
#[derive(Clone, Copy)]
struct Through<'a> {
    business: BusinessId,
    profile: &'a Profile,
    account: &'a SealedAccount,
}

/// What came of a look at one carrier.
enum Dialed {
    /// Everything that is due there, as far as its pace goes.
    AllThatIsDue,
    /// Everything that slots and lines have room for.
    AllThatMayBe,
}

/// Dials what is due through one carrier.
async fn dial(ctx: &Context, owner: &Owner, at: Through<'_>, rang: Option<Rang>) -> anyhow::Result<Dialed> {
    let business = at.business;
    for _ in 0..MOST_CLAIMS {
        if owner.draining.is_cancelled() {
            return Ok(Dialed::AllThatMayBe);
        }
        let ask = ask(ctx, at).await?;
        let Taken::Some { held, short, waited, turns } = ctx.gate.take(&ask).await? else {
            tracing::debug!(business.id = %business, "the gate is not ready; the sweep rebuilds it");
            return Ok(Dialed::AllThatMayBe);
        };
        ctx.ring_turns(&turns).await;
        let wanted = held.len();
        let counted = room::pipelines(at.profile);
        let from_lists = claim_and_send(ctx, owner, at, (held, &counted), rang).await?;
        if let Some(waited) = waited.filter(|_| from_lists > 0) {
            metrics::line_waited_for(waited);
        }
        if from_lists < wanted {
            return Ok(Dialed::AllThatIsDue);
        }
        match short {
            None => {}
            Some(Short::Slots | Short::Lines | Short::Talks) => return Ok(Dialed::AllThatMayBe),
            Some(Short::Pace(wait)) => {
                ring_after(ctx, owner, business, wait);
                return Ok(Dialed::AllThatIsDue);
            }
        }
    }
    ctx.ring(business).await;
    Ok(Dialed::AllThatMayBe)
}

async fn ask<'a>(ctx: &Context, Through { business, profile, account }: Through<'a>) -> anyhow::Result<Ask<'a>> {
    let talks = match room::pipelines(profile).as_slice() {
        [] => None,
        pipelines => Some(room::conversations(ctx, business, pipelines).await?),
    };
    Ok(Ask {
        business,
        slot_limit: profile.slots,
        lines: profile.lines,
        talks,
        account: &account.reference,
        calls_per_second: account.calls_per_second,
        // Not many more than it can have, as each is an id that is made and sent; one more, so that all being held is told with them.
        most: usize::try_from(profile.slots).map_or(1, |slots| MOST_PER_CLAIM.min(slots + 1)),
    })
}

/// Claims for these holders, sends what was claimed, and gives back what got nothing; returns how many jobs were claimed. `counted`:
/// the gate counts the holders as such that talk by any of these. The sends come before anything else is awaited: what is claimed here, nobody else
/// may send.
async fn claim_and_send(
    ctx: &Context,
    owner: &Owner,
    Through { business, account, .. }: Through<'_>,
    (held, counted): (Vec<Held>, &[PipelineKind]),
    rang: Option<Rang>,
) -> anyhow::Result<usize> {
    let (carrier, account) = (account.carrier, account.reference.as_str());
    reach(Point::K1).await;
    let at = ClaimedAt::after(rang);
    let claim = format!("{}/{}", owner.name, uuid::Uuid::now_v7());
    let until_rung = windows::until_rung(&ctx.settings);
    let wanted = Wanted { business, carrier, owner: claim.clone(), held: held.clone(), until_rung };
    let claimed = match ctx.claims.claim(wanted, &ctx.settings.times).await {
        Ok(claimed) => claimed,
        Err(error) => {
            let holders: Vec<AttemptId> = held.iter().map(|h| h.attempt).collect();
            if surely_not_committed(&error) {
                give_back(ctx, business, account, &holders).await;
            } else {
                owner.sends.spawn(undo(ctx.clone(), business, account.to_owned(), claim, holders));
            }
            return Err(error.into());
        }
    };
    let unused: Vec<AttemptId> =
        held.iter().map(|h| h.attempt).filter(|a| !claimed.iter().any(|c| c.attempt == *a)).collect();
    let from_lists = claimed.iter().filter(|one| one.job.is_some()).count();
    let more = counted.len() > 1;
    let corrected: Vec<(AttemptId, Option<PipelineKind>)> = claimed
        .iter()
        .map(|one| (one, talks_by(one)))
        .filter(|(one, kind)| {
            one.job.is_some() && kind.map_or(!counted.is_empty(), |kind| more && counted.contains(&kind))
        })
        .map(|(one, kind)| (one.attempt, kind))
        .collect();
    let (mut uncounted, sure): (Vec<_>, Vec<_>) =
        claimed.into_iter().partition(|one| talks_by(one).is_some_and(|kind| !counted.contains(&kind)));
    for one in sure {
        owner.sends.spawn(send::send(ctx.clone(), owner.clone(), business, one, at));
    }
    for kind in PipelineKind::ALL {
        let of_kind: Vec<_> = uncounted.extract_if(.., |one| talks_by(one) == Some(kind)).collect();
        if !of_kind.is_empty() {
            owner.sends.spawn(send_where_room(ctx.clone(), owner.clone(), (business, kind), of_kind, at));
        }
    }
    if let Err(error) = correct(ctx, business, &corrected).await {
        tracing::warn!(error = format!("{error:#}"), "calls count as conversations that they are not until they end");
    }
    if !unused.is_empty() {
        give_back(ctx, business, account, &unused).await;
    }
    Ok(from_lists)
}

/// How whoever answers is talked to; none where no agent talks.
fn talks_by(claimed: &Claimed) -> Option<PipelineKind> {
    claimed.talks.as_deref().map(PipelineKind::named)
}

/// Tells the gate of holders that it counts as if they talked by each pipeline of the business by which they do, or that they do not.
async fn correct(
    ctx: &Context,
    business: BusinessId,
    claimed: &[(AttemptId, Option<PipelineKind>)],
) -> anyhow::Result<()> {
    for kind in PipelineKind::ALL.map(Some).into_iter().chain([None]) {
        let of_kind: Vec<AttemptId> =
            claimed.iter().filter(|(_, by)| *by == kind).map(|(attempt, _)| *attempt).collect();
        match kind {
            _ if of_kind.is_empty() => {}
            Some(kind) => {
                // They have room: they were counted everywhere.
                let talks = room::conversations(ctx, business, &[kind]).await?;
                ctx.gate.claimed(&talks, &[], &of_kind).await?;
            }
            None => {
                ctx.gate.claimed(&Talks::default(), &of_kind, &[]).await?;
            }
        }
    }
    Ok(())
}

/// Sends what was claimed of a run that was started a moment ago, so that nobody knew yet that an agent talks in it: as much as
/// there is room for conversations.
async fn send_where_room(
    ctx: Context,
    owner: Owner,
    (business, kind): (BusinessId, PipelineKind),
    claimed: Vec<Claimed>,
    at: ClaimedAt,
) {
    ctx.profiles.forget(business);
    let talking: Vec<AttemptId> = claimed.iter().map(|one| one.attempt).collect();
    let counted = async {
        let talks = room::conversations(&ctx, business, &[kind]).await?;
        Ok::<_, anyhow::Error>(ctx.gate.claimed(&talks, &[], &talking).await?)
    };
    let without = counted.await.unwrap_or_else(|error| {
        tracing::warn!(business.id = %business, error = format!("{error:#}"), "whether there is room for conversations is not known");
        talking
    });
    for one in claimed {
        if without.contains(&one.attempt) {
            send::not_sent(&ctx, one.attempt, "there is no room for one more conversation").await;
        } else {
            owner.sends.spawn(send::send(ctx.clone(), owner.clone(), business, one, at));
        }
    }
}

async fn give_back(ctx: &Context, business: BusinessId, account: &str, unused: &[AttemptId]) {
    match ctx.gate.nothing_due(business, account, unused).await {
        Ok(freed) => ctx.ring_turns(&freed.turns).await,
        Err(error) => {
            tracing::warn!(business.id = %business, %error, "unused slots were not given back; the sweep evicts them");
        }
    }
}

/// The answer to a claim was lost: what became an intent all the same is closed as not sent, the rest is given back. If
/// Postgres stays away, the intents are looked for at the carrier after their grace, like those of a process that died.
async fn undo(ctx: Context, business: BusinessId, account: String, claim: String, holders: Vec<AttemptId>) {
    // The claim's statement may still be running: it cannot outlive its own time limit of 2 s.
    for pause in [Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(10)] {
        tokio::time::sleep(pause).await;
        if let Ok(intents) = ledger::intents_of(&ctx.stores.pg, business, &claim).await {
            for attempt in &intents {
                send::not_sent(&ctx, *attempt, "the claim's answer was lost").await;
            }
            let free: Vec<_> = holders.into_iter().filter(|a| !intents.contains(a)).collect();
            give_back(&ctx, business, &account, &free).await;
            return;
        }
    }
}

/// Rings when the account's next token is there. If this process dies first, the sweep rings.
fn ring_after(ctx: &Context, owner: &Owner, business: BusinessId, wait: Duration) {
    let (ctx, draining) = (ctx.clone(), owner.draining.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(wait) => ctx.ring(business).await,
            () = draining.cancelled() => {}
        }
    });
}
