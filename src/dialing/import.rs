//! A list goes into a run: as a whole or not at all, counted row by row.
//!
//! While it goes in, the run cannot be started, deleted or given a second list; a pause or a cancel never waits for it. A run
//! that ended meanwhile takes nothing. What is uploaded slowly is on disk before the first row is stored, so that no
//! connection to Postgres waits for a client.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use sqlx::{PgExecutor, PgPool, PgTransaction};
use tokio::io::AsyncRead;

use crate::{
    error::{ApiError, FieldError, Slug},
    ids::{BusinessId, ImportId, RunId},
    leads::{
        Batch, CsvLeads, FileError, Lead, NumberRules, Rejected, Template, read_json,
        store::{self, Counts, Fate, Import},
    },
    runs::{self, Action, LeadCounts, Message, Run, RunState},
};

/// Rows that are stored by one statement.
const BATCH_ROWS: usize = 1000;
/// Rejected rows that the answer lists.
const ERRORS_MAX: usize = 100;

/// What an upload came to.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Imported {
    /// The upload.
    pub import_id: ImportId,
    /// Rows read: the sum of the next four.
    pub rows: i64,
    /// Rows that became jobs.
    pub accepted: i64,
    /// Rows whose number the run had already.
    pub duplicates: i64,
    /// Rows whose number is on the suppression list.
    pub suppressed: i64,
    /// Rows that cannot be called.
    pub rejected: i64,
    /// The first hundred rejected rows.
    pub errors: Vec<Rejected>,
    /// True where there are more of them.
    pub errors_truncated: bool,
    /// Where every row is listed that did not become a job.
    pub rejected_url: String,
}

/// Rows on their way in.
pub enum Upload<R> {
    /// A CSV file.
    Csv(R),
    /// A JSON list of leads.
    Json(Vec<Value>),
}

/// Puts an upload into a run. The caller rings for the business if the answer says that the run is running.
///
/// # Errors
/// 404; 409 where the run's state does not allow it, or another list is going in; 422 where the upload is no list, with
/// nothing stored.
pub async fn into_run<R: AsyncRead + Unpin>(
    pg: &PgPool,
    business: BusinessId,
    run: RunId,
    upload: Upload<R>,
) -> Result<(Imported, RunState), ApiError> {
    let early = target(pg, business, run).await?;
    let rules = number_rules(&early.default_region, early.allowed_countries.as_deref())?;
    let mut source = Source::open(upload, rules).await?;
    let mut tx = pg.begin().await?;
    if !runs::store::import_lock(&mut tx, run).await? {
        return Err(importing(early.state));
    }
    // Read again behind the lock: from here on nobody starts the run.
    let target = target(&mut *tx, business, run).await?;
    // A run that was started already says its message to whoever is added: a lead that lacks a variable is rejected.
    let said = target.message.filter(|_| target.state != RunState::Draft).map(|message| Template::parse(&message.text));
    let mut intake = Intake::begin(&mut tx, business, run, said.and_then(Result::ok)).await?;
    while let Some(batch) = source.next().await? {
        intake.take(&mut tx, batch).await?;
    }
    let (imported, state) = intake.finish(&mut tx).await?;
    tx.commit().await?;
    let Imported { import_id, rows, accepted, .. } = &imported;
    tracing::info!(business.id = %business, run.id = %run, import.id = %import_id, rows, accepted, "a list went in");
    Ok((imported, state))
}

/// Leads that come with a new run, in the transaction that makes it.
///
/// # Errors
/// Where Postgres cannot store them.
pub(super) async fn with_new_run(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    run: RunId,
    mut batch: Batch,
) -> Result<Imported, ApiError> {
    let mut intake = Intake::begin(tx, business, run, None).await?;
    while let Some(part) = split(&mut batch) {
        intake.take(tx, part).await?;
    }
    Ok(intake.finish(tx).await?.0)
}

