//! A single call: it is admitted only where a slot and a line can be its own now, and goes ahead of every list.
//!
//! The api holds the slot and writes the intent without an owner; a worker takes it over and sends it. Nobody within
//! `max_wait_secs`: it is closed as expired and never rings late.

use std::{sync::Arc, time::Duration};

use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    agents::{Agent, store},
    attempts::{self, Call, detection, ledger},
    businesses::{
        caller_ids,
        profile::{Profile, SealedAccount},
    },
    clock::Time,
    context::Context,
    dialing::{agents, create, import, machine, refusal::refusal, room, untaken, windows},
    error::{ApiError, FieldError, Slug},
    ids::{AgentId, AttemptId, BusinessId, Carrier, Held, RunId},
    leads::{Template, row::inexact_numbers},
    policy::{Span, zones},
    runs::{
        Machine, Message, RunRules,
        new::{LocalPresence, text_fits},
    },
    slots::{Ask, Taken, Talks},
};

/// Seconds that a caller may let it wait for a worker.
const MAX_WAIT_SECS: std::ops::RangeInclusive<i64> = 1..=300;
/// Most bytes of the variables, as JSON.
const VARIABLES_BYTES: usize = 16 * 1024;

/// A single call to be made.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCall {
    /// Whom to call.
    pub to: String,
    /// Number to call from; the account's first by default.
    pub from: Option<String>,
    /// Through which of the business's carriers; the first that takes calls now by default.
    pub carrier: Option<Carrier>,
    /// Who talks to whoever answers, in place of a message.
    pub agent_id: Option<AgentId>,
    /// What is said.
    pub message: Option<Message>,
    /// What the message's `{{names}}` stand for.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub variables: Map<String, Value>,
    /// Your own name for it, at most 255 characters.
    pub external_id: Option<String>,
    /// What the call does when a machine answers it.
    pub machine: Option<Machine>,
    /// Record the call from the answer on (false).
    pub record: Option<bool>,
    /// 1 to 300 (30): not dialed within it, it is over and never rings.
    pub max_wait_secs: Option<i64>,
    /// Where whoever is called is, such as `America/New_York`; where it is left out, wherever the number may be.
    pub time_zone: Option<String>,
    /// As a run would make it, tried on a phone of one's own.
    #[serde(skip)]
    #[schema(ignore)]
    pub trial: Option<Trial>,
}

/// What only a run says of its calls.
#[derive(Debug, Clone)]
pub struct Trial {
    run: RunId,
    carriers: Vec<Carrier>,
    caller_ids: Vec<String>,
    local_presence: LocalPresence,
    default_region: String,
    ring_timeout_secs: i32,
    call_time_limit_secs: i32,
}

impl NewCall {
    /// A call to `to` as a run with these rules would make it, as a trial.
    #[must_use]
    pub fn of_run(run: RunId, rules: RunRules, to: String, variables: Map<String, Value>) -> Self {
        Self {
            to,
            from: None,
            carrier: None,
            agent_id: rules.agent_id,
            message: rules.message,
            variables,
            external_id: None,
            machine: Some(rules.machine),
            record: Some(rules.record),
            max_wait_secs: None,
            time_zone: None,
            trial: Some(Trial {
                run,
                carriers: rules.carriers,
                caller_ids: rules.caller_ids,
                local_presence: rules.local_presence,
                default_region: rules.default_region,
                ring_timeout_secs: rules.ring_timeout_secs,
                call_time_limit_secs: rules.call_time_limit_secs,
            }),
        }
    }
}

