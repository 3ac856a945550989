//! Somebody rings a number of ours: a slot, a line and a row in the ledger, as for a call that we make, and then its agent.
//!
//! Where there is no room it hears the number's fallback message, is put through to another number, or is refused, and is counted;
//! no row is left of it. One carrier asks what to do; the other is told by commands ([`by_command`]).
//!
//! Invariant: one call has one row, however often and from however many sides at once its word comes; one that was turned away
//! stays so; a slot that was taken for a call is free after the carrier's word that it is over, and never before.
//! Not here: the carriers' formats (`carriers`), and what an answered call hears (`dialing::answer`).

pub mod by_command;

mod decided;

use serde_json::{Map, Value, json};

use crate::{
    agents::{PipelineKind, store},
    attempts::inbound::{self, Inbound},
    businesses::answering::{self, Answering},
    carriers::Speech,
    context::Context,
    dialing::{agents, overview::count_rejected, put_through, room},
    error::ApiError,
    ids::{AttemptId, BusinessId, Carrier, Held},
    slots::{Ask, Taken},
    telemetry::metrics::TurnedAway,
};
use decided::Turn;

/// Calls come in as they come: the pace of what we dial is not theirs.
const NO_PACE: f64 = 10_000.0;
/// The language of a fallback message whose agent is gone.
const LANGUAGE: &str = "en-US";

/// A call that rings here.
#[derive(Debug, Clone, Copy)]
pub struct Ringing<'a> {
    /// Through whom.
    pub carrier: Carrier,
    /// The carrier's own name of the account.
    pub account: &'a str,
    /// The carrier's id of the call.
    pub call_id: &'a str,
    /// The number that was rung.
    pub ours: &'a str,
    /// Whoever rings, as the carrier writes it.
    pub theirs: &'a str,
}

/// What becomes of a call that rings here.
#[derive(Clone)]
pub enum Welcome {
    /// It is taken: its attempt.
    Taken(AttemptId),
    /// There is no room for it.
    TurnedAway(Instead),
    /// Nobody talks on that number.
    Nobody,
}

/// What a call gets that there is no room for: the words first, and then the other number. It is refused where there is neither.
/// Not `Debug`: it may hold a whole number.
#[derive(Clone, Default)]
pub struct Instead {
    /// What it hears.
    pub speech: Option<Speech>,
    /// The number that it is put through to, E.164.
    pub redirect: Option<String>,
}

impl Instead {
    /// What it is counted as.
    #[must_use]
    pub fn how(&self) -> TurnedAway {
        match self {
            Self { redirect: Some(_), .. } => TurnedAway::Redirected,
            Self { speech: Some(_), .. } => TurnedAway::Spoken,
            Self { .. } => TurnedAway::Rejected,
        }
    }
}

/// Takes a call that rings here, or turns it away. The same call may come twice, also at once.
///
/// # Errors
/// Where a store does not answer, or somebody else is deciding about this call for too long: the same may be asked for again.
pub async fn welcome(ctx: &Context, business: BusinessId, ringing: Ringing<'_>) -> Result<Welcome, ApiError> {
    if let Some(attempt) = known(ctx, business, ringing).await? {
        return Ok(Welcome::Taken(attempt));
    }
    match decided::turn(ctx, business, ringing).await? {
        Turn::Taken(attempt) => Ok(Welcome::Taken(attempt)),
        Turn::TurnedAway => Ok(Welcome::TurnedAway(instead(ctx, business, ringing.ours, ringing.theirs).await?)),
        Turn::Ours => {
            let welcome = decide(ctx, business, ringing).await;
            decided::is(ctx, ringing, matches!(welcome, Ok(Welcome::TurnedAway(_)))).await;
            welcome
        }
    }
}

async fn decide(ctx: &Context, business: BusinessId, ringing: Ringing<'_>) -> Result<Welcome, ApiError> {
    let Some(answering) = answering::of(&ctx.stores.pg, business, ringing.ours).await? else {
        tracing::info!(business.id = %business, call.id = ringing.call_id, "a number that nobody talks on was rung");
        return Ok(Welcome::Nobody);
    };
    let Some(agent) = store::one(&ctx.stores.pg, business, answering.agent).await? else {
        tracing::warn!(business.id = %business, "the agent of a number that was rung is deleted");
        return Ok(Welcome::TurnedAway(instead_by(ctx, business, answering, LANGUAGE, ringing.theirs).await?));
    };
    let variables = variables(ringing.ours, ringing.theirs);
    let can_speak = agents::said(&agent.definition, &variables).inspect_err(|error| {
        tracing::error!(business.id = %business, agent.id = %agent.id, error = format!("{error:#}"), "the agent has no words for a call that came in");
    });
    let admission = match can_speak {
        Ok(_) => admit(ctx, business, ringing, (&agent, variables)).await?,
        Err(_) => Admission::NotNow,
    };
    if let Admission::Taken(attempt) = admission {
        return Ok(Welcome::Taken(attempt));
    }
    let instead = instead_by(ctx, business, answering, &agent.definition.language, ringing.theirs).await?;
    if matches!(admission, Admission::NoRoom) {
        count_rejected(ctx, instead.how()).await;
    }
    Ok(Welcome::TurnedAway(instead))
}