/// 409: a list is going into the run just now.
#[must_use]
pub fn importing(state: RunState) -> ApiError {
    let allowed: Vec<&str> = state.allowed().into_iter().map(Action::as_str).collect();
    ApiError::new(Slug::RunState, "A list is being imported into this run; ask again when that is done.")
        .with("state", state.as_str())
        .with("allowed", Value::from(allowed))
        .with("importing", true)
        .retry_after(2)
}

/// How numbers of a list are read: by the run's region and the countries that the business may call.
///
/// # Errors
/// Where a stored country is none: a fault of ours.
pub(super) fn number_rules(region: &str, allowed: Option<&[String]>) -> anyhow::Result<NumberRules> {
    let allowed =
        allowed.map(|list| list.iter().map(|code| code.parse()).collect::<Result<Vec<_>, _>>()).transpose()?;
    Ok(NumberRules::new(region.parse()?).allowing(allowed))
}

struct Target {
    state: RunState,
    default_region: String,
    allowed_countries: Option<Vec<String>>,
    message: Option<Message>,
}

/// What the import needs to know before it begins; a state that does not allow it is refused before any row is read.
async fn target(pg: impl PgExecutor<'_>, business: BusinessId, run: RunId) -> Result<Target, ApiError> {
    let row = sqlx::query!(
        r#"SELECT r.state AS "state: RunState", r.default_region, b.allowed_countries,
                  r.message AS "message: sqlx::types::Json<Message>"
           FROM run r JOIN business b USING (business_id) WHERE r.business_id = $1 AND r.run_id = $2"#,
        business as BusinessId,
        run as RunId
    )
    .fetch_optional(pg)
    .await?
    .ok_or_else(|| ApiError::not_found("run"))?;
    if !row.state.allows(Action::Leads) {
        return Err(Run::refuse(row.state, Action::Leads));
    }
    Ok(Target {
        state: row.state,
        default_region: row.default_region,
        allowed_countries: row.allowed_countries,
        message: row.message.map(|message| message.0),
    })
}

/// Batches out of either kind of upload.
enum Source<R> {
    Csv(Box<CsvLeads<R>>),
    Json(Batch),
}

impl<R: AsyncRead + Unpin> Source<R> {
    async fn open(upload: Upload<R>, rules: NumberRules) -> Result<Self, ApiError> {
        Ok(match upload {
            Upload::Csv(file) => Self::Csv(Box::new(CsvLeads::open(file, rules).await.map_err(refused_file)?)),
            Upload::Json(leads) => Self::Json(read_json(&leads, "", &rules).map_err(refused_fields)?),
        })
    }

    async fn next(&mut self) -> Result<Option<Batch>, ApiError> {
        match self {
            Self::Csv(file) => file.next_batch(BATCH_ROWS).await.map_err(refused_file),
            Self::Json(batch) => Ok(split(batch)),
        }
    }
}

/// Takes the next rows off the front of a batch that was read at once; `None` when it is empty.
fn split(batch: &mut Batch) -> Option<Batch> {
    if batch.rows() == 0 {
        return None;
    }
    let rest = batch.leads.split_off(batch.leads.len().min(BATCH_ROWS));
    let leads = std::mem::replace(&mut batch.leads, rest);
    Some(Batch { leads, rejected: std::mem::take(&mut batch.rejected) })
}

fn refused_file(error: FileError) -> ApiError {
    match error {
        FileError::Refused { code, detail } => ApiError::validation(vec![FieldError::new("", code, detail)]),
        FileError::Read(error) => anyhow::Error::from(error).into(),
    }
}

/// Fields of leads that do not fit: `not-available` only where nothing else is wrong.
pub(super) fn refused_fields(errors: Vec<FieldError>) -> ApiError {
    match errors.first() {
        Some(first) if errors.iter().all(|error| error.code == "not_available") => {
            ApiError::new(Slug::NotAvailable, first.detail.clone()).with_errors(errors)
        }
        _ => ApiError::validation(errors),
    }
}

