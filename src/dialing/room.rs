//! Room for calls that go ahead of lists, and for conversations, decided before anybody is dialed or taken in: nobody answers into silence.
//!
//! The gate counts the holders that may talk, in the step in which it gives a line, whoever asks at the same time.

use std::time::{Duration, Instant};

use crate::{
    agents::PipelineKind,
    attempts::open::{self, InCalls},
    businesses::profile::Profile,
    config::VoiceSettings,
    context::Context,
    heartbeats,
    ids::{AttemptId, BusinessId},
    models::Provider,
    slots::{Ask, Gate, Short, Taken, Talks},
};

/// A call that was dialed because there is room waits so long for the conversation before it to be gone. Carriers wait longer
/// for an answer, the more impatient one 2 s.
const MOMENT: Duration = Duration::from_millis(1_500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// A worker that looks what is due has given back by then what it took for it, unless it has died.
const LOOKED: Duration = Duration::from_millis(500);
/// Between two tries meanwhile.
const TRY: Duration = Duration::from_millis(10);

/// A slot and a line for one call that goes ahead of lists. A full gate is no full house: a worker takes slots before it sees whether
/// anything is due. Where the ledger has fewer calls than the gate has holders, the gate is asked again for a moment.
///
/// # Errors
/// Where a store does not answer.
pub async fn ahead(ctx: &Context, ask: &Ask<'_>, attempt: AttemptId) -> anyhow::Result<Taken> {
    let begin = Instant::now();
    loop {
        let taken = ctx.gate.take_ahead(ask, attempt).await?;
        let Taken::Some { held, short: Some(Short::Slots | Short::Lines), .. } = &taken else { return Ok(taken) };
        if !held.is_empty() || begin.elapsed() >= LOOKED {
            return Ok(taken);
        }
        let InCalls { business, all } = open::in_calls(&ctx.stores.pg, ask.business).await?;
        if business >= i64::from(ask.slot_limit) || all >= i64::from(ask.lines) {
            return Ok(taken);
        }
        tokio::time::sleep(TRY).await;
    }
}

/// Where the stream of an answered call goes, its first or after one that was `closed`; `None` where no calls program has room.
///
/// # Errors
/// Where Redis does not answer.
pub async fn replica(ctx: &Context, closed: bool) -> anyhow::Result<Option<String>> {
    let begin = Instant::now();
    loop {
        let found = heartbeats::replica_with_room(&ctx.stores, &ctx.replicas, closed).await?;
        if found.is_some() || begin.elapsed() >= MOMENT {
            return Ok(found);
        }
        if heartbeats::room(&ctx.stores, &ctx.replicas).await?.ready == 0 {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What each conversation of a business takes one of, by any of these pipelines, for the gate to count those that talk by.
///
/// # Errors
/// Where a store does not answer.
pub async fn conversations(ctx: &Context, business: BusinessId, pipelines: &[PipelineKind]) -> anyhow::Result<Talks> {
    let room = heartbeats::room(&ctx.stores, &ctx.replicas).await?;
    let profile = ctx.profile(business).await?;
    let accounts = profile.map(|profile| accounts(&ctx.settings.voice, (business, &profile), pipelines));
    Ok(Talks { most: i32::try_from(room.most).unwrap_or(i32::MAX), accounts: accounts.unwrap_or_default() })
}

/// The pipelines that agents talk by in the running runs of a business.
pub fn pipelines(profile: &Profile) -> Vec<PipelineKind> {
    profile.talks.iter().map(|word| PipelineKind::named(word)).collect()
}

/// The accounts at voice providers that a conversation by any of these pipelines uses from its beginning to its end, the business's own
/// or the installation's, and how many conversations each allows at once.
pub fn accounts(
    settings: &VoiceSettings,
    (business, profile): (BusinessId, &Profile),
    pipelines: &[PipelineKind],
) -> Vec<(String, i32)> {
    let mut providers: Vec<Provider> = pipelines.iter().flat_map(|kind| held(*kind)).copied().collect();
    providers.sort_unstable();
    providers.dedup();
    let account = |provider: &Provider| {
        let name = provider.as_str();
        let (account, most) = match profile.voices.get(name) {
            Some(most) => (format!("{name}:{business}"), *most),
            None => (name.to_owned(), i32::try_from(settings.provider(name).most_at_once).unwrap_or(i32::MAX)),
        };
        match provider {
            // One is left to the answers of chat models, which have it in turn: without it they would wait for the end of a call.
            Provider::Openai => (account, (most - 1).max(1)),
            Provider::Deepgram | Provider::Elevenlabs => (account, most),
        }
    };
    providers.iter().map(account).collect()
}

/// Whose sockets are open as long as a conversation. A chat model is asked for one answer at a time, which waits for its turn.
fn held(pipeline: PipelineKind) -> &'static [Provider] {
    match pipeline {
        PipelineKind::Cascade => &[Provider::Deepgram, Provider::Elevenlabs],
        PipelineKind::Realtime => &[Provider::Openai],
    }
}

/// The first of these accounts that is in as many conversations as it allows.
///
/// # Errors
/// Where Redis does not answer.
pub async fn used_up(gate: &Gate, accounts: Vec<(String, i32)>) -> redis::RedisResult<Option<(String, i32)>> {
    let used = gate.talking_by(&accounts).await?;
    Ok(accounts.into_iter().zip(used).find(|((_, most), used)| used >= most).map(|(account, _)| account))
}
