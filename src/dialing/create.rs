//! A run is made, with its first leads in the same transaction.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::{PgExecutor, PgPool, PgTransaction};

use super::{
    agents::unknown_agent,
    change::calendar_names,
    import::{self, Imported},
    machine,
};
use crate::{
    agents,
    config::Settings,
    error::{ApiError, FieldError},
    ids::{BusinessId, Carrier, RunId},
    leads::{Country, Template, read_json},
    runs::{self, NewRun, Run, RunRules, new::Defaults},
};

/// A new run, and what became of the leads that came with it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Created {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// The upload; null where no leads came with it.
    pub import: Option<Imported>,
}

/// Makes a run under this id, or finds it made by the same request before. A lead that cannot be called is counted as rejected, as in a file; one whose shape does not fit refuses all.
///
/// # Errors
/// 422 with every field that does not fit or whose rule is not built; then nothing is stored.
pub async fn run(
    pg: &PgPool,
    settings: &Settings,
    (business, id): (BusinessId, RunId),
    mut new: NewRun,
) -> Result<Created, ApiError> {
    let leads = new.leads.take();
    let mut tx = pg.begin().await?;
    let rules = rules(&mut tx, settings, business, new, None).await?;
    let home = home(&mut *tx, business).await?;
    let numbers = import::number_rules(&rules.default_region, home.allowed_countries.as_deref())?;
    let batch = leads.map(|leads| read_json(&leads, "/leads", &numbers)).transpose().map_err(ApiError::validation)?;
    let fresh = runs::store::insert(&mut tx, business, id, &rules).await?;
    let import = match batch.filter(|_| fresh) {
        Some(batch) => Some(import::with_new_run(&mut tx, business, id, rules.skip_called_within_days, batch).await?),
        None => None,
    };
    let run = runs::store::one(&mut *tx, business, id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    tx.commit().await?;
    Ok(Created { run, import })
}

/// The rules of a run that is made, each checked; of one that is changed, those of the fields that are `given`.
pub(super) async fn rules(
    tx: &mut PgTransaction<'_>,
    settings: &Settings,
    business: BusinessId,
    new: NewRun,
    given: Option<&BTreeSet<String>>,
) -> Result<RunRules, ApiError> {
    let home = home(&mut **tx, business).await?;
    let mut further = further_faults(&new);
    if let Some(window) = &new.window {
        window.check("/window", &calendar_names(tx, business).await?, &mut further);
    }
    let agent = match new.agent_id {
        Some(agent) => agents::store::one(&mut **tx, business, agent).await?,
        None => None,
    };
    if new.agent_id.is_some() && agent.is_none() {
        further.extend(unknown_agent());
    }
    if let Some(machine) = &new.machine {
        further.extend(machine::faults(machine, agent.as_ref().map(|agent| &agent.definition)));
    }
    let defaults = Defaults {
        default_region: home.default_region.clone(),
        ring_timeout_secs: settings.ring_timeout_secs,
        call_time_limit_secs: settings.call_time_limit_secs,
        carriers: home.carriers.clone(),
    };
    let callers = home.callers(new.carriers.as_deref().unwrap_or(&home.carriers));
    new.rules(&defaults, &callers, further, given)
}

/// What only other facts can judge: the region and the message's template.
fn further_faults(new: &NewRun) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if let Some(Err(error)) = new.default_region.as_deref().map(str::parse::<Country>) {
        faults.push(FieldError::new("/default_region", "unknown_region", error.to_string()));
    }
    if let Some(Err(error)) = new.message.as_ref().map(|message| Template::parse(&message.text)) {
        faults.push(FieldError::new("/message/text", "invalid_template", error.to_string()));
    }
    faults
}

/// What of a business decides which numbers and caller ids fit.
pub(super) struct Home {
    pub(super) default_region: String,
    pub(super) allowed_countries: Option<Vec<String>>,
    /// In the order in which they are tried.
    pub(super) carriers: Vec<Carrier>,
    /// The numbers to call from at each carrier that it has an account at.
    caller_ids: Vec<(Carrier, Vec<String>)>,
}

impl Home {
    /// The numbers to call from at any of these carriers.
    pub(super) fn callers(&self, carriers: &[Carrier]) -> Vec<String> {
        let of = self.caller_ids.iter().filter(|(carrier, _)| carriers.contains(carrier));
        of.flat_map(|(_, numbers)| numbers.clone()).collect()
    }
}

pub(super) async fn home(pg: impl PgExecutor<'_>, business: BusinessId) -> Result<Home, ApiError> {
    known_home(pg, business).await?.ok_or_else(|| ApiError::not_found("business"))
}

/// The same; `None` where there is no such business.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn known_home(pg: impl PgExecutor<'_>, business: BusinessId) -> sqlx::Result<Option<Home>> {
    let rows = sqlx::query!(
        r#"SELECT default_region, allowed_countries, carriers AS "carriers: Vec<Carrier>", a.carrier AS "carrier?: Carrier",
                  a.caller_ids AS "caller_ids?"
           FROM business b LEFT JOIN carrier_account a USING (business_id) WHERE b.business_id = $1"#,
        business as BusinessId,
    )
    .fetch_all(pg)
    .await?;
    let mut home: Option<Home> = None;
    for row in rows {
        let (default_region, allowed_countries, carriers) = (row.default_region, row.allowed_countries, row.carriers);
        let new = || Home { default_region, allowed_countries, carriers, caller_ids: Vec::new() };
        home.get_or_insert_with(new).caller_ids.extend(row.carrier.zip(row.caller_ids));
    }
    Ok(home)
}
