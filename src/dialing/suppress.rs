//! A number is suppressed: from the next claim on nobody dials it, and its jobs that wait end.
//!
//! The entry is written under the business's lock, so that every claim after it sees it, and with it which lists are to be looked
//! over for a prefix. That is done in small parts: for a second before the answer, then by the sweep, which knows from Postgres alone
//! what is left. The installation's list is no business's: once it is written, each business is locked for a moment in turn, so that
//! a claim that had not seen the entry is over before it is acknowledged.

use std::{
    collections::{HashMap, hash_map},
    time::{Duration, Instant},
};

use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio::io::AsyncRead;

use super::import;
use crate::{
    businesses::{
        store::{self, Business},
        suppressions::{self, Entry, List, PREFIX_MARK, Put, Terms, Written},
    },
    context::Context,
    error::{ApiError, FieldError},
    ids::BusinessId,
    jobs::skip::{self, Skipped},
    leads::{FileError, Rejected, SuppressedCsv, SuppressedRow},
};

/// Entries that are written by one statement.
const BATCH_ROWS: usize = 1000;
/// For how long lists are looked over before the answer.
const BEFORE_THE_ANSWER: Duration = Duration::from_secs(1);
/// For how long the sweep looks lists over in one round: it has other things to see to in the same second.
const IN_ONE_ROUND: Duration = Duration::from_millis(300);
/// Rejected rows that the answer lists.
const ERRORS_MAX: usize = 100;
/// Businesses that are read at once.
const BUSINESSES: i64 = 500;

/// What an uploaded list came to.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct ListTaken {
    /// Rows read: the sum of the next three.
    pub rows: i64,
    /// Rows that are new on the list.
    pub added: i64,
    /// Rows whose number or prefix was there, or comes twice in the file; what the last one says counts, what it leaves empty stays.
    pub changed: i64,
    /// Rows that cannot be read.
    pub rejected: i64,
    /// The first hundred rejected rows.
    pub errors: Vec<Rejected>,
    /// True where there are more of them.
    pub errors_truncated: bool,
}

/// Writes one entry and ends the jobs that it keeps from being dialed. None where there is no such business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn one(ctx: &Context, pg: &PgPool, list: List, entry: Entry) -> sqlx::Result<Option<Written>> {
    let is_prefix = entry.number.ends_with(PREFIX_MARK);
    let written = put(ctx, pg, list, (&[entry], "api")).await?;
    begin(ctx, list, is_prefix).await;
    Ok(written.and_then(|mut written| written.pop()))
}

/// Takes a CSV list, a thousand rows at a time: what was read counts from then on, so that a list that breaks off can be sent
/// again without harm.
///
/// # Errors
/// 404 where there is no such business; 422 where this is no such list, with nothing stored; where Postgres does not answer.
pub async fn from_csv<R: AsyncRead + Unpin>(
    ctx: &Context,
    pg: &PgPool,
    list: List,
    file: R,
) -> Result<ListTaken, ApiError> {
    let rules = match list {
        List::Business(business) => {
            let found = store::get(pg, business).await?.ok_or_else(|| ApiError::not_found("business"))?;
            Some(import::number_rules(&found.default_region, None)?)
        }
        List::Installation => None,
    };
    let mut file = SuppressedCsv::open(file, rules).await.map_err(refused)?;
    let mut taken = ListTaken::default();
    let mut prefixes = false;
    while let Some(batch) = file.next_batch(BATCH_ROWS).await.map_err(refused)? {
        let entries = taken.sort(batch);
        prefixes |= entries.iter().any(|entry| entry.number.ends_with(PREFIX_MARK));
        let written = put(ctx, pg, list, (&entries, "csv")).await?.ok_or_else(|| ApiError::not_found("business"))?;
        for one in written {
            match one.put {
                Put::Added => taken.added += 1,
                Put::Changed => taken.changed += 1,
            }
        }
    }
    begin(ctx, list, prefixes).await;
    Ok(taken)
}

fn refused(error: FileError) -> ApiError {
    match error {
        FileError::Refused { code, detail } => ApiError::validation(vec![FieldError::new("", code, detail)]),
        FileError::Read(error) => anyhow::Error::from(error).into(),
    }
}

