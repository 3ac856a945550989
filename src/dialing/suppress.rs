//! A number is suppressed: from the next claim on nobody dials it, and its jobs that wait end.
//!
//! The entry is written first, under the business's lock, so that every claim after it sees it; jobs end afterwards, and what a
//! death leaves of them is never claimed and ends with its run. The installation's list is no business's: once it is written,
//! each business is locked for a moment in turn, so that a claim that had not seen the entry is over before it is acknowledged.

use std::collections::{HashMap, hash_map};

use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio::io::AsyncRead;
use uuid::Uuid;

use super::import;
use crate::{
    businesses::{
        store::{self, Business},
        suppressions::{self, Entry, List, PREFIX_MARK, Put, Terms, Written},
    },
    context::Context,
    error::{ApiError, FieldError},
    ids::{BusinessId, JobId},
    jobs::skip::{self, Skipped},
    leads::{FileError, Rejected, SuppressedCsv, SuppressedRow},
};

/// Entries that are written by one statement.
const BATCH_ROWS: usize = 1000;
/// Jobs that one transaction ends because of a prefix.
const BATCH_JOBS: i64 = 5000;
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
    /// Rows whose number or prefix was there, or comes twice in the file; the last one's terms count.
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
    let written = put(ctx, pg, list, &[entry]).await?;
    ring(ctx, list).await;
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
    while let Some(batch) = file.next_batch(BATCH_ROWS).await.map_err(refused)? {
        let entries = taken.sort(batch);
        let written = put(ctx, pg, list, &entries).await?.ok_or_else(|| ApiError::not_found("business"))?;
        for one in written {
            match one.put {
                Put::Added => taken.added += 1,
                Put::Changed => taken.changed += 1,
            }
        }
    }
    ring(ctx, list).await;
    Ok(taken)
}

fn refused(error: FileError) -> ApiError {
    match error {
        FileError::Refused { code, detail } => ApiError::validation(vec![FieldError::new("", code, detail)]),
        FileError::Read(error) => anyhow::Error::from(error).into(),
    }
}

impl ListTaken {
    /// Counts a batch: what can be stored of it, each number once, the last of two.
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
                        entries[*place.get()] = entry;
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

fn entry(row: SuppressedRow) -> Entry {
    let SuppressedRow { number, source, note, expires_at, evidence, evidence_url, evidence_at } = row;
    let source = source.unwrap_or_else(|| "csv".into());
    Entry { number, terms: Terms { source, note, expires_at, evidence, evidence_url, evidence_at } }
}

async fn put(ctx: &Context, pg: &PgPool, list: List, entries: &[Entry]) -> sqlx::Result<Option<Vec<Written>>> {
    let mut tx = pg.begin().await?;
    let written = match list {
        List::Business(business) => {
            if !store::lock(&mut *tx, business).await? {
                return Ok(None);
            }
            let written = suppressions::put(&mut tx, list, entries).await?;
            end_numbers(&mut tx, business, &in_force(&written).0).await?;
            written
        }
        List::Installation => suppressions::put(&mut tx, list, entries).await?,
    };
    tx.commit().await?;
    let (numbers, prefixes) = in_force(&written);
    match list {
        List::Business(business) => end_prefixes(pg, business, &prefixes).await?,
        List::Installation => end_everywhere(ctx, &numbers, &prefixes).await?,
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

/// Ends jobs to numbers with these beginnings, a part of a list in each transaction.
async fn end_prefixes(pg: &PgPool, business: BusinessId, prefixes: &[String]) -> sqlx::Result<()> {
    if prefixes.is_empty() {
        return Ok(());
    }
    let runs = skip::unfinished_runs(&mut *pg.acquire().await?, business).await?;
    for run in runs {
        let mut next = Some(JobId(Uuid::nil()));
        while let Some(after) = next {
            let mut tx = pg.begin().await?;
            next = skip::prefixes(&mut tx, run, prefixes, after, BATCH_JOBS).await?;
            if next.is_none() {
                skip::end_runs(&mut tx, &[run]).await?;
            }
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Sees to it that no claim is under way that has not seen the installation's list as it is now, and ends jobs of everybody.
async fn end_everywhere(ctx: &Context, numbers: &[String], prefixes: &[String]) -> sqlx::Result<()> {
    let pg = &ctx.stores.pg;
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
            end_prefixes(pg, business, prefixes).await?;
        }
    }
}

async fn ring(ctx: &Context, list: List) {
    if let List::Business(business) = list {
        ctx.ring(business).await;
    }
}