/// Admits a call, or says why there is no room for it now. The request must be bound to `business` (`stores::tenant`): bound to
/// none, it finds no business.
///
/// # Errors
/// 422 with every field that does not fit; 409 `conflict` where the number may not ring now; 503 `at-capacity` with `Retry-After`
/// where no slot, line or token is free.
pub async fn place(ctx: &Context, business: BusinessId, id: AttemptId, new: NewCall) -> Result<Call, ApiError> {
    if let Some(call) = made_before(ctx, business, id).await? {
        return Ok(call);
    }
    let home = create::home(&ctx.stores.tenant, business).await?;
    let agent = agents::of_call(ctx, business, new.agent_id, new.trial.as_ref().map(|trial| trial.run)).await?;
    let (profile, account) = account(ctx, business, &home, &new).await?;
    let Fits { to, zones, message } = checked(&home, &new, account.carrier, agent.as_ref())?;
    may_come_from(ctx, business, &new).await?;
    let window_version = may_ring(ctx, business, &new, &zones).await?;
    untaken::of_business(ctx, business).await?;
    let talks = match &agent {
        Some(agent) => Some(room::conversations(ctx, business, &[agent.definition.pipeline]).await?),
        None => None,
    };
    let held = take(ctx, business, (&profile, talks), &account, id).await?;
    // Before the attempt: a worker may have it answered before this line was reached.
    if let Some(agent) = &agent {
        store::pin_attempt(&ctx.stores.pg, id, (agent.id, agent.version)).await?;
    }
    let rule = new.machine.as_ref().filter(|rule| rule.listens());
    if let Some(rule) = rule {
        detection::begin(&ctx.stores.pg, (business, id), &json!(rule)).await?;
    }
    // The whole ledger has to agree that there is room, not only the part of it that the business sees.
    let outcome = ledger::admit(
        &ctx.stores.pg,
        business,
        &admission(ctx, &new, Fits { to, zones, message }, (account.carrier, held), window_version),
    )
    .await;
    match outcome.as_deref() {
        Ok("admitted") => {
            ctx.ring(business).await;
            made_before(ctx, business, id).await?.ok_or_else(|| ApiError::not_found("call"))
        }
        refused => {
            let refused = refused.unwrap_or_default().to_owned();
            match ctx.gate.give_back(business, &account.reference, &[id]).await {
                Ok(freed) => ctx.ring_turns(&freed.turns).await,
                Err(error) => tracing::warn!(%error, "the slot was not given back; the sweep evicts its holder"),
            }
            if agent.is_some() {
                store::unpin_attempt(&ctx.stores.pg, id).await?;
            }
            if rule.is_some() {
                detection::forget(&ctx.stores.pg, id).await?;
            }
            outcome?;
            Err(refusal(ctx, &refused).await)
        }
    }
}

async fn made_before(ctx: &Context, business: BusinessId, id: AttemptId) -> Result<Option<Call>, ApiError> {
    Ok(attempts::store::calls(&ctx.stores.tenant, business, (id.0, id.0), 1).await?.pop())
}

/// Of a call that fits: whom, where that may be, and what is said.
struct Fits {
    to: String,
    zones: Vec<Tz>,
    message: Option<Value>,
}

/// Whether the business calls anybody from the number that is named.
async fn may_come_from(ctx: &Context, business: BusinessId, new: &NewCall) -> Result<(), ApiError> {
    match &new.from {
        Some(from) if caller_ids::is_off(&ctx.stores.tenant, business, from).await? => {
            let detail = "This number is switched off (PATCH /v1/caller-ids). Switch it on, or call from another.";
            Err(ApiError::validation(vec![FieldError::new("/from", "disabled_caller_id", detail)]))
        }
        _ => Ok(()),
    }
}

/// Whether whoever is called may be rung from now on, for as long as the call may wait, stand in the carrier's queue and ring: the
/// version of the window by which that is so.
async fn may_ring(ctx: &Context, business: BusinessId, new: &NewCall, zones: &[Tz]) -> Result<i64, ApiError> {
    let secs = ctx.settings.carrier_queue_limit_secs + u64::from(ring_timeout_secs(ctx, new).unsigned_abs());
    let rings = Duration::from_secs(secs + u64::from(max_wait_secs(new).unsigned_abs()));
    let hours = windows::of_number(&ctx.stores.pg, business, zones, rings).await?;
    let opens = match hours.span {
        Span::Always => return Ok(hours.version),
        Span::Within(opens, _) if opens <= hours.now => return Ok(hours.version),
        Span::Within(opens, _) => Some(opens),
        Span::Never => None,
    };
    let detail = match opens {
        Some(_) => "The business does not call this number now: its calling window is closed there.",
        None => {
            "The business calls this number at no time: its calling window never opens in every zone that it may be in."
        }
    };
    Err(ApiError::new(Slug::Conflict, detail).with("code", "window").with("next_at", json!(opens.map(Time))))
}

