//! An import in its transaction: rows become jobs, batch by batch, and each row is counted once.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::Value;
use sqlx::PgTransaction;

use super::import::{ERRORS_MAX, Imported};
use crate::{
    error::ApiError,
    leads::{
        Batch, Lead, Rejected,
        store::{self, Counts, Fate, Import},
    },
    policy::zones,
    runs::{self, Action, LeadCounts, RunState},
};

/// What of a run decides which rows become jobs.
#[derive(Default)]
pub(super) struct Terms {
    /// The variables of everything that the calls of a run that was started already say: a lead that lacks one is rejected.
    pub(super) needed: BTreeSet<String>,
    /// Days within which a number must not have been called.
    pub(super) called_within_days: Option<i16>,
}

/// An import, counting.
pub(super) struct Intake {
    import: Import,
    terms: Terms,
    pub(super) counts: Counts,
    errors: Vec<Rejected>,
    variables: Option<BTreeSet<String>>,
}

impl Intake {
    /// `None` where this upload went in before.
    pub(super) async fn begin(
        tx: &mut PgTransaction<'_>,
        import: Import,
        body_hash: Option<&[u8]>,
        terms: Terms,
    ) -> Result<Option<Self>, ApiError> {
        let fresh = store::begin(tx, &import, body_hash).await?;
        let new = || Self { import, terms, counts: Counts::default(), errors: Vec::new(), variables: None };
        Ok(fresh.then(new))
    }

    /// Stores one batch and counts what became of each row.
    pub(super) async fn take(&mut self, tx: &mut PgTransaction<'_>, mut batch: Batch) -> Result<(), ApiError> {
        self.counts.rows += count(batch.rows());
        if !self.terms.needed.is_empty() {
            reject_speechless(&self.terms.needed, &mut batch);
        }
        reject_placeless(&mut batch);
        self.counts.rejected += count(batch.rejected.len());
        let room = ERRORS_MAX - self.errors.len();
        self.errors.extend(batch.rejected.iter().take(room).cloned());

        let days = self.terms.called_within_days;
        let left_out = store::insert_jobs(tx, &self.import, &batch.leads, days).await?;
        let mut left_out = left_out.into_iter().peekable();
        for (line, lead) in &batch.leads {
            match left_out.next_if(|(left, _)| *left == line.cast_signed()) {
                None => {
                    self.counts.accepted += 1;
                    self.note_variables(lead);
                }
                Some((_, fate)) => {
                    match fate {
                        Fate::Duplicate | Fate::CalledRecently => self.counts.duplicates += 1,
                        Fate::Suppressed => self.counts.suppressed += 1,
                    }
                    batch.rejected.push(told(*line, lead, fate));
                }
            }
        }
        Ok(store::keep_rejected(tx, &self.import, &batch.rejected).await?)
    }

    /// Keeps the variables that every accepted lead has.
    fn note_variables(&mut self, lead: &Lead) {
        let has = |name: &str| lead.variables.get(name).is_some_and(|value| !value.is_null());
        match &mut self.variables {
            Some(common) => common.retain(|name| has(name)),
            None => self.variables = Some(lead.variables.keys().filter(|name| has(name)).cloned().collect()),
        }
    }

    /// Adds the counts to the run, unless it ended while the list went in.
    pub(super) async fn finish(self, tx: &mut PgTransaction<'_>) -> Result<(Imported, RunState), ApiError> {
        let Self { import, counts, errors, variables, .. } = self;
        store::finish(tx, &import, &counts).await?;
        let locked = runs::locked::lock(tx, import.business, import.run).await?;
        locked.check(Action::Leads)?;
        let Counts { rows, accepted, duplicates, suppressed, rejected } = counts;
        let for_run = LeadCounts { rows, accepted, duplicates, suppressed, rejected };
        let variables: Option<Vec<String>> = variables.map(|names| names.into_iter().collect());
        locked.add_leads(tx, &for_run, variables.as_deref()).await?;
        let imported = Imported::of(&import, &counts, errors);
        Ok((imported, locked.state))
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Moves leads of which nobody knows where they are to the rejected rows, and notes of the others where they may be. Whether
/// the run has a calling window now does not matter: it may have one later.
fn reject_placeless(batch: &mut Batch) {
    for (_, lead) in &mut batch.leads {
        if lead.time_zones.is_empty() {
            lead.time_zones = Cow::Borrowed(zones::of_number(lead.to.as_str(), lead.at_a_place));
        }
    }
    let placeless = batch.leads.extract_if(.., |(_, lead)| lead.time_zones.is_empty()).map(|(line, lead)| {
        let detail = "Nobody knows the time zone of such a number. Write it into time_zone, such as Europe/Berlin.";
        rejected(line, &lead, "no_time_zone", detail)
    });
    batch.rejected.extend(placeless);
}

/// Moves leads that lack a variable of what is said to the rejected rows.
fn reject_speechless(needed: &BTreeSet<String>, batch: &mut Batch) {
    let lacks = |lead: &Lead, name: &str| lead.variables.get(name).is_none_or(Value::is_null);
    let speechless = batch.leads.extract_if(.., |(_, lead)| needed.iter().any(|name| lacks(lead, name)));
    let rejected = speechless.map(|(line, lead)| {
        let missing: Vec<&str> = needed.iter().filter(|name| lacks(&lead, name)).map(String::as_str).collect();
        let detail = format!("The run's calls say {}, which this row lacks.", missing.join(", "));
        Rejected { line, column: None, code: "missing_variable".into(), detail, value: None }
    });
    batch.rejected.extend(rejected);
}

fn told(line: u64, lead: &Lead, fate: Fate) -> Rejected {
    let detail = match fate {
        Fate::Duplicate => "The run has this number already; the first row with it counts.",
        Fate::Suppressed => "This number is on the suppression list.",
        Fate::CalledRecently => "This number was called within the days of the run's skip_called_within_days.",
    };
    rejected(line, lead, fate.code(), detail)
}

fn rejected(line: u64, lead: &Lead, code: &'static str, detail: &str) -> Rejected {
    let value = Some(lead.to.as_str().to_owned());
    Rejected { line, column: Some("to".to_owned()), code: code.into(), detail: detail.to_owned(), value }
}
