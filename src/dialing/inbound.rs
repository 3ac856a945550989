//! Somebody rings a number of ours: a slot, a line and a row in the ledger, as for a call that we make, and then its agent.
//!
//! Where there is no room it hears the number's fallback message and is counted; no row is left of it.

use serde_json::{Map, Value, json};

use crate::{
    agents::store,
    attempts::inbound::{self, Inbound},
    businesses::answering,
    carriers::{CallEvent, Speech},
    context::Context,
    dialing::{
        agents,
        answer::{self, Hears},
        overview::count_rejected,
        room,
    },
    error::ApiError,
    ids::{AttemptId, BusinessId, Carrier, Held},
    slots::{Ask, Taken},
};

/// Calls come in as they come: the pace of what we dial is not theirs.
const NO_PACE: f64 = 10_000.0;

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

/// What a call that rings here hears, and its attempt, where it has one. The same call may ask twice.
///
/// # Errors
/// Where a store does not answer.
pub async fn ring(
    ctx: &Context,
    business: BusinessId,
    ringing: Ringing<'_>,
    event: &CallEvent,
) -> Result<(Option<AttemptId>, Hears), ApiError> {
    let known = inbound::known(&ctx.stores.pg, business, ringing.account, ringing.call_id).await?;
    if let Some(attempt) = known {
        return Ok((known, answer::what_it_hears(ctx, (business, attempt), event).await?));
    }
    let Some((agent, fallback)) = answering::of(&ctx.stores.pg, business, ringing.ours).await? else {
        tracing::info!(business.id = %business, call.id = ringing.call_id, "a number that nobody talks on was rung");
        return Ok((None, Hears::Nothing));
    };
    let turned_away = |language: &str| {
        let text = fallback.clone()?;
        Some(Hears::Speech(Speech { text, language: language.to_owned(), voice: None }))
    };
    let Some(agent) = store::one(&ctx.stores.pg, business, agent).await? else {
        tracing::warn!(business.id = %business, "the agent of a number that was rung is deleted");
        return Ok((None, turned_away("en-US").unwrap_or(Hears::Nothing)));
    };
    let variables = variables(ringing.ours, ringing.theirs);
    let can_speak = agents::said(&agent.definition, &variables).inspect_err(|error| {
        tracing::error!(business.id = %business, agent.id = %agent.id, error = format!("{error:#}"), "the agent has no words for a call that came in");
    });
    let admitted = match can_speak {
        Ok(_) => admit(ctx, business, ringing, (&agent, variables)).await?,
        Err(_) => None,
    };
    let Some(attempt) = admitted else {
        count_rejected(ctx).await;
        return Ok((None, turned_away(&agent.definition.language).unwrap_or(Hears::Nothing)));
    };
    let hears = answer::what_it_hears(ctx, (business, attempt), event).await?;
    // No calls program has room, and the agent says nothing of it.
    let hears =
        if matches!(hears, Hears::Nothing) { turned_away(&agent.definition.language).unwrap_or(hears) } else { hears };
    Ok((admitted, hears))
}

/// What an agent's texts may name in a call that came in: `{{from}}` is whoever rings, `{{to}}` the number that was rung.
#[must_use]
pub fn variables(ours: &str, theirs: &str) -> Map<String, Value> {
    Map::from_iter([("from".to_owned(), json!(theirs)), ("to".to_owned(), json!(ours))])
}

/// Its attempt, with a slot and a line; `None` where there is no room.
async fn admit(
    ctx: &Context,
    business: BusinessId,
    ringing: Ringing<'_>,
    (agent, variables): (&store::Agent, Map<String, Value>),
) -> Result<Option<AttemptId>, ApiError> {
    let id = AttemptId::new();
    let pace = format!("inbound:{}", ringing.account);
    let Some(held) = take(ctx, business, &pace, id).await? else { return Ok(None) };
    store::pin_attempt(&ctx.stores.pg, id, (agent.id, agent.version)).await?;
    // Callers who hide their numbers are not one caller.
    let hidden = format!("{}:{}", ringing.theirs, ringing.call_id);
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
        return Ok(Some(id));
    }
    match ctx.gate.give_back(business, &pace, &[id]).await {
        Ok(freed) => ctx.ring_turns(&freed.turns).await,
        Err(error) => tracing::warn!(%error, "the slot was not given back; the sweep evicts its holder"),
    }
    store::unpin_attempt(&ctx.stores.pg, id).await?;
    let why = outcome?;
    tracing::info!(business.id = %business, call.id = ringing.call_id, why, "a call that came in is turned away");
    Ok(None)
}

async fn take(ctx: &Context, business: BusinessId, pace: &str, id: AttemptId) -> Result<Option<Held>, ApiError> {
    let Some(profile) = ctx.profile(business).await? else { return Ok(None) };
    let ask = Ask {
        business,
        slot_limit: profile.slots,
        line_limit: room::lines_for_a_talk(ctx, profile.lines).await?,
        lines: profile.lines,
        account: pace,
        calls_per_second: NO_PACE,
        most: 1,
    };
    Ok(match ctx.gate.take_ahead(&ask, id).await? {
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
