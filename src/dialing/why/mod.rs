//! Why a run is not dialing, or not faster: each reason with how many jobs it holds back, and until when.
//!
//! Invariant: nothing is said to be in the way that the claim would not mind, and `dialing` is false where anything keeps the next call
//! from being placed.
//! Not here: what a run would do in the time to come (`dialing::preview`).

mod facts;

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::PgPool;

use self::facts::{ASLEEP_COUNTED, AccountFacts, Facts};

use crate::{
    businesses::{profile, store::Health},
    clock::Time,
    config::{Settings, VoiceSettings},
    dialing::{room, windows},
    error::ApiError,
    heartbeats::{self, Room},
    ids::{BusinessId, RunId},
    runs::{RunState, progress::Held},
    slots::Gate,
    stores::Stores,
};

/// Why a run is not dialing, or not faster.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Why {
    /// The run.
    pub run_id: RunId,
    /// The moment of the answer.
    pub at: Time,
    /// True where nothing keeps the next call from being placed.
    pub dialing: bool,
    /// Slots of the business.
    pub slots: Held,
    /// Lines of the installation.
    pub lines: Held,
    /// When the next call may be placed: now where nothing is in the way, null where nobody can say, or the run ends before.
    pub next_possible_at: Option<Time>,
    /// What is in the way.
    pub blockers: Vec<Blocker>,
}

/// One thing that is in the way.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Blocker {
    /// A word that programs may decide by.
    pub code: &'static str,
    /// Jobs, or for `unknown_attempts` attempts, that it concerns.
    pub count: i64,
    /// When it ends, where that is known: for jobs that wait, when the first of them may be dialed.
    pub next_at: Option<Time>,
    /// A sentence for people.
    pub detail: String,
}

/// Reads every reason in one snapshot of `pg`, and asks Redis at the same time whether a worker is alive.
///
/// # Errors
/// 404; 503 while Postgres is away.
pub async fn of_run(
    (stores, gate, settings): (&Stores, &Gate, &Settings),
    pg: &PgPool,
    business: BusinessId,
    run: RunId,
) -> Result<Why, ApiError> {
    let asked = (heartbeats::any_worker(stores), heartbeats::processes(stores));
    let (facts, worker, processes) =
        tokio::join!(facts::read(pg, business, run, settings.times.intent_grace_ms), asked.0, asked.1);
    let mut facts = facts?.ok_or_else(|| ApiError::not_found("run"))?;
    let openings = windows::all_to_dial(pg, run, windows::until_rung(settings)).await?;
    // The present time to call is as good as over: what is left of it is too short to ring in.
    if facts.all_asleep && facts.wakes_at.is_none() {
        facts.wakes_at = openings.values().filter_map(|openings| openings.first(facts.at.0)).min().map(Time);
    }
    let room = processes.ok().filter(|_| facts.talks).map(|seen| Room::of(&seen));
    let held = facts.held(&openings);
    let mut reasons = reasons(&facts, &held, worker.ok(), room);
    reasons.extend(voices(stores, gate, &settings.voice, (business, &facts)).await?);
    let paced = pace(gate, &facts).await;
    let next_token = paced.as_ref().and_then(|paced| paced.blocker.next_at);
    reasons.extend(paced);
    let stopped = reasons.iter().any(|reason| reason.stops != Stops::Not);
    let dialing = facts.state == RunState::Running && facts.queued > 0 && !stopped;
    let first = held.values().filter_map(|(_, next_at)| *next_at).min();
    let next_possible_at = match (stopped, facts.queued) {
        (_, 0) => first.and_then(|first| until(&reasons, first)),
        (true, _) => until(&reasons, facts.at),
        (false, _) => dialing.then_some(next_token.unwrap_or(facts.at)),
    };
    // What ends by then may end while the window is closed.
    let next_possible_at = match next_possible_at.filter(|next| *next > facts.at) {
        Some(next) => openings.values().filter_map(|openings| openings.first(next.0)).min().map(Time),
        None => next_possible_at,
    };
    let next_possible_at = next_possible_at.filter(|next| facts.end_at.is_none_or(|end| *next < end));
    Ok(Why {
        run_id: run,
        at: facts.at,
        dialing,
        slots: Held { held: facts.slots_held, limit: facts.slot_limit },
        lines: Held { held: facts.lines_held, limit: facts.line_limit },
        next_possible_at,
        blockers: reasons.into_iter().map(|reason| reason.blocker).collect(),
    })
}

/// A blocker, and what it means for the next call.
struct Reason {
    stops: Stops,
    blocker: Blocker,
}

/// Whether a reason keeps the next call from being placed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stops {
    /// It only slows the run down, or concerns single numbers.
    Not,
    /// As long as it is there.
    All,
    /// Until the first account that the run may dial through takes calls again.
    Accounts,
}