async fn known(ctx: &Context, business: BusinessId, ringing: Ringing<'_>) -> sqlx::Result<Option<AttemptId>> {
    inbound::known(&ctx.stores.pg, business, ringing.account, ringing.call_id).await
}

/// What somebody gets who rings `ours` while there is no room, as things are set now.
///
/// # Errors
/// Where Postgres does not answer, or an agent's definition cannot be read.
pub(super) async fn instead(ctx: &Context, business: BusinessId, ours: &str, theirs: &str) -> anyhow::Result<Instead> {
    let Some(answering) = answering::of(&ctx.stores.pg, business, ours).await? else { return Ok(Instead::default()) };
    let agent = store::one(&ctx.stores.pg, business, answering.agent).await?;
    let language = agent.map_or_else(|| LANGUAGE.to_owned(), |agent| agent.definition.language);
    instead_by(ctx, business, answering, &language, theirs).await
}

async fn instead_by(
    ctx: &Context,
    business: BusinessId,
    answering: Answering,
    language: &str,
    theirs: &str,
) -> anyhow::Result<Instead> {
    let speech = answering.fallback.map(|text| Speech { text, language: language.to_owned(), voice: None });
    let mut redirect = answering.redirect;
    if let Some(to) = &redirect {
        // What comes from a number of ours may have been put through to here.
        let circle = answering::is_anybodys(&ctx.stores.pg, &[theirs]).await?.then_some("own_number");
        let why = match circle {
            Some(why) => Some(why),
            None => put_through::refused(ctx, business, to).await?,
        };
        if let Some(why) = why {
            tracing::warn!(business.id = %business, why, "a call that there is no room for is not put through");
            redirect = None;
        }
    }
    Ok(Instead { speech, redirect })
}

/// What an agent's texts may name in a call that came in: `{{from}}` is whoever rings, `{{to}}` the number that was rung.
#[must_use]
pub fn variables(ours: &str, theirs: &str) -> Map<String, Value> {
    Map::from_iter([("from".to_owned(), json!(theirs)), ("to".to_owned(), json!(ours))])
}

/// Whether a call that rings here is taken.
enum Admission {
    /// It is: its attempt, with a slot and a line.
    Taken(AttemptId),
    /// There is no room for it.
    NoRoom,
    /// There is room, but not for this call.
    NotNow,
}

async fn admit(
    ctx: &Context,
    business: BusinessId,
    ringing: Ringing<'_>,
    (agent, variables): (&store::Agent, Map<String, Value>),
) -> Result<Admission, ApiError> {
    let id = AttemptId::new();
    let pace = format!("inbound:{}", ringing.account);
    let pipeline = agent.definition.pipeline;
    let Some(held) = take(ctx, business, &pace, (id, pipeline)).await? else { return Ok(Admission::NoRoom) };
    store::pin_attempt(&ctx.stores.pg, id, (agent.id, agent.version)).await?;
    let hidden = inbound::without_number(ringing.theirs, ringing.call_id);
    let theirs = if is_number(ringing.theirs) { ringing.theirs } else { &hidden };
    let variables = Value::Object(variables);
    let call = Inbound {
        held,
        carrier: ringing.carrier,
        account: ringing.account,
        call_id: ringing.call_id,
        ours: ringing.ours,
        theirs,
        variables: &variables,
        call_time_limit_secs: ctx.settings.call_time_limit_secs,
    };
    let outcome = inbound::admit(&ctx.stores.pg, business, &call).await;
    if outcome.as_deref().is_ok_and(|word| word == "admitted") {
        return Ok(Admission::Taken(id));
    }
    match ctx.gate.give_back(business, &pace, &[id]).await {
        Ok(freed) => ctx.ring_turns(&freed.turns).await,
        Err(error) => tracing::warn!(%error, "the slot was not given back; the sweep evicts its holder"),
    }
    store::unpin_attempt(&ctx.stores.pg, id).await?;
    let why = outcome?;
    if let Some(known) = known(ctx, business, ringing).await? {
        return Ok(Admission::Taken(known));
    }
    // One number has one open call with a business: by that it is proven that nobody is dialed while they talk to us.
    if why == "in_call" {
        tracing::info!(business.id = %business, call.id = ringing.call_id, "a second call from a number that is in a call already is turned away");
        return Ok(Admission::NotNow);
    }
    tracing::info!(business.id = %business, call.id = ringing.call_id, why, "a call that came in is turned away");
    Ok(Admission::NoRoom)
}

async fn take(
    ctx: &Context,
    business: BusinessId,
    pace: &str,
    (id, pipeline): (AttemptId, PipelineKind),
) -> Result<Option<Held>, ApiError> {
    let Some(profile) = ctx.profile(business).await? else { return Ok(None) };
    let ask = Ask {
        business,
        slot_limit: profile.slots,
        lines: profile.lines,
        talks: Some(room::conversations(ctx, business, &[pipeline]).await?),
        account: pace,
        calls_per_second: NO_PACE,
        most: 1,
    };
    Ok(match room::ahead(ctx, &ask, id).await? {
        // The gate is being rebuilt: that takes a second, for which nobody waits on the line.
        Taken::NotReady => None,
        Taken::Some { held, .. } => held.first().copied(),
    })
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| digits.len() >= 7 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hides_a_number_has_none() {
        assert!(is_number("+12055550100"));
        for text in ["anonymous", "", "+", "+123", "12055550100", "+1205555010x"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
