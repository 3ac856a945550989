//! A conversation seen from the dialer: whether a call may be talked in, where its stream goes, and how it is ended.
//!
//! A session is built from the call's state alone. The state is made of the ledger, so that it can be made again when Redis
//! was emptied, by whoever needs it.

use url::Url;

use crate::{
    agents,
    attempts::{
        self,
        detection::{self, Noted},
    },
    businesses::suppressions::{Entry, List, Terms},
    calls::{CallState, Memory, Phase, Text, Ticket, Who, conversation, state::VERSION},
    carriers::{HangUp, How, Speech},
    context::Context,
    dialing::{
        import::number_rules,
        inbound::{Instead, instead},
    },
    ids::{AttemptId, BusinessId, Carrier},
    leads::E164,
    policy::zones,
    runs::{Machine, machine::Then},
    telemetry::voice as figures,
};

/// The reason of a conversation whose caller hung up.
pub const HUNG_UP: &str = "hung_up";
/// The reason of one whose caller was put through: the call goes on without us.
pub const TRANSFERRED: &str = "transferred";
/// Why a conversation is over that a provider's fault has ended.
pub const TROUBLE: &str = "trouble";
/// Streams of one call at most: a call whose sessions all break off, or whose streams never become one, is ended.
const MOST_STREAMS: u32 = 20;
/// Numbers of calls are whole: none is read by the habits of a region.
const ANY_REGION: &str = "US";

/// Where the stream of a call goes. Not `Debug`: it may hold a whole number.
#[derive(Clone)]
pub enum Stream {
    /// There: the address with its ticket, good for one connection.
    To(Url),
    /// The call may not be talked in, or talks to no agent.
    Nothing,
    /// Its conversation is over: it is hung up, or a worker has it to do.
    Over {
        /// Its session took it that the caller had hung up, and so ended nothing.
        hung_up: bool,
    },
    /// No stream of it lasts: it hears of the agent's trouble, where the agent has words for that, and is ended.
    Broken(Option<Speech>),
    /// It would be talked in, but no calls program has room: what it gets in place of that, and the caller id that goes with it.
    NoRoom(Instead, String),
}

/// The state of a call that may be talked in, made of the ledger; `None` where it may not, or no agent talks in it.
///
/// # Errors
/// Where Postgres does not answer, or the agent's texts need a variable that is not there.
pub async fn state_of(ctx: &Context, business: BusinessId, attempt: AttemptId) -> anyhow::Result<Option<CallState>> {
    let pg = &ctx.stores.pg;
    let Some(call) = conversation::answered(pg, business, attempt).await? else { return Ok(None) };
    let Some(pinned) = agents::store::of_attempt(pg, attempt).await? else { return Ok(None) };
    let zones = zones_of(&call);
    let rule: Option<Machine> = call.machine.map(serde_json::from_value).transpose()?;
    let mut definition = pinned.definition;
    if let Some(message) = rule.as_ref().and_then(|rule| rule.message.as_ref()) {
        // In the agent's own voice.
        definition.voicemail = Some(message.text.clone());
    }
    let definition = super::agents::said(&definition, &call.variables)?;
    let from = attempts::inbound::as_said(call.from, Some(&call.call_id));
    Ok(Some(CallState {
        v: VERSION,
        business,
        attempt,
        run: call.run,
        job: call.job,
        direction: call.direction,
        carrier: Some(call.carrier),
        account: call.account,
        call_id: call.call_id,
        from,
        to: call.to,
        answered_by: call.answered_by,
        on_machine: rule.map(|rule| rule.then.as_str().to_owned()),
        variables: call.variables,
        zones,
        agent: pinned.agent,
        agent_version: pinned.version,
        definition: Text::of(&definition)?,
        call_time_limit_secs: call.call_time_limit_secs,
        phase: Phase::Answered,
        ended: None,
        memory: Memory::default(),
    }))
}

/// Where whoever is talked to may be: as the list says, or their number.
fn zones_of(call: &conversation::Answered) -> Vec<String> {
    if !call.zones.is_empty() {
        return call.zones.clone();
    }
    let theirs = if call.direction == "inbound" { &call.from } else { &call.to };
    let number = number_rules(ANY_REGION, None).ok().and_then(|rules| rules.read(theirs).ok());
    let zones = number.map_or(&[][..], |number| zones::of_number(theirs, number.at_a_place));
    match zones {
        [] => call.home_zone.iter().cloned().collect(),
        zones => zones.iter().map(|zone| zone.name().to_owned()).collect(),
    }
}

