//! Numbers that are not called: the list of each business, and that of the installation, which holds for all.
//!
//! Invariant: once an entry is written under the business's lock, no claim takes a number that it suppresses, because a claim
//! asks `is_suppressed` behind the same lock.
//! Not here: how a number is spelled by people (`leads`), and what becomes of jobs that wait (`dialing::suppress`).

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::ids::BusinessId;

/// What ends the key of a prefix: `+1900*` suppresses every number that begins with +1900.
pub const PREFIX_MARK: char = '*';

/// Whose list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// A business's: holds for it alone.
    Business(BusinessId),
    /// The operator's: holds for every business.
    Installation,
}

impl List {
    /// The id that its rows stand under: the nil id is no business's.
    #[must_use]
    pub fn id(self) -> Uuid {
        match self {
            Self::Business(business) => business.0,
            Self::Installation => Uuid::nil(),
        }
    }
}

/// On what terms, and by what right, a number is not called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Where the wish came from, e.g. `api`.
    pub source: String,
    /// Anything people want to remember.
    pub note: Option<String>,
    /// After this the number may be called again; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// What shows that it was wished or ordered, in words.
    pub evidence: Option<String>,
    /// Where that can be looked at.
    pub evidence_url: Option<String>,
    /// When it was said.
    pub evidence_at: Option<DateTime<Utc>>,
}

/// A line of a list: the key, and its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// E.164, or a prefix of it and [`PREFIX_MARK`].
    pub number: String,
    /// Its terms.
    pub terms: Terms,
}

/// An entry as it is stored.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented there and in Terms")]
pub struct Suppression {
    pub number: String,
    pub source: String,
    pub note: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub evidence: Option<String>,
    pub evidence_url: Option<String>,
    pub evidence_at: Option<DateTime<Utc>>,
    /// When it was first suppressed.
    pub created_at: DateTime<Utc>,
}

/// Whether a number was new to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was.
    Added,
    /// It was there, and now has these terms.
    Changed,
}

/// What became of an entry.
#[derive(Debug, Clone)]
pub struct Written {
    /// The row as it is now.
    pub row: Suppression,
    /// Whether it is new.
    pub put: Put,
    /// True where it keeps anybody from being called: it has not expired.
    pub in_force: bool,
}

/// Writes entries, each number once. The caller holds the business's lock where the list is a business's.
///
/// # Errors
/// Where Postgres does.
pub async fn put(db: &mut PgConnection, list: List, entries: &[Entry]) -> sqlx::Result<Vec<Written>> {
    let text = |read: fn(&Terms) -> &Option<String>| -> Vec<Option<String>> {
        entries.iter().map(|entry| read(&entry.terms).clone()).collect()
    };
    let numbers: Vec<String> = entries.iter().map(|entry| entry.number.clone()).collect();
    let sources: Vec<String> = entries.iter().map(|entry| entry.terms.source.clone()).collect();
    let expire: Vec<Option<DateTime<Utc>>> = entries.iter().map(|entry| entry.terms.expires_at).collect();
    let said: Vec<Option<DateTime<Utc>>> = entries.iter().map(|entry| entry.terms.evidence_at).collect();
    let rows = sqlx::query!(
        r#"INSERT INTO suppression AS s (business_id, number, source, note, expires_at, evidence, evidence_url, evidence_at, created_at)
           SELECT $1, e.*, clock_timestamp()
           FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::timestamptz[]) AS e
           ON CONFLICT (business_id, number) DO UPDATE SET source = excluded.source, note = excluded.note,
               expires_at = excluded.expires_at, evidence = excluded.evidence, evidence_url = excluded.evidence_url,
               evidence_at = excluded.evidence_at
           RETURNING number, source, note, expires_at, evidence, evidence_url, evidence_at, created_at, (xmax = 0) AS "added!",
               (expires_at IS NULL OR expires_at > clock_timestamp()) AS "in_force!""#,
        list.id(),
        &numbers,
        &sources,
        &text(|terms| &terms.note) as &[Option<String>],
        &expire as &[Option<DateTime<Utc>>],
        &text(|terms| &terms.evidence) as &[Option<String>],
        &text(|terms| &terms.evidence_url) as &[Option<String>],
        &said as &[Option<DateTime<Utc>>],
    )
    .fetch_all(db)
    .await?;
    let written = rows.into_iter().map(|row| Written {
        put: if row.added { Put::Added } else { Put::Changed },
        in_force: row.in_force,
        row: Suppression {
            number: row.number,
            source: row.source,
            note: row.note,
            expires_at: row.expires_at,
            evidence: row.evidence,
            evidence_url: row.evidence_url,
            evidence_at: row.evidence_at,
            created_at: row.created_at,
        },
    });
    Ok(written.collect())
}

/// One entry, expired or not.
///
/// # Errors
/// Where Postgres does.
pub async fn get(db: impl PgExecutor<'_>, list: List, number: &str) -> sqlx::Result<Option<Suppression>> {
    sqlx::query_as!(
        Suppression,
        "SELECT number, source, note, expires_at, evidence, evidence_url, evidence_at, created_at FROM suppression
         WHERE business_id = $1 AND number = $2",
        list.id(),
        number
    )
    .fetch_optional(db)
    .await
}

/// Every entry of the list that this number falls under, expired ones too: the number itself, and its prefixes.
///
/// # Errors
/// Where Postgres does.
pub async fn over(db: impl PgExecutor<'_>, list: List, number: &str) -> sqlx::Result<Vec<Suppression>> {
    sqlx::query_as!(
        Suppression,
        "SELECT number, source, note, expires_at, evidence, evidence_url, evidence_at, created_at FROM suppression
         WHERE business_id = $1 AND number = ANY (suppression_keys($2)) ORDER BY number",
        list.id(),
        number
    )
    .fetch_all(db)
    .await
}

/// Up to `limit` entries in the order of their numbers, after the number `after`.
///
/// # Errors
/// Where Postgres does.
pub async fn list(
    db: impl PgExecutor<'_>,
    list: List,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Suppression>> {
    sqlx::query_as!(
        Suppression,
        "SELECT number, source, note, expires_at, evidence, evidence_url, evidence_at, created_at FROM suppression
         WHERE business_id = $1 AND number > coalesce($2, '') ORDER BY number LIMIT $3",
        list.id(),
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// Removes an entry. Jobs that were skipped stay skipped. False where there was none.
///
/// # Errors
/// Where Postgres does.
pub async fn delete(db: impl PgExecutor<'_>, list: List, number: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM suppression WHERE business_id = $1 AND number = $2", list.id(), number)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}
