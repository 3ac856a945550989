//! A list goes into a run: as a whole or not at all, counted row by row, and only once under its id.
//!
//! While it goes in, the run cannot be started, deleted or given a second list; a pause or a cancel never waits for it. A run
//! that ended meanwhile takes nothing. What is uploaded slowly is on disk before the first row is stored, so that no
//! connection to Postgres waits for a client. How far it has come is told once a second on another connection.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{PgExecutor, PgPool, PgTransaction, types::Json};
use tokio::{io::AsyncRead, time::Instant};

use super::{
    agents,
    intake::{Intake, Terms},
    machine,
};
use crate::{
    agents::Definition,
    error::{ApiError, FieldError, Slug},
    ids::{BusinessId, ImportId, RunId},
    killpoints::{Point, reach},
    leads::{
        Batch, CsvLeads, FileError, NumberRules, Rejected, Template,
        imports::{self, ImportState},
        read_json,
        store::{self, Counts, Import},
    },
    runs::{self, Action, Machine, Message, Run, RunState},
};

/// Rows that are stored by one statement.
const BATCH_ROWS: usize = 1000;
/// Rejected rows that the answer lists.
pub(super) const ERRORS_MAX: usize = 100;
/// How often it is told how far a list has come.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What an upload came to.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Imported {
    /// The upload.
    pub import_id: ImportId,
    /// Rows read: the sum of the next four.
    pub rows: i64,
    /// Rows that became jobs.
    pub accepted: i64,
    /// Rows whose number the run had already, or that was called within `skip_called_within_days`.
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

impl Imported {
    pub(super) fn of(import: &Import, counts: &Counts, errors: Vec<Rejected>) -> Self {
        let Counts { rows, accepted, duplicates, suppressed, rejected } = *counts;
        Self {
            import_id: import.id,
            rows,
            accepted,
            duplicates,
            suppressed,
            rejected,
            errors_truncated: usize::try_from(rejected).is_ok_and(|all| all > errors.len()),
            errors,
            rejected_url: format!("/v1/runs/{}/rejected.csv?import={}", import.run, import.id),
        }
    }
}

/// Rows on their way in.
pub enum Upload<R> {
    /// A CSV file.
    Csv(R),
    /// A JSON list of leads.
    Json(Vec<Value>),
}

/// Puts an upload into a run, under an id: one that went in before under this id is answered with what it came to then. The
/// caller rings for the business if the answer says that the run is running. `body_hash` is of the upload, where the same may
/// come again.
///
/// # Errors
/// 404; 409 where the run's state does not allow it, or another list is going in; 422 where the upload is no list, or another
/// one went in under this id, with nothing stored.
pub async fn into_run<R: AsyncRead + Unpin>(
    pg: &PgPool,
    import: Import,
    body_hash: Option<&[u8]>,
    upload: Upload<R>,
) -> Result<(Imported, RunState), ApiError> {
    // First of all: a run that is over by now had taken it.
    if let Some(done) = went_in(pg, &import, body_hash).await? {
        return Ok(done);
    }
    let early = target(pg, &import).await?;
    early.takes_leads()?;
    let rules = number_rules(&early.default_region, early.allowed_countries.as_deref())?;
    let source = Source::open(upload, rules).await?;
    let mut tx = pg.begin().await?;
    let taken = goes_in(pg, &mut tx, import, body_hash, (early.state, source)).await;
    let Some((imported, state)) = settle(tx, taken).await? else {
        return went_in(pg, &import, body_hash).await?.ok_or_else(|| importing(early.state));
    };
    reach(Point::K14).await;
    let (Import { id, run, business }, Imported { rows, accepted, .. }) = (import, &imported);
    tracing::info!(business.id = %business, run.id = %run, import.id = %id, rows, accepted, "a list went in");
    Ok((imported, state))
}

/// Row by row. None where this upload went in before.
async fn goes_in<R: AsyncRead + Unpin>(
    pg: &PgPool,
    tx: &mut PgTransaction<'_>,
    import: Import,
    body_hash: Option<&[u8]>,
    (early, mut source): (RunState, Source<R>),
) -> Result<Option<(Imported, RunState)>, ApiError> {
    if !runs::store::import_lock(tx, import.run).await? {
        return Err(importing(early));
    }
    // Read again behind the lock: from here on nobody starts the run.
    let target = target(&mut **tx, &import).await?;
    target.takes_leads()?;
    let Some(mut intake) = Intake::begin(tx, import, body_hash, target.terms()?).await? else { return Ok(None) };
    let mut progress = Telling { pg, import, told: None };
    let mut next = source.next().await?;
    while let Some(batch) = next {
        // While Postgres stores these rows, the next ones are read.
        let (stored, read) = tokio::join!(intake.take(tx, batch), source.next());
        stored?;
        next = read?;
        reach(Point::K13).await;
        if next.is_some() {
            progress.tell(&intake.counts).await;
        }
    }
    intake.finish(tx).await.map(Some)
}