/// Where the stream of an answered call goes: its first, or after one that was `closed`.
///
/// # Errors
/// Where a store does not answer.
pub async fn stream(ctx: &Context, business: BusinessId, attempt: AttemptId, closed: bool) -> anyhow::Result<Stream> {
    let Some(state) = state_of(ctx, business, attempt).await? else { return Ok(Stream::Nothing) };
    let Some(media) = super::room::replica(ctx, closed).await? else {
        return no_room(ctx, state).await;
    };
    let carrier = state.carrier.map_or("session", Carrier::as_str);
    let media_url = format!("{}/media/{carrier}", media.trim_end_matches('/'));
    let ticket = Ticket {
        business,
        attempt,
        carrier: state.carrier,
        account: state.account.clone(),
        call_id: state.call_id.clone(),
        media_url: media_url.clone(),
        frames: None,
    };
    let opened = ctx.calls.open(&state, &ticket).await?;
    if opened.held.phase == Phase::Ended {
        // It may be that nobody has kept what was said: that is seen to before the call is forgotten.
        let hung_up = opened.held.ended.as_deref() == Some(HUNG_UP);
        settle(ctx, &opened.held).await?;
        return Ok(Stream::Over { hung_up });
    }
    if opened.held.memory.sessions >= MOST_STREAMS || opened.tickets > MOST_STREAMS {
        ctx.calls.forget(&state.call_id).await?;
        tracing::error!(attempt.id = %attempt, tickets = opened.tickets, "no media stream of this call lasts; it is ended");
        return Ok(Stream::Broken(trouble(&opened.held.definition)?));
    }
    Ok(Stream::To(format!("{media_url}/{}", opened.ticket).parse()?))
}

/// What an agent that cannot talk has said in its place.
fn trouble(definition: &Text) -> serde_json::Result<Option<Speech>> {
    let agents::Definition { trouble, language, .. } = definition.read()?;
    Ok(trouble.map(|text| Speech { text, language, voice: None }))
}

/// An answered call that no calls program has room for hears of the agent's trouble; somebody who rang is treated as one whom there
/// was no room for from the start, as far as the number says how.
async fn no_room(ctx: &Context, state: CallState) -> anyhow::Result<Stream> {
    let inbound = state.direction == "inbound";
    let mut instead = match inbound {
        true => instead(ctx, state.business, &state.to, &state.from).await?,
        false => Instead::default(),
    };
    if let Some(speech) = trouble(&state.definition)? {
        instead.speech = Some(speech);
    }
    super::overview::count_rejected(ctx, instead.how()).await;
    Ok(Stream::NoRoom(instead, if inbound { state.to } else { state.from }))
}

/// True where a machine answered this call, and now is the time to leave a message on it, as far as can be known.
pub async fn is_to_leave(ctx: &Context, state: &CallState) -> bool {
    if state.on_machine.as_deref() != Some(Then::LeaveMessage.as_str()) {
        return false;
    }
    match detection::of(&ctx.stores.pg, (state.business, state.attempt)).await {
        Ok(it) => it.is_some_and(|it| it.by.as_deref() == Some("machine") && it.greeting_over && !it.left),
        Err(error) => {
            tracing::warn!(attempt.id = %state.attempt, %error, "whether a machine answered is not known: it is talked to");
            false
        }
    }
}

/// Ends a call at its carrier: one request, and one that cannot be made is left to a worker, which repeats it. An end that
/// was there already counts.
pub async fn hang_up(ctx: &Context, state: &CallState) {
    if state.carrier.is_none() {
        return;
    }
    let asked = async {
        let account = ctx.account(state.business, &state.account).await?;
        let account = account.ok_or_else(|| anyhow::anyhow!("the business has this account no longer"))?;
        anyhow::Ok(ctx.carriers.hang_up(&account, &state.call_id, How::Complete).await?)
    };
    match asked.await {
        Ok(HangUp::Done | HangUp::AlreadyEnded | HangUp::NotFound) => {
            tracing::info!(attempt.id = %state.attempt, call.id = state.call_id, "the conversation is over: hung up");
        }
        Err(error) => {
            tracing::warn!(attempt.id = %state.attempt, error = format!("{error:#}"), "the hang-up was not taken; a worker asks again");
            if let Err(error) = attempts::store::want_ended(&ctx.stores.pg, state.attempt).await {
                tracing::error!(attempt.id = %state.attempt, %error, "nobody knows that this call is to be hung up");
            }
        }
    }
}

/// Puts the caller through to another number; the carrier's side goes on without us. False where that number may not be called any
/// more: nothing is asked of the carrier then.
///
/// # Errors
/// Where the carrier does not take it, or there is none; where Postgres does not answer.
pub async fn transfer(ctx: &Context, state: &CallState, to: &str) -> anyhow::Result<bool> {
    anyhow::ensure!(state.carrier.is_some(), "a session without a carrier cannot be put through");
    if let Some(why) = super::put_through::refused(ctx, state.business, to).await? {
        tracing::warn!(attempt.id = %state.attempt, why, "a caller is not put through: that number may not be called");
        return Ok(false);
    }
    let account = ctx.account(state.business, &state.account).await?;
    let account = account.ok_or_else(|| anyhow::anyhow!("the business has this account no longer"))?;
    let ours = if state.direction == "inbound" { &state.to } else { &state.from };
    let key = uuid::Uuid::new_v4().to_string();
    match ctx.carriers.transfer(&account, &state.call_id, to, ours, &key).await? {
        HangUp::Done => Ok(true),
        HangUp::AlreadyEnded | HangUp::NotFound => anyhow::bail!("the call is over"),
    }
}

