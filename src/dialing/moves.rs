//! Start, pause, resume, delete: one transaction each, behind the lock of the business, as every claim is.

use std::time::Duration;

use serde::Serialize;
use sqlx::{PgPool, PgTransaction};

use super::{
    agents::{needed, unknown_agent},
    change::calendar_names,
    import::{importing, settle},
    machine, windows,
};
use crate::{
    agents,
    attempts::{self, InFlight},
    config::Settings,
    error::{ApiError, FieldError, Slug},
    ids::{BusinessId, RunId},
    jobs,
    leads::Template,
    runs::{
        self, Action, Run,
        locked::{Locked, lock},
        store::{Archived, keep_imports_out},
    },
};

/// Lines that a refused start names per variable.
const LINES_SHOWN: i64 = 20;

/// The run after a pause or a cancel, and what was in flight then.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Stopped {
    /// The run.
    pub run: Run,
    /// Attempts in flight, the least advanced first, at most ten thousand. Nothing else of this run is sent any more.
    pub in_flight: Vec<InFlight>,
    /// How many there are.
    pub in_flight_total: i64,
}

/// Begins to dial, or waits for its start time. The caller rings for the business.
///
/// # Errors
/// 404; 409 `run-state`; 422 where the list, the message or the carrier account is not ready, with what to do.
pub async fn start(
    pg: &PgPool,
    settings: &Settings,
    (business, run): (BusinessId, RunId),
    by: &str,
) -> Result<Run, ApiError> {
    let mut tx = pg.begin().await?;
    let queue_limit = Duration::from_secs(settings.carrier_queue_limit_secs);
    let begun = begin(&mut tx, queue_limit, (business, run), by).await;
    let run = settle(tx, begun).await?;
    tracing::info!(business.id = %business, run.id = %run.id, jobs = run.progress.total, state = run.state.as_str(), by, "a run was started");
    Ok(run)
}

async fn begin(
    tx: &mut PgTransaction<'_>,
    queue_limit: Duration,
    (business, run): (BusinessId, RunId),
    by: &str,
) -> Result<Run, ApiError> {
    let mut locked = lock(tx, business, run).await?;
    locked.check(Action::Start)?;
    if !keep_imports_out(tx, run).await? {
        return Err(importing(locked.state));
    }
    if !jobs::store::any_queued(&mut **tx, run).await? {
        let detail = "The run has no number to call. Add leads first: POST /v1/runs/{id}/leads.";
        return Err(ApiError::validation(vec![FieldError::new("/leads", "no_leads", detail)]));
    }
    ready(tx, &locked).await?;
    locked.start(tx, by).await?;
    windows::of_run(tx, run, queue_limit).await?;
    check_hours(tx, run).await?;
    shown(tx, &locked).await
}

/// Dials nothing new; what is in flight goes on and is listed.
///
/// # Errors
/// 404; 409 `run-state`.
pub async fn pause(pg: &PgPool, business: BusinessId, run: RunId, by: &str) -> Result<Stopped, ApiError> {
    let mut tx = pg.begin().await?;
    let mut locked = lock(&mut tx, business, run).await?;
    locked.act(&mut tx, Action::Pause, by).await?;
    let (in_flight, in_flight_total) = attempts::store::in_flight(&mut *tx, business, run).await?;
    let run = shown(&mut tx, &locked).await?;
    tx.commit().await?;
    tracing::info!(business.id = %business, run.id = %run.id, in_flight = in_flight_total, by, "a run was paused");
    Ok(Stopped { run, in_flight, in_flight_total })
}

/// Dials again. The caller rings for the business.
///
/// # Errors
/// 404; 409 `run-state`.
pub async fn resume(pg: &PgPool, business: BusinessId, run: RunId, by: &str) -> Result<Run, ApiError> {
    let mut tx = pg.begin().await?;
    let mut locked = lock(&mut tx, business, run).await?;
    locked.act(&mut tx, Action::Resume, by).await?;
    let run = shown(&mut tx, &locked).await?;
    tx.commit().await?;
    tracing::info!(business.id = %business, run.id = %run.id, by, "a run was resumed");
    Ok(run)
}