/// When everything that stops the run has ended, from `earliest` on; none where nobody can say that of one of them.
fn until(reasons: &[Reason], earliest: Time) -> Option<Time> {
    let ends = |stops| reasons.iter().filter(move |reason| reason.stops == stops).map(|reason| reason.blocker.next_at);
    let all = ends(Stops::All).try_fold(earliest, |latest, end| Some(latest.max(end?)))?;
    match ends(Stops::Accounts).count() {
        0 => Some(all),
        _ => ends(Stops::Accounts).flatten().min().map(|first| first.max(all)),
    }
}

/// The account that is dialed through, where it has had as many calls as it may in this second and the run has more to dial.
async fn pace(gate: &Gate, facts: &Facts) -> Option<Reason> {
    let dials = facts.state == RunState::Running && facts.queued > 0;
    let account = facts.accounts.iter().find(|account| dials && account.takes_calls())?;
    let wait = gate.next_token(&account.reference, account.calls_per_second).await.unwrap_or_default();
    let next_at = (!wait.is_zero()).then_some(Time(facts.at.0 + wait))?;
    let detail = format!("{} takes {} calls per second of this account.", account.carrier, account.calls_per_second);
    let blocker = Blocker { code: "pace", count: facts.queued, next_at: Some(next_at), detail };
    Some(Reason { stops: Stops::Not, blocker })
}

/// The account at a voice provider that is in as many conversations as it allows, where an agent talks. What is taken for the business
/// may be for any of its runs, so that there is room at each account that one of them uses, or none of them is dialed.
async fn voices(
    stores: &Stores,
    gate: &Gate,
    voice: &VoiceSettings,
    (business, facts): (BusinessId, &Facts),
) -> sqlx::Result<Option<Reason>> {
    if !facts.talks {
        return Ok(None);
    }
    // As the programs themselves read it: a tenant does not see its accounts.
    let Some(profile) = profile::read(&stores.pg, business).await? else { return Ok(None) };
    let accounts = room::accounts(voice, (business, &profile), &room::pipelines(&profile));
    // Where Redis cannot be asked, that is said by itself.
    let used_up = room::used_up(gate, accounts).await.ok().flatten();
    Ok(used_up.map(|(account, most)| {
        let (provider, whose) = match account.split_once(':') {
            Some((provider, _)) => (provider, "the business's own"),
            None => (account.as_str(), "the installation's"),
        };
        let detail = format!("All {most} conversations that {whose} account at {provider} allows at once are taken.");
        let blocker = Blocker { code: "no_session_capacity", count: facts.queued, next_at: None, detail };
        Reason { stops: Stops::All, blocker }
    }))
}

