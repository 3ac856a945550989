//! One number: did we call it, with what right, and forgetting it.
//!
//! A number is forgotten in one transaction under the business's lock, so that nobody dials it meanwhile, and only while no call
//! with it is open: a call that is under way still needs it. In its place stands one that nobody has, other digits each time: what was
//! counted stays counted, and nothing leads back to the person. The number itself stays on the suppression list, unless that is not
//! wished either: who asks to be forgotten does not ask to be called again, and without its number no list would know.

use std::collections::{HashMap, HashSet};

use rand::{TryRng, rngs::SysRng};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    attempts::{
        self, Attempt, InFlight,
        erase::{self, ERASED},
        history::{self, Dialed},
    },
    businesses::{
        audit, store as businesses,
        suppressions::{self, Entry, List, Suppression, Terms},
    },
    calls::conversation,
    context::Context,
    dialing::windows,
    error::{ApiError, Slug},
    ids::BusinessId,
    jobs::{
        Job,
        read::{self, Filter},
        skip::{self, Skipped},
    },
    leads::{self, mask},
    runs,
};

/// The source of an entry that an erasure leaves.
const SOURCE: &str = "erasure";

/// One job to the number, or one call outside of runs, with all that was dialed.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Contact {
    /// The job's id, or the call's.
    pub id: Uuid,
    /// The run's name; null for a call outside of runs.
    pub run_name: Option<String>,
    /// The job; null for a call outside of runs.
    pub job: Option<Job>,
    /// In the order of the dials.
    pub attempts: Vec<Attempt>,
    /// Where what was said can be read.
    pub transcript_urls: Vec<String>,
}

/// What is known of one number.
#[derive(Debug)]
pub struct Known {
    /// The entries of the business's list that it falls under.
    pub own: Vec<Suppression>,
    /// Those of the installation's list.
    pub everywhere: Vec<Suppression>,
    /// All that was dialed, counted.
    pub dialed: Dialed,
    /// One contact more than fits on the page, newest first.
    pub contacts: Vec<Contact>,
}

/// What a business knows of a number; contacts from before `before`, at most `limit`.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn known(
    ctx: &Context,
    business: BusinessId,
    number: &str,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Known, ApiError> {
    let pg = &ctx.stores.tenant;
    let own = suppressions::over(pg, List::Business(business), number).await?;
    let everywhere = suppressions::over(&ctx.stores.pg, List::Installation, number).await?;
    let dialed = history::dialed(pg, business, number).await?;
    let filter = Filter { to: Some(number.to_owned()), ..Filter::default() };
    let mut jobs = read::find(pg, business, &filter, before, limit).await?;
    windows::tell_open(pg, business, &mut jobs, &ctx.settings).await?;
    let singles = history::singles(pg, business, number, before.unwrap_or(Uuid::max()), limit).await?;
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let dials = attempts::store::of(pg, business, &singles, &ids).await?;
    let said: Vec<Uuid> = dials.iter().map(|attempt| attempt.id.0).collect();
    let said: HashSet<_> = conversation::among(pg, business, &said).await?.into_iter().collect();
    let runs: Vec<Uuid> = jobs.iter().map(|job| job.run_id.0).collect();
    let names: HashMap<_, _> = runs::find::names(pg, business, &runs).await?.into_iter().collect();
    let mut of_job: HashMap<_, Vec<Attempt>> = HashMap::new();
    for attempt in dials {
        of_job.entry(attempt.job_id.map_or(attempt.id.0, |job| job.0)).or_default().push(attempt);
    }
    let mut contact = |id: Uuid, job: Option<Job>| {
        let attempts = of_job.remove(&id).unwrap_or_default();
        let told = attempts.iter().filter(|attempt| said.contains(&attempt.id));
        let transcript_urls = told.map(|attempt| format!("/v1/calls/{}/transcript", attempt.id)).collect();
        let run_name = job.as_ref().and_then(|job| names.get(&job.run_id).cloned());
        Contact { id, run_name, job, attempts, transcript_urls }
    };
    let mut contacts: Vec<Contact> = jobs.into_iter().map(|job| contact(job.id.0, Some(job))).collect();
    contacts.extend(singles.iter().map(|call| contact(call.0, None)));
    contacts.sort_unstable_by_key(|contact| std::cmp::Reverse(contact.id));
    contacts.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Known { own, everywhere, dialed, contacts })
}