/// Never calls this person again. False for somebody who rang and showed no number.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn suppress(ctx: &Context, state: &CallState) -> anyhow::Result<bool> {
    if state.carrier.is_none() {
        return Ok(true);
    }
    let number = if state.direction == "inbound" { &state.from } else { &state.to };
    if E164::try_from(number.clone()).is_err() {
        return Ok(false);
    }
    // For good, whatever somebody wrote before: this is the person's own word.
    let evidence = Some(Some(format!("said in call {}", state.attempt)));
    let source = Some("agent".to_owned());
    let terms = Terms { source, evidence, expires_at: Some(None), ..Terms::default() };
    let entry = Entry { number: number.clone(), terms };
    super::suppress::one(ctx, &ctx.stores.pg, List::Business(state.business), entry).await?;
    Ok(true)
}

/// Ends calls whose session has gone silent or never came. Returns how many there were.
///
/// # Errors
/// Where Redis does not answer; the next round sees the same calls.
pub async fn end_orphans(ctx: &Context) -> anyhow::Result<usize> {
    let calls = ctx.calls.orphans().await?;
    for call_id in &calls {
        let Some(mut state) = ctx.calls.read(call_id).await? else {
            ctx.calls.forget(call_id).await?;
            continue;
        };
        if state.phase == Phase::Ended {
            // Whoever ended it could not say so, or is gone. It may not have come to hanging up.
            settle(ctx, &state).await?;
            let ours = state.ended.as_deref().is_some_and(|reason| reason != TRANSFERRED);
            if ours && attempts::store::want_ended(&ctx.stores.pg, state.attempt).await? {
                tracing::warn!(attempt.id = %state.attempt, call.id = call_id, "a call whose conversation is over is hung up");
            }
            continue;
        }
        // A session without a carrier has no call to end.
        if attempts::store::want_ended(&ctx.stores.pg, state.attempt).await? {
            figures::session_failed("orphan");
            tracing::warn!(attempt.id = %state.attempt, call.id = call_id, "a call that no session has is hung up");
            state.phase = Phase::Ended;
            if state.memory.started_at_ms > 0 {
                conversation::keep(&ctx.stores.pg, &state, "lost").await?;
            }
        }
        ctx.calls.forget(call_id).await?;
    }
    Ok(calls.len())
}

/// Ends a call whose conversation broke down inside of us: what was saved of it is kept.
pub async fn give_up(ctx: &Context, attempt: AttemptId, call_id: &str) {
    let done = async {
        if let Some(state) = ctx.calls.read(call_id).await?.filter(|state| state.memory.started_at_ms > 0) {
            conversation::keep(&ctx.stores.pg, &state, "lost").await?;
        }
        attempts::store::want_ended(&ctx.stores.pg, attempt).await?;
        anyhow::Ok(ctx.calls.forget(call_id).await?)
    };
    if let Err(error) = done.await {
        tracing::error!(attempt.id = %attempt, error = format!("{error:#}"), "it is ended once its lease has run out");
    }
}

/// Keeps what was said in a call, for as long as it goes on or for good.
async fn keep(ctx: &Context, state: &CallState, reason: &str) -> anyhow::Result<()> {
    conversation::keep(&ctx.stores.pg, state, reason).await?;
    if state.memory.left {
        detection::note(&ctx.stores.pg, (state.business, state.attempt), Noted::Left).await?;
    }
    Ok(())
}

/// Sees to it that what was said in a call that is over is kept, and forgets the call.
async fn settle(ctx: &Context, state: &CallState) -> anyhow::Result<()> {
    if let Some(reason) = state.ended.as_deref().filter(|_| state.memory.started_at_ms > 0) {
        let kept = conversation::of(&ctx.stores.pg, state.business, state.attempt).await?;
        if kept.is_none_or(|kept| kept.end_reason != reason) {
            keep(ctx, state, reason).await?;
        }
    }
    Ok(ctx.calls.forget(&state.call_id).await?)
}

/// Keeps what was said, and ends the call where it is ours to end. A call that is over is forgotten once that is done: until then
/// it is looked for, and whoever finds it keeps what was said.
pub async fn ended(ctx: &Context, state: &CallState, reason: &str, hang_up_too: bool) {
    let heard = state.memory.gone > 0
        || state.memory.said.iter().any(|spoken| spoken.who == Who::Agent && !spoken.text.is_empty());
    if reason == TROUBLE && !heard {
        // Before the hang-up: the call's end is to say so.
        if let Err(error) = attempts::speech::nothing_was_heard(&ctx.stores.pg, state.attempt).await {
            tracing::error!(attempt.id = %state.attempt, %error, "a call counts as answered in which nobody spoke");
        }
    }
    let kept = async {
        keep(ctx, state, reason).await?;
        if state.phase == Phase::Ended {
            ctx.calls.forget(&state.call_id).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = kept.await {
        tracing::error!(attempt.id = %state.attempt, error = format!("{error:#}"), "what was said was not kept; it is tried again");
    }
    if hang_up_too {
        hang_up(ctx, state).await;
    }
}