/// An import in its transaction, counting.
struct Intake {
    import: Import,
    counts: Counts,
    errors: Vec<Rejected>,
    variables: Option<BTreeSet<String>>,
    said: Option<Template>,
}

impl Intake {
    async fn begin(
        tx: &mut PgTransaction<'_>,
        business: BusinessId,
        run: RunId,
        said: Option<Template>,
    ) -> Result<Self, ApiError> {
        let import = Import { id: ImportId::new(), run, business };
        store::begin(tx, &import).await?;
        Ok(Self { import, counts: Counts::default(), errors: Vec::new(), variables: None, said })
    }

    /// Stores one batch and counts what became of each row.
    async fn take(&mut self, tx: &mut PgTransaction<'_>, mut batch: Batch) -> Result<(), ApiError> {
        self.counts.rows += count(batch.rows());
        if let Some(said) = &self.said {
            reject_speechless(said, &mut batch);
        }
        self.counts.rejected += count(batch.rejected.len());
        let room = ERRORS_MAX - self.errors.len();
        self.errors.extend(batch.rejected.iter().take(room).cloned());

        let mut left_out = store::insert_jobs(tx, &self.import, &batch.leads).await?.into_iter().peekable();
        for (line, lead) in &batch.leads {
            match left_out.next_if(|(left, _)| *left == line.cast_signed()) {
                None => {
                    self.counts.accepted += 1;
                    self.note_variables(lead);
                }
                Some((_, fate)) => {
                    match fate {
                        Fate::Duplicate => self.counts.duplicates += 1,
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
    async fn finish(self, tx: &mut PgTransaction<'_>) -> Result<(Imported, RunState), ApiError> {
        let Self { import, counts, errors, variables, .. } = self;
        store::finish(tx, &import, &counts).await?;
        let locked = runs::locked::lock(tx, import.business, import.run).await?;
        locked.check(Action::Leads)?;
        let Counts { rows, accepted, duplicates, suppressed, rejected } = counts;
        let for_run = LeadCounts { rows, accepted, duplicates, suppressed, rejected };
        let variables: Option<Vec<String>> = variables.map(|names| names.into_iter().collect());
        locked.add_leads(tx, &for_run, variables.as_deref()).await?;
        let errors_truncated = counts.rejected > count(errors.len());
        let rejected_url = format!("/v1/runs/{}/rejected.csv?import={}", import.run, import.id);
        let imported = Imported {
            import_id: import.id,
            rows,
            accepted,
            duplicates,
            suppressed,
            rejected,
            errors,
            errors_truncated,
            rejected_url,
        };
        Ok((imported, locked.state))
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Moves leads that lack a variable of the message to the rejected rows.
fn reject_speechless(said: &Template, batch: &mut Batch) {
    let leads = std::mem::take(&mut batch.leads);
    let (speechless, leads): (Vec<_>, Vec<_>) =
        leads.into_iter().partition(|(_, lead)| !said.missing(&lead.variables).is_empty());
    batch.leads = leads;
    let rejected = speechless.into_iter().map(|(line, lead)| {
        let missing = said.missing(&lead.variables).join(", ");
        let detail = format!("The run's message says {missing}, which this row lacks.");
        Rejected { line, column: None, code: "missing_variable".into(), detail, value: None }
    });
    batch.rejected.extend(rejected);
}

fn told(line: u64, lead: &Lead, fate: Fate) -> Rejected {
    let (code, detail) = match fate {
        Fate::Duplicate => ("duplicate", "The run has this number already; the first row with it counts."),
        Fate::Suppressed => ("suppressed", "This number is on the suppression list."),
    };
    let value = Some(lead.to.as_str().to_owned());
    Rejected { line, column: Some("to".to_owned()), code: code.into(), detail: detail.to_owned(), value }
}