/// Removes a draft with its jobs, imports and tally.
///
/// # Errors
/// 404; 409 `run-state`.
pub async fn delete(pg: &PgPool, business: BusinessId, run: RunId) -> Result<(), ApiError> {
    let mut tx = pg.begin().await?;
    let removed = remove(&mut tx, business, run).await;
    settle(tx, removed).await?;
    tracing::info!(business.id = %business, run.id = %run, "a draft was deleted");
    Ok(())
}

async fn remove(tx: &mut PgTransaction<'_>, business: BusinessId, run: RunId) -> Result<(), ApiError> {
    let locked = lock(tx, business, run).await?;
    locked.check(Action::Delete)?;
    if !keep_imports_out(tx, run).await? {
        return Err(importing(locked.state));
    }
    jobs::store::delete(tx, run).await?;
    Ok(locked.delete(tx).await?)
}

/// Puts a run away that is over, or a draft.
///
/// # Errors
/// 404; 409 `run-state`, also while a list goes in, which would be lost.
pub async fn archive(pg: &PgPool, business: BusinessId, run: RunId) -> Result<Run, ApiError> {
    let mut tx = pg.begin().await?;
    let away = put_away(&mut tx, business, run).await;
    settle(tx, away).await
}

async fn put_away(tx: &mut PgTransaction<'_>, business: BusinessId, run: RunId) -> Result<Run, ApiError> {
    let free = keep_imports_out(tx, run).await?;
    let done = runs::store::archive(&mut **tx, business, run).await?.ok_or_else(|| ApiError::not_found("run"))?;
    match done {
        Archived::Yes(state) if !free => Err(importing(state)),
        Archived::Yes(_) => {
            let run = runs::store::one(&mut **tx, business, run).await?;
            run.ok_or_else(|| ApiError::not_found("run"))
        }
        Archived::Already(state) => Err(Run::refuse_archived(state)),
        Archived::No(state) => {
            let detail = format!("The run is {}; only a draft or a run that is over is archived.", state.as_str());
            Err(Run::refusal(state, state.allowed(), detail))
        }
    }
}

/// The run as this transaction leaves it.
async fn shown(tx: &mut PgTransaction<'_>, locked: &Locked) -> Result<Run, ApiError> {
    let run = runs::store::one(&mut **tx, locked.business, locked.run).await?;
    run.ok_or_else(|| ApiError::not_found("run"))
}

/// What a run must have to begin: an account to call through, the days without calls, and everything that its calls say.
///
/// # Errors
/// 422 with what is missing.
pub(super) async fn ready(tx: &mut PgTransaction<'_>, locked: &Locked) -> Result<(), ApiError> {
    check_account(tx, locked).await?;
    check_calendars(tx, locked).await?;
    check_texts(tx, locked).await
}

/// The calendars that the run's window names must be there: one that is gone closes the window.
async fn check_calendars(tx: &mut PgTransaction<'_>, locked: &Locked) -> Result<(), ApiError> {
    let Some(window) = &locked.window else { return Ok(()) };
    let mut wrong = Vec::new();
    window.check_calendars("/window", &calendar_names(tx, locked.business).await?, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(ApiError::validation(wrong)) }
}

/// Some number of the run must have a time at which it may ring, or it would run for ever.
///
/// # Errors
/// 422 where none has.
pub(super) async fn check_hours(tx: &mut PgTransaction<'_>, run: RunId) -> Result<(), ApiError> {
    if !runs::zones::never_open(&mut **tx, run).await? {
        return Ok(());
    }
    let detail = "No time to call suits any number of the run: within a year its window, the window of the business and their calendars \
                  leave none. Change one of them first: PATCH /v1/runs/{id} or PATCH /v1/calling-rules.";
    Err(ApiError::validation(vec![FieldError::new("/window", "invalid_window", detail)]))
}