fn ring_timeout_secs(ctx: &Context, new: &NewCall) -> i32 {
    new.trial.as_ref().map_or(ctx.settings.ring_timeout_secs, |trial| trial.ring_timeout_secs)
}

fn max_wait_secs(new: &NewCall) -> i32 {
    new.max_wait_secs.and_then(|secs| i32::try_from(secs).ok()).unwrap_or(30)
}

/// What there is of a call that fits.
fn checked(home: &create::Home, new: &NewCall, carrier: Carrier, agent: Option<&Agent>) -> Result<Fits, ApiError> {
    let mut wrong = Vec::new();
    let region = new.trial.as_ref().map_or(&home.default_region, |trial| &trial.default_region);
    let numbers = import::number_rules(region, home.allowed_countries.as_deref())?;
    let to = numbers.read(&new.to).map_err(|error| wrong.push(FieldError::new("/to", error.code(), error.to_string())));
    if new.from.as_ref().is_some_and(|from| !home.callers(&[carrier]).contains(from)) {
        wrong.push(FieldError::new("/from", "unknown_caller_id", "Use one of the caller_ids of the carrier account."));
    }
    if let Some(external_id) = &new.external_id {
        text_fits("/external_id", external_id, 255, &mut wrong);
    }
    if new.max_wait_secs.is_some_and(|secs| !MAX_WAIT_SECS.contains(&secs)) {
        wrong.push(FieldError::new("/max_wait_secs", "out_of_range", "Write a whole number from 1 to 300."));
    }
    check_machine(new, agent, &mut wrong);
    let message = match agent {
        Some(agent) => talks(new, agent, &mut wrong).map(|()| None),
        None => message(new, &mut wrong).map(Some),
    };
    let zone = new.time_zone.as_ref().map(|name| name.parse::<Tz>());
    if let Some(Err(_)) = zone {
        let detail = "Write a name of the IANA time zone database such as Europe/Berlin.";
        wrong.push(FieldError::new("/time_zone", "unknown_time_zone", detail));
    }
    match (to, message) {
        (Ok(to), Some(message)) if wrong.is_empty() => {
            let known = zone.and_then(Result::ok).map(|zone| vec![zone]);
            let zones = known.unwrap_or_else(|| zones::of_number(to.e164.as_str(), to.at_a_place).to_vec());
            Ok(Fits { to: to.e164.as_str().to_owned(), zones, message })
        }
        _ => Err(ApiError::validation(wrong)),
    }
}

/// The rule for machines can be carried out.
fn check_machine(new: &NewCall, agent: Option<&Agent>, wrong: &mut Vec<FieldError>) {
    let Some(rule) = &new.machine else { return };
    rule.check(wrong);
    wrong.extend(machine::faults(rule, agent.map(|agent| &agent.definition)));
    for name in machine::needed(rule).unwrap_or_default() {
        if !new.variables.contains_key(&name) {
            let detail = format!("The variable {name} is missing.");
            wrong.push(FieldError::new("/machine/message/text", "missing_variable", detail));
        }
    }
}

/// The variables that the agent's texts need are there.
fn talks(new: &NewCall, agent: &Agent, wrong: &mut Vec<FieldError>) -> Option<()> {
    check_variables(&new.variables, wrong);
    if new.message.is_some() {
        wrong.push(FieldError::new("/message", "conflict", "Name an agent or a message, not both."));
    }
    if let Err(error) = agents::said(&agent.definition, &new.variables) {
        wrong.push(agents::unsaid(&error));
    }
    Some(())
}

/// What is wrong with the variables of a call themselves, whatever needs them.
pub(super) fn check_variables(variables: &Map<String, Value>, wrong: &mut Vec<FieldError>) {
    if variables.values().any(|value| value.is_object() || value.is_array()) {
        wrong.push(FieldError::new("/variables", "wrong_type", "A variable is a text, a number, true, false or null."));
    }
    wrong.extend(inexact_numbers("/variables", variables));
    if serde_json::to_vec(variables).is_ok_and(|bytes| bytes.len() > VARIABLES_BYTES) {
        wrong.push(FieldError::new(
            "/variables",
            "variables_too_large",
            "All variables together must stay below 16 KiB.",
        ));
    }
}