impl ListTaken {
    /// Counts a batch: what can be stored of it, each number once; where two rows differ, the last one counts.
    fn sort(&mut self, batch: Vec<Result<SuppressedRow, Rejected>>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(batch.len());
        let mut places = HashMap::new();
        for row in batch {
            self.rows += 1;
            match row.map(entry) {
                Ok(entry) => match places.entry(entry.number.clone()) {
                    hash_map::Entry::Vacant(place) => {
                        place.insert(entries.len());
                        entries.push(entry);
                    }
                    hash_map::Entry::Occupied(place) => {
                        self.changed += 1;
                        let place = &mut entries[*place.get()];
                        place.terms = entry.terms.after(std::mem::take(&mut place.terms));
                    }
                },
                Err(rejected) => {
                    self.rejected += 1;
                    if self.errors.len() < ERRORS_MAX {
                        self.errors.push(rejected)
                    } else {
                        self.errors_truncated = true
                    }
                }
            }
        }
        entries
    }
}

/// What a row says; an empty cell says nothing.
fn entry(row: SuppressedRow) -> Entry {
    let SuppressedRow { number, source, note, expires_at, evidence, evidence_url, evidence_at } = row;
    let terms = Terms {
        source,
        note: note.map(Some),
        expires_at: expires_at.map(Some),
        evidence: evidence.map(Some),
        evidence_url: evidence_url.map(Some),
        evidence_at: evidence_at.map(Some),
    };
    Entry { number, terms }
}

async fn put(
    ctx: &Context,
    pg: &PgPool,
    list: List,
    (entries, source): (&[Entry], &str),
) -> sqlx::Result<Option<Vec<Written>>> {
    let mut tx = pg.begin().await?;
    match list {
        List::Business(business) if !store::lock(&mut *tx, business).await? => return Ok(None),
        List::Business(_) => {}
        List::Installation => suppressions::lock_installation(&mut *tx).await?,
    }
    let written = suppressions::put(&mut tx, list, entries, source).await?;
    let (numbers, prefixes) = in_force(&written);
    match list {
        List::Business(business) => {
            end_numbers(&mut tx, business, &numbers).await?;
            skip::note_prefixes(&mut tx, Some(business), &prefixes).await?;
        }
        List::Installation => skip::note_prefixes(&mut tx, None, &prefixes).await?,
    }
    tx.commit().await?;
    if list == List::Installation {
        end_everywhere(&ctx.stores.pg, &numbers).await?;
    }
    Ok(Some(written))
}

/// The numbers and the beginnings of numbers that may not be dialed now.
fn in_force(written: &[Written]) -> (Vec<String>, Vec<String>) {
    let keys = written.iter().filter(|one| one.in_force).map(|one| one.row.number.as_str());
    let (prefixes, numbers): (Vec<&str>, Vec<&str>) = keys.partition(|key| key.ends_with(PREFIX_MARK));
    let bare = prefixes.into_iter().map(|key| key.trim_end_matches(PREFIX_MARK).to_owned());
    (numbers.into_iter().map(str::to_owned).collect(), bare.collect())
}

async fn end_numbers(db: &mut PgConnection, business: BusinessId, numbers: &[String]) -> sqlx::Result<()> {
    let (_, runs) = skip::numbers(db, business, numbers, Skipped::Suppressed).await?;
    skip::end_runs(db, &runs).await
}

/// Sees to it that no claim is under way that has not seen the installation's list as it is now, and ends jobs of everybody.
async fn end_everywhere(pg: &PgPool, numbers: &[String]) -> sqlx::Result<()> {
    let mut after = None;
    loop {
        let page: Vec<Business> = store::list(pg, after, BUSINESSES).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        for business in page.iter().map(|business| business.id) {
            let mut tx = pg.begin().await?;
            store::lock(&mut *tx, business).await?;
            end_numbers(&mut tx, business, numbers).await?;
            tx.commit().await?;
        }
    }
}

/// Looks lists over for as long as an answer may wait, where there are prefixes, and rings. What is not done by then is the sweep's: the
/// entry counts already.
async fn begin(ctx: &Context, list: List, prefixes: bool) {
    let business = match list {
        List::Business(business) => Some(business),
        List::Installation => None,
    };
    if prefixes && let Err(error) = look_over(&ctx.stores.pg, business, BEFORE_THE_ANSWER).await {
        tracing::warn!(%error, "lists are not looked over for a prefix yet; the sweep goes on");
    }
    if let Some(business) = business {
        ctx.ring(business).await;
    }
}

/// Goes on where lists are to be looked over for a prefix: the sweep's part.
///
/// # Errors
/// Where Postgres does not answer; the next round goes on.
pub(crate) async fn go_on(pg: &PgPool) -> sqlx::Result<()> {
    look_over(pg, None, IN_ONE_ROUND).await
}

async fn look_over(pg: &PgPool, business: Option<BusinessId>, at_most: Duration) -> sqlx::Result<()> {
    let began = Instant::now();
    while skip::look_over(pg, business).await? && began.elapsed() < at_most {}
    Ok(())
}