/// What was forgotten of a number.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct Erased {
    /// Jobs in which it stood.
    pub jobs: u64,
    /// Of those, the ones that waited to be dialed and now end as skipped.
    pub skipped: u64,
    /// Dials in which it stood.
    pub attempts: u64,
    /// Calls whose words were kept.
    pub transcripts: u64,
    /// Recordings, which are being deleted at the carrier.
    pub recordings: u64,
    /// Rows of lists that had not become jobs.
    pub rejected_rows: u64,
    /// True where the number stays on the suppression list.
    pub suppressed: bool,
}

/// Forgets a number, which `by` asked for. The caller rings for the business.
///
/// # Errors
/// 404 where there is no such business; 409 where a call with the number is open, with what is in flight.
pub async fn erase(
    ctx: &Context,
    business: BusinessId,
    by: &str,
    number: &str,
    suppress: bool,
) -> Result<Erased, ApiError> {
    let (erased, calls) = in_ledger(ctx, business, by, number, suppress).await?;
    for call in calls {
        // The number and the words of the call are there, too, for some minutes after its end; they go at once if they can.
        if let Err(error) = ctx.calls.erase(&call).await {
            tracing::warn!(%error, "the state of a call that is over stays until its time is out");
        }
    }
    Ok(erased)
}

async fn in_ledger(
    ctx: &Context,
    business: BusinessId,
    by: &str,
    number: &str,
    suppress: bool,
) -> Result<(Erased, Vec<String>), ApiError> {
    let placeholder = placeholder()?;
    let list = List::Business(business);
    let mut tx = ctx.stores.tenant.begin().await?;
    if !businesses::lock(&mut *tx, business).await? {
        return Err(ApiError::not_found("business"));
    }
    let open = erase::in_flight(&mut tx, business, number).await?;
    if !open.is_empty() {
        return Err(in_call(&open));
    }
    // On a connection of its own, which commits first: nothing is erased unseen.
    let detail = json!({ "number": mask(number), "suppress": suppress });
    audit::note(&ctx.stores.pg, Some(business.0), by, "number.erase", &detail).await?;
    let attempts = erase::erase(&mut tx, business, number, &placeholder).await?;
    let (skipped, runs) = skip::numbers(&mut tx, business, &[number.to_owned()], Skipped::Erased).await?;
    let jobs = skip::erase(&mut tx, business, number, &placeholder).await?;
    let ids: Vec<Uuid> = attempts.iter().map(|(attempt, _)| attempt.0).collect();
    let transcripts = conversation::erase(&mut tx, business, &ids).await?;
    let recordings = erase::unwant_recordings(&mut tx, business, &ids).await?;
    let rejected_rows = leads::store::erase_rejected(&mut tx, business, number).await?;
    if suppress {
        let entry = Entry { number: number.to_owned(), terms: Terms::only(SOURCE) };
        suppressions::put(&mut tx, list, &[entry], SOURCE).await?;
    } else {
        suppressions::delete(&mut *tx, list, number).await?;
    }
    skip::end_runs(&mut tx, &runs).await?;
    tx.commit().await?;
    let erased = Erased {
        jobs: jobs.len() as u64,
        skipped,
        attempts: ids.len() as u64,
        transcripts,
        recordings,
        rejected_rows,
        suppressed: suppress,
    };
    Ok((erased, attempts.into_iter().filter_map(|(_, call)| call).collect()))
}

fn in_call(open: &[InFlight]) -> ApiError {
    let detail = "A call with this number is under way; hang it up or wait for its end, then ask again.";
    ApiError::new(Slug::Conflict, detail)
        .with("in_flight", serde_json::to_value(open).unwrap_or_default())
        .with("in_flight_total", open.len())
        .retry_after(5)
}

/// A number that nobody has.
fn placeholder() -> Result<String, ApiError> {
    let random = SysRng.try_next_u64().map_err(anyhow::Error::from)?;
    Ok(format!("{ERASED}{:012}", random % 1_000_000_000_000))
}

/// True for what stands where a number was.
#[must_use]
pub fn is_erased(number: &str) -> bool {
    number.starts_with(ERASED)
}