/// Keeps what was done, or takes it back before anybody hears of it: a transaction that is only dropped holds its locks for a while
/// longer, and the next request would be told of something that is over.
pub(super) async fn settle<T>(tx: PgTransaction<'_>, done: Result<T, ApiError>) -> Result<T, ApiError> {
    match done {
        Ok(done) => {
            tx.commit().await?;
            Ok(done)
        }
        Err(refused) => {
            if let Err(error) = tx.rollback().await {
                tracing::warn!(error = %error, "what was refused could not be taken back; its connection is closed");
            }
            Err(refused)
        }
    }
}

/// What an upload came to that went in under this id before, and the state of its run now.
async fn went_in(
    pg: &PgPool,
    import: &Import,
    body_hash: Option<&[u8]>,
) -> Result<Option<(Imported, RunState)>, ApiError> {
    let stored = imports::one(pg, import).await?.filter(|stored| stored.state == ImportState::Done);
    let Some(stored) = stored else { return Ok(None) };
    if stored.body_hash.as_deref() != body_hash {
        let detail = "Another list went in under this Idempotency-Key; take a new one.";
        return Err(ApiError::new(Slug::IdempotencyMismatch, detail));
    }
    let errors = imports::faults(pg, import, i64::try_from(ERRORS_MAX).unwrap_or(i64::MAX)).await?;
    let state = target(pg, import).await?.state;
    Ok(Some((Imported::of(import, &stored.counts, errors), state)))
}

/// Tells how far a list has come.
struct Telling<'a> {
    pg: &'a PgPool,
    import: Import,
    told: Option<Instant>,
}

impl Telling<'_> {
    /// Once a second. A list goes in also where that cannot be told.
    async fn tell(&mut self, counts: &Counts) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        if let Err(error) = store::tell(self.pg, &self.import, counts).await {
            tracing::warn!(error = %error, import.id = %self.import.id, "it could not be told how far a list has come");
        }
    }
}

/// Leads that come with a new run, in the transaction that makes it.
///
/// # Errors
/// Where Postgres cannot store them.
pub(super) async fn with_new_run(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    run: RunId,
    called_within_days: Option<i16>,
    mut batch: Batch,
) -> Result<Imported, ApiError> {
    let terms = Terms { called_within_days, needed: BTreeSet::new() };
    let import = Import { id: ImportId::new(), run, business };
    let Some(mut intake) = Intake::begin(tx, import, None, terms).await? else {
        return Err(anyhow::anyhow!("a new import has the id of another").into());
    };
    while let Some(part) = split(&mut batch) {
        intake.take(tx, part).await?;
    }
    Ok(intake.finish(tx).await?.0)
}

/// 409: a list is going into the run just now.
#[must_use]
pub fn importing(state: RunState) -> ApiError {
    let waits = |action: &Action| matches!(action, Action::Start | Action::Leads | Action::Delete);
    let allowed = state.allowed().into_iter().filter(|action| !waits(action)).collect();
    Run::refusal(state, allowed, "A list is being imported into this run; ask again when that is done.")
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
    agent: Option<Definition>,
    machine: Machine,
    skip_called_within_days: Option<i16>,
    archived: bool,
}

impl Target {
    /// A state that does not allow it is refused before any row is read.
    fn takes_leads(&self) -> Result<(), ApiError> {
        if self.archived {
            return Err(Run::refuse_archived(self.state));
        }
        if self.state.allows(Action::Leads) { Ok(()) } else { Err(Run::refuse(self.state, Action::Leads)) }
    }

    /// Whoever joins a run that was started must have what a start asks of the others.
    fn terms(self) -> Result<Terms, ApiError> {
        let mut needed = BTreeSet::new();
        if self.state != RunState::Draft {
            if let Some(message) = &self.message {
                needed.extend(Template::parse(&message.text).map_err(anyhow::Error::from)?.missing(&Map::new()));
            }
            if let Some(agent) = &self.agent {
                needed.extend(agents::needed(agent)?);
            }
            needed.extend(machine::needed(&self.machine)?);
        }
        Ok(Terms { needed, called_within_days: self.skip_called_within_days })
    }
}

/// What the import needs to know before it begins.
async fn target(pg: impl PgExecutor<'_>, import: &Import) -> Result<Target, ApiError> {
    let row = sqlx::query!(
        r#"SELECT r.state AS "state: RunState", r.default_region, b.allowed_countries, r.skip_called_within_days,
                  r.archived_at IS NOT NULL AS "archived!",
                  r.message AS "message: Json<Message>", r.machine AS "machine: Json<Machine>", v.definition AS "agent?: Json<Definition>"
           FROM run r JOIN business b USING (business_id)
           LEFT JOIN agent_version v ON v.agent_id = r.agent_id AND v.version = r.agent_version AND v.business_id = r.business_id
           WHERE r.business_id = $1 AND r.run_id = $2"#,
        import.business as BusinessId,
        import.run as RunId
    )
    .fetch_optional(pg)
    .await?
    .ok_or_else(|| ApiError::not_found("run"))?;
    Ok(Target {
        state: row.state,
        default_region: row.default_region,
        allowed_countries: row.allowed_countries,
        message: row.message.map(|message| message.0),
        agent: row.agent.map(|agent| agent.0),
        machine: row.machine.map(|machine| machine.0).unwrap_or_default(),
        skip_called_within_days: row.skip_called_within_days,
        archived: row.archived,
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
            Upload::Json(leads) => Self::Json(read_json(&leads, "", &rules).map_err(ApiError::validation)?),
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