/// At least one carrier account must be there, and together they must own the numbers that the run calls from.
async fn check_account(tx: &mut PgTransaction<'_>, locked: &Locked) -> Result<(), ApiError> {
    let strangers = sqlx::query_scalar!(
        r#"SELECT ARRAY (SELECT unnest(r.caller_ids) EXCEPT SELECT unnest(a.caller_ids) FROM carrier_account a
               WHERE a.business_id = r.business_id AND a.carrier = ANY (r.carriers)) AS "strangers!"
           FROM run r WHERE r.run_id = $1 AND EXISTS (SELECT 1 FROM carrier_account a JOIN business b USING (business_id)
               WHERE a.business_id = r.business_id AND a.carrier = ANY (r.carriers) AND a.carrier = ANY (b.carriers))"#,
        locked.run as RunId
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(strangers) = strangers else {
        let business = locked.business;
        let detail = format!(
            "The business has no account at any carrier of the run. PUT /v1/businesses/{business}/carriers/twilio or …/telnyx \
             with its credentials and caller_ids first."
        );
        return Err(ApiError::validation(vec![FieldError::new("/carriers", "no_carrier_account", detail)]));
    };
    if strangers.is_empty() {
        return Ok(());
    }
    let detail = format!("The carrier accounts have these caller_ids no more: {}.", strangers.join(", "));
    Err(ApiError::validation(vec![FieldError::new("/caller_ids", "unknown_caller_id", detail)]))
}

/// There must be a message or an agent, and every lead must have what it says. The rows are looked at only where the run's own
/// summary says that some lead lacks a variable. The version of the agent is the run's from now on.
async fn check_texts(tx: &mut PgTransaction<'_>, locked: &Locked) -> Result<(), ApiError> {
    let (pointer, mut all) = match (&locked.message, locked.agent) {
        (Some(message), _) => {
            let template = Template::parse(&message.text).map_err(anyhow::Error::from)?;
            locked.pin_agent(tx, None).await?;
            ("/message/text", template.missing(&serde_json::Map::new()))
        }
        (None, Some(id)) => {
            let agent = agents::store::one(&mut **tx, locked.business, id).await?;
            let agent = agent.ok_or_else(|| ApiError::validation(unknown_agent()))?;
            // It may have been changed since the run was made.
            let faults = machine::faults(&locked.machine, Some(&agent.definition));
            if !faults.is_empty() {
                return Err(ApiError::validation(faults));
            }
            locked.pin_agent(tx, Some(agent.version)).await?;
            ("/agent_id", needed(&agent.definition)?.into_iter().collect())
        }
        (None, None) => {
            let detail = "The run has no message. Make it with {\"message\": {\"text\": \"…\"}}, or with an agent_id.";
            return Err(ApiError::validation(vec![FieldError::new("/message", "required", detail)]));
        }
    };
    let of_message = all.len();
    all.extend(machine::needed(&locked.machine)?);
    let known = locked.lead_variables.as_deref().unwrap_or_default();
    let unsure = all.into_iter().enumerate().filter(|(_, name)| !known.contains(name));
    let unsure: Vec<_> =
        unsure.map(|(i, name)| (if i < of_message { pointer } else { "/machine/message/text" }, name)).collect();
    if unsure.is_empty() {
        return Ok(());
    }
    let mut errors = Vec::new();
    for (pointer, name) in unsure {
        let (count, lines) = jobs::store::lines_without(&mut **tx, locked.run, &name, LINES_SHOWN).await?;
        if count == 0 {
            continue;
        }
        let lines = lines.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let and_more = if count > LINES_SHOWN { ", …" } else { "" };
        let detail = format!("{count} leads lack the variable {name}: rows {lines}{and_more}.");
        errors.push(FieldError::new(pointer, "missing_variable", detail));
    }
    match errors.first() {
        None => Ok(()),
        Some(first) => Err(ApiError::new(Slug::Validation, first.detail.clone()).with_errors(errors)),
    }
}