fn message(new: &NewCall, wrong: &mut Vec<FieldError>) -> Option<Value> {
    check_variables(&new.variables, wrong);
    let Some(message) = &new.message else {
        wrong.push(FieldError::new("/message", "missing", "Say what the call shall say."));
        return None;
    };
    message.check(wrong);
    let template = Template::parse(&message.text)
        .map_err(|error| wrong.push(FieldError::new("/message/text", "invalid_template", error.to_string())))
        .ok()?;
    if let Err(error) = template.render(&new.variables) {
        wrong.push(FieldError::new("/message/text", error.code(), error.to_string()));
    }
    // Stored as it came and rendered when somebody answers, like a run's: a variable's own braces are no template.
    Some(json!(message))
}

fn admission(
    ctx: &Context,
    new: &NewCall,
    Fits { to, zones, message }: Fits,
    (carrier, held): (Carrier, Held),
    window_version: i64,
) -> ledger::Admission {
    let (trial, settings) = (new.trial.as_ref(), &ctx.settings);
    ledger::Admission {
        held,
        carrier,
        callers: trial.map_or_else(|| new.from.iter().cloned().collect(), |trial| trial.caller_ids.clone()),
        local_presence: trial.map(|trial| trial.local_presence.as_str()),
        to,
        external_id: new.external_id.clone(),
        variables: Value::Object(new.variables.clone()),
        message,
        ring_timeout_secs: ring_timeout_secs(ctx, new),
        call_time_limit_secs: trial.map_or(settings.call_time_limit_secs, |trial| trial.call_time_limit_secs),
        record: new.record == Some(true),
        max_wait_secs: max_wait_secs(new),
        zones: zones.iter().map(|zone| zone.name().to_owned()).collect(),
        window_version,
    }
}

/// The business, and the account that the call goes through: at the carrier that is named, or else one that has the number to
/// call from; the first of them that takes calls now.
async fn account(
    ctx: &Context,
    business: BusinessId,
    home: &create::Home,
    new: &NewCall,
) -> Result<(Arc<Profile>, SealedAccount), ApiError> {
    let profile = ctx.profile(business).await?.ok_or_else(|| ApiError::not_found("business"))?;
    let order = new.trial.as_ref().map(|trial| trial.carriers.as_slice());
    let mut may: Vec<&SealedAccount> = profile.accounts.iter().filter(|account| account.dialed).collect();
    if let Some(order) = order {
        may.retain(|account| order.contains(&account.carrier));
        may.sort_by_key(|account| order.iter().position(|carrier| *carrier == account.carrier));
    }
    if let Some(carrier) = new.carrier {
        may.retain(|account| account.carrier == carrier);
    } else if let Some(from) = &new.from {
        // Where none has it, the first one says so.
        let owns = |account: &&SealedAccount| home.callers(&[account.carrier]).contains(from);
        if may.iter().any(owns) {
            may.retain(owns);
        }
    }
    // One that is refused is tried only where there is no other; where all are left alone, the ledger says so.
    let free = || may.iter().filter(|account| !account.held);
    match free().find(|account| !account.refused).or_else(|| free().next()).or(may.first()) {
        Some(account) => Ok((Arc::clone(&profile), (*account).clone())),
        None => Err(refusal(ctx, "account").await),
    }
}

/// A slot and a line for the call.
async fn take(
    ctx: &Context,
    business: BusinessId,
    (profile, talks): (&Profile, Option<Talks>),
    account: &SealedAccount,
    id: AttemptId,
) -> Result<Held, ApiError> {
    let ask = Ask {
        business,
        slot_limit: profile.slots,
        lines: profile.lines,
        talks,
        account: &account.reference,
        calls_per_second: account.calls_per_second,
        most: 1,
    };
    match room::ahead(ctx, &ask, id).await? {
        Taken::NotReady => {
            Err(ApiError::new(Slug::Unavailable, "The gate is being rebuilt. Try again.").retry_after(1))
        }
        Taken::Some { held, .. } => match held.first() {
            Some(held) => Ok(*held),
            None => Err(refusal(ctx, "full").await),
        },
    }
}