/// `worker` says whether one is alive; none where Redis cannot be asked. `room` is that of the calls programs, where an agent talks.
fn reasons(
    facts: &Facts,
    held: &BTreeMap<Option<&str>, (i64, Option<Time>)>,
    worker: Option<bool>,
    room: Option<Room>,
) -> Vec<Reason> {
    let queued = facts.queued;
    let mut found = Vec::new();
    let mut add = |applies: bool, stops, code, count, next_at, detail: String| {
        if applies {
            found.push(Reason { stops, blocker: Blocker { code, count, next_at, detail } });
        }
    };
    let (state, start_at) = (facts.state.as_str(), facts.start_at.filter(|_| facts.state == RunState::Scheduled));
    let idle = facts.state != RunState::Running;
    add(idle, Stops::All, "run_not_running", queued, start_at, format!("The run is {state}."));
    if let Some(reason @ ("breaker" | "budget" | "abandon_guard")) = facts.pause_reason.as_deref() {
        // The guard is a breaker, too: it goes by what became of the last calls.
        let code = if reason == "budget" { "budget" } else { "breaker" };
        let detail = match facts.budget_spent {
            true if code == "budget" => {
                "The run's budget is used up. Raise it with PATCH /v1/runs/{id}, then resume the run: \
                 POST /v1/runs/{id}/resume."
                    .to_owned()
            }
            _ => format!("The {reason} paused the run. Resume it: POST /v1/runs/{{id}}/resume."),
        };
        add(true, Stops::All, code, queued, None, detail);
    }
    let detail = "The business is suspended.";
    add(!facts.business_active, Stops::All, "run_not_running", queued, None, detail.into());
    let detail = "A list is being imported; its rows are dialed when it is in.";
    add(facts.importing, Stops::Not, "importing", queued, None, detail.into());
    let detail = format!("All {} calls that the business may have at once are taken.", facts.slot_limit);
    let full = facts.slots_held >= i64::from(facts.slot_limit);
    add(full, Stops::All, "no_slot", queued, None, detail);
    if let Some(most) = facts.most_at_once.filter(|most| !full && facts.at_once >= i64::from(*most)) {
        let detail = format!("All {most} calls that the run may have at once are taken.");
        add(true, Stops::All, "no_slot", queued, None, detail);
    }
    let detail = format!("All {} calls that the installation may have at once are taken.", facts.line_limit);
    add(facts.lines_held >= i64::from(facts.line_limit), Stops::All, "no_line", queued, None, detail);
    if let Some(Room { ready, sessions, most }) = room {
        let detail = match ready {
            0 => "No calls program takes conversations. Start rollcall-calls.".into(),
            _ => format!("All {most} conversations that the calls programs have room for are taken."),
        };
        add(sessions >= most, Stops::All, "no_session_capacity", queued, None, detail);
    }
    let detail = "The business has no account at any carrier of the run: PUT /v1/businesses/{id}/carriers/….";
    add(facts.accounts.is_empty(), Stops::All, "no_caller_id", queued, None, detail.into());
    let (none_left, next_at, detail) = match (facts.callers, facts.callers_with_day, facts.callers_free) {
        (0, ..) => (true, None, "Every number to call from is switched off."),
        (_, 0, _) => (true, facts.callers_next_day, "Every number to call from was taken as often as it may be today."),
        (_, _, 0) => (true, None, "Every number to call from has as many calls as it may have at once."),
        _ => (false, None, ""),
    };
    add(none_left && !facts.accounts.is_empty(), Stops::All, "no_caller_id", queued, next_at, detail.into());
    let another = facts.accounts.iter().any(AccountFacts::takes_calls);
    let of_account = if another { Stops::Not } else { Stops::Accounts };
    for account in facts.accounts.iter() {
        let (carrier, held_until) = (account.carrier, account.held_until.map(Time));
        let why = account.detail.as_deref().unwrap_or("it does not say why");
        let (code, applies, detail) = match account.health {
            Health::Refused => (
                "account_refused",
                true,
                format!(
                    "{carrier} refuses the account ({why}). Correct its credentials; one call a minute tries again."
                ),
            ),
            Health::Down => {
                let detail = format!("{carrier} cannot be reached ({why}). It is tried again by itself.");
                ("carrier_down", held_until.is_some(), detail)
            }
            Health::Ok | Health::Unchecked => {
                let detail = format!("{carrier} asked for fewer calls; dialing goes on by itself.");
                ("carrier_backoff", held_until.is_some(), detail)
            }
        };
        add(applies, of_account, code, queued, held_until, detail);
        // It may still take calls: their slots are what does not come free.
        if let Some(since) = account.unreadable_since.map(Time) {
            let (of_it, detail) = if account.unreadable_refused {
                let detail = format!(
                    "{carrier} refuses to be asked about calls with these credentials since {since}. Correct them; what is in doubt holds \
                     its slot until then."
                );
                ("account_refused", detail)
            } else {
                let detail = format!(
                    "{carrier} cannot be asked about calls since {since}; what is in doubt holds its slot until it can."
                );
                ("carrier_down", detail)
            };
            add(!(applies && code == of_it), Stops::Not, of_it, queued, None, detail);
        }
    }
    let at_least = if facts.asleep >= ASLEEP_COUNTED { "at least " } else { "" };
    let detail = match &facts.lacks_calendar {
        Some(name) => format!(
            "The window names the calendar {name}, which the business does not have, and is closed for {at_least}{} numbers. \
             PUT /v1/calendars/{{name}}, or change the window.",
            facts.asleep
        ),
        None => {
            format!("It is outside the calling window for {at_least}{} numbers that are queued.", facts.asleep)
        }
    };
    let of_window = if facts.all_asleep { Stops::All } else { Stops::Not };
    add(facts.asleep > 0, of_window, "window", facts.asleep, facts.wakes_at, detail);
    let looked_at: i64 = held.values().map(|(count, _)| count).sum();
    for (rule, (count, next_at)) in held {
        let (code, detail) = match rule {
            Some("attempt_cap") => ("attempt_cap", "numbers were dialed as often as the business allows for now."),
            Some("not_before") => ("window", "numbers have a not_before that has not come."),
            Some("in_call") => ("retry_wait", "numbers are in another call of the business."),
            _ => ("retry_wait", "numbers wait for their next attempt."),
        };
        let count = count * facts.waits.max(looked_at) / looked_at.max(1);
        add(true, Stops::Not, code, count, *next_at, format!("{count} {detail}"));
    }
    let detail = format!(
        "{} attempts are in doubt and hold their slots until the carrier has said what happened; {} of them need a person \
         (rollcall-ops reconcile).",
        facts.in_doubt, facts.needs_person
    );
    add(facts.in_doubt > 0, Stops::Not, "unknown_attempts", facts.in_doubt, None, detail);
    let detail = format!("{} numbers are on the suppression list and will be skipped.", facts.suppressed);
    add(facts.suppressed > 0, Stops::Not, "suppressed", facts.suppressed, None, detail);
    let detail = "No worker is alive. Start rollcall-worker.";
    add(worker == Some(false), Stops::All, "no_worker", queued, None, detail.into());
    let detail = "Redis cannot be reached; dialing pauses until it can.";
    add(worker.is_none(), Stops::All, "store_down", queued, None, detail.into());
    found
}
