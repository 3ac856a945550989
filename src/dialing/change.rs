//! A run's rules are changed: from the next claim on, whatever its state.

use std::{collections::BTreeSet, time::Duration};

use sqlx::PgPool;

use crate::{
    businesses::calling_rules,
    config::Settings,
    dialing::{create, moves, windows},
    error::{ApiError, FieldError},
    ids::{BusinessId, RunId},
    runs::{self, NewRun, Run, RunRules, RunState, locked::lock},
};

/// What may be changed at any time before the run is over.
const WHILE_IT_RUNS: [&str; 16] = [
    "local_presence",
    "abandon_guard",
    "caller_ids",
    "max_concurrent_calls",
    "weight",
    "ring_timeout_secs",
    "call_time_limit_secs",
    "record",
    "window",
    "retry",
    "breaker",
    "budget",
    "end_at",
    "skip_called_within_days",
    "name",
    "external_id",
];
/// What may also be changed before it is started.
const BEFORE_IT_RUNS: [&str; 6] = ["carriers", "agent_id", "message", "machine", "default_region", "start_at"];
/// What may be changed of a run that is over.
const WHEN_IT_IS_OVER: [&str; 2] = ["name", "external_id"];

/// What a run needs to have when it starts, whoever starts it.
const FOR_A_START: [&str; 5] = ["carriers", "caller_ids", "agent_id", "message", "machine"];
/// What decides, besides, whether there is any time to call.
const FOR_HOURS: [&str; 3] = ["window", "ring_timeout_secs", "start_at"];

/// Changes a run; `fields` are those that are given, and `merged` puts them in place of what the run has. One that waits for its
/// start time is looked at again as a start does, because nobody looks when that time comes; without a start time it begins
/// now. The caller rings for the business.
///
/// # Errors
/// 404; 409 `run-state` where it was put away, or with the fields that the run's state does not let anybody change; 422 as for a new run, and of one that
/// waits for its start time as for a start.
pub async fn run(
    pg: &PgPool,
    settings: &Settings,
    (business, run): (BusinessId, RunId),
    by: &str,
    fields: &BTreeSet<String>,
    merged: impl FnOnce(&RunRules) -> Result<NewRun, ApiError>,
) -> Result<Run, ApiError> {
    let mut tx = pg.begin().await?;
    let locked = lock(&mut tx, business, run).await?;
    if locked.archived {
        return Err(Run::refuse_archived(locked.state));
    }
    may_change(locked.state, fields)?;
    let now = runs::store::one(&mut *tx, business, run).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let rules = create::rules(&mut tx, settings, business, merged(&now.rules)?, Some(fields)).await?;
    locked.change(&mut tx, &rules).await?;
    if locked.state == RunState::Scheduled {
        let mut changed = lock(&mut tx, business, run).await?;
        if FOR_A_START.iter().any(|field| fields.contains(*field)) {
            moves::ready(&mut tx, &changed).await?;
        }
        if rules.start_at.is_none() {
            changed.start(&mut tx, by).await?;
        }
    }
    windows::of_run(&mut tx, run, Duration::from_secs(settings.carrier_queue_limit_secs)).await?;
    if locked.state == RunState::Scheduled && FOR_HOURS.iter().any(|field| fields.contains(*field)) {
        moves::check_hours(&mut tx, run).await?;
    }
    let run = runs::store::one(&mut *tx, business, run).await?.ok_or_else(|| ApiError::not_found("run"))?;
    tx.commit().await?;
    tracing::info!(business.id = %business, run.id = %run.id, "a run was changed");
    Ok(run)
}

/// Says no where a field may not be changed in this state.
fn may_change(state: RunState, fields: &BTreeSet<String>) -> Result<(), ApiError> {
    let may = |field: &str| match state {
        RunState::Draft | RunState::Scheduled => BEFORE_IT_RUNS.contains(&field) || WHILE_IT_RUNS.contains(&field),
        RunState::Running | RunState::Paused => WHILE_IT_RUNS.contains(&field),
        RunState::Cancelling | RunState::Cancelled | RunState::Completed => WHEN_IT_IS_OVER.contains(&field),
    };
    let known = |field: &str| BEFORE_IT_RUNS.contains(&field) || WHILE_IT_RUNS.contains(&field);
    let wrong: Vec<_> = fields
        .iter()
        .filter(|field| !known(field))
        .map(|field| {
            FieldError::new(
                format!("/{}", field.replace('~', "~0").replace('/', "~1")),
                "unknown_field",
                "is no field that a run is changed by",
            )
        })
        .collect();
    if !wrong.is_empty() {
        return Err(ApiError::validation(wrong));
    }
    let fixed: Vec<_> = fields.iter().filter(|field| !may(field)).collect();
    if fixed.is_empty() {
        return Ok(());
    }
    let word = state.as_str();
    let errors = fixed
        .iter()
        .map(|field| {
            FieldError::new(format!("/{field}"), "fixed", format!("cannot be changed while the run is {word}"))
        })
        .collect();
    let detail = format!("The run is {word}; these fields cannot be changed any more.");
    Err(Run::refusal(state, state.allowed(), detail).with_errors(errors))
}

/// The names of the calendars that a window may refer to.
pub(super) async fn calendar_names(
    pg: &mut sqlx::PgConnection,
    business: BusinessId,
) -> sqlx::Result<BTreeSet<String>> {
    calling_rules::calendar_names(pg, business).await
}
