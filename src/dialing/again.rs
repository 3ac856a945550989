//! A run is made from another: the same rules, and as much of its list as is wanted.

use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::change::calendar_names;
use crate::{
    error::{ApiError, FieldError},
    ids::{BusinessId, RunId},
    jobs::copies::{self, Leads},
    leads,
    runs::{self, LeadCounts, Run, locked::lock, new::check_name},
};

/// What a copy is to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Again {
    /// 1 to 200 characters; the name of the run where absent.
    pub name: Option<String>,
    /// Which of its leads: `none` where absent.
    pub leads: Leads,
}

/// Makes a draft from a run of whatever state, under this id, or finds it made by the same request before. Start and end times are
/// left out: they were the other run's.
///
/// # Errors
/// 404; 422 where the name does not fit, or the window names a calendar that is gone.
pub async fn run(pg: &PgPool, business: BusinessId, from: RunId, id: RunId, asked: &Again) -> Result<Run, ApiError> {
    let mut tx = pg.begin().await?;
    let now = runs::store::one(&mut *tx, business, from).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let mut rules = now.rules;
    let mut wrong: Vec<FieldError> = Vec::new();
    if let Some(name) = &asked.name {
        check_name(name, &mut wrong);
        rules.name.clone_from(name);
    }
    // It may be gone: the run is over that kept it from being removed.
    if let Some(window) = &rules.window {
        window.check_calendars("/window", &calendar_names(&mut tx, business).await?, &mut wrong);
    }
    if !wrong.is_empty() {
        return Err(ApiError::validation(wrong));
    }
    rules.start_at = None;
    rules.end_at = None;
    if runs::store::insert(&mut tx, business, id, &rules).await? {
        leads::store::take_time(&mut tx).await?;
        if asked.leads == Leads::Unreached {
            runs::store::take_up(&mut tx, (from, id)).await?;
        }
        let days = rules.skip_called_within_days;
        let copies::Copied { copied: accepted, suppressed, called: duplicates } =
            copies::copy(&mut tx, business, (from, id), asked.leads, days).await?;
        let locked = lock(&mut tx, business, id).await?;
        let rows = accepted + suppressed + duplicates;
        let counts = LeadCounts { rows, accepted, suppressed, duplicates, ..LeadCounts::default() };
        let variables = runs::store::lead_variables(&mut *tx, from).await?.filter(|_| accepted > 0);
        locked.add_leads(&mut tx, &counts, variables.as_deref()).await?;
    }
    let run = runs::store::one(&mut *tx, business, id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    tx.commit().await?;
    Ok(run)
}
