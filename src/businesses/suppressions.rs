//! Numbers that are not called: the list of each business, and that of the installation, which holds for all.
//!
//! Invariant: once an entry is written under the business's lock, no claim takes a number that it suppresses, because a claim
//! asks `is_suppressed` behind the same lock.
//! Not here: how a number is spelled by people (`leads`), and what becomes of jobs that wait (`dialing::suppress`).

use std::collections::HashMap;

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

/// On what terms, and by what right, a number is not called, as far as it is said: what is absent stays as it is where the number
/// is on the list already, and `Some(None)` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Where the wish came from; for a number that is new to the list, what [`put`] is told where it is absent.
    pub source: Option<String>,
    /// Anything people want to remember.
    pub note: Option<Option<String>>,
    /// After this the number may be called again; null: never. An entry that has expired is as good as none: where this is absent,
    /// it holds for good again.
    pub expires_at: Option<Option<DateTime<Utc>>>,
    /// What shows that it was wished or ordered, in words.
    pub evidence: Option<Option<String>>,
    /// Where that can be looked at.
    pub evidence_url: Option<Option<String>>,
    /// When it was said.
    pub evidence_at: Option<Option<DateTime<Utc>>>,
}

impl Terms {
    /// A source and nothing else, whatever was there.
    #[must_use]
    pub fn only(source: &str) -> Self {
        let source = Some(source.to_owned());
        Self {
            source,
            note: Some(None),
            expires_at: Some(None),
            evidence: Some(None),
            evidence_url: Some(None),
            evidence_at: Some(None),
        }
    }

    /// These terms after those: what these do not say is as it was.
    #[must_use]
    pub fn after(self, earlier: Self) -> Self {
        Self {
            source: self.source.or(earlier.source),
            note: self.note.or(earlier.note),
            expires_at: self.expires_at.or(earlier.expires_at),
            evidence: self.evidence.or(earlier.evidence),
            evidence_url: self.evidence_url.or(earlier.evidence_url),
            evidence_at: self.evidence_at.or(earlier.evidence_at),
        }
    }
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

/// Waits until nobody else writes into the installation's list, and has others wait until the transaction is over.
///
/// # Errors
/// Where Postgres does, or somebody else writes for too long.
pub async fn lock_installation(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(installation_list_lock())").execute(db).await?;
    Ok(())
}

/// Writes entries, each number once; `source` is that of new ones that name none. The caller holds the lock of the list: the business's,
/// or [`lock_installation`].
///
/// # Errors
/// Where Postgres does.
pub async fn put(db: &mut PgConnection, list: List, entries: &[Entry], source: &str) -> sqlx::Result<Vec<Written>> {
    let numbers: Vec<String> = entries.iter().map(|entry| entry.number.clone()).collect();
    let mut there = known(&mut *db, list, &numbers).await?;
    let terms: Vec<Terms> = entries
        .iter()
        .map(|entry| entry.terms.clone().after(there.remove(&entry.number).unwrap_or_default()))
        .collect();
    let text = |read: fn(&Terms) -> &Option<Option<String>>| -> Vec<Option<String>> {
        terms.iter().map(|terms| read(terms).clone().flatten()).collect()
    };
    let sources: Vec<String> = terms.iter().map(|terms| terms.source.as_deref().unwrap_or(source).to_owned()).collect();
    let expire: Vec<Option<DateTime<Utc>>> = terms.iter().map(|terms| terms.expires_at.flatten()).collect();
    let said: Vec<Option<DateTime<Utc>>> = terms.iter().map(|terms| terms.evidence_at.flatten()).collect();
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

/// The terms of those of these numbers that are on the list, as they stay until they are written anew.
async fn known(db: &mut PgConnection, list: List, numbers: &[String]) -> sqlx::Result<HashMap<String, Terms>> {
    let rows = sqlx::query!(
        r#"SELECT number, source, note, CASE WHEN expires_at > clock_timestamp() THEN expires_at END AS expires_at, evidence, evidence_url,
                  evidence_at
           FROM suppression WHERE business_id = $1 AND number = ANY ($2) ORDER BY number FOR NO KEY UPDATE"#,
        list.id(),
        numbers
    )
    .fetch_all(db)
    .await?;
    let terms = rows.into_iter().map(|row| {
        let terms = Terms {
            source: Some(row.source),
            note: Some(row.note),
            expires_at: Some(row.expires_at),
            evidence: Some(row.evidence),
            evidence_url: Some(row.evidence_url),
            evidence_at: Some(row.evidence_at),
        };
        (row.number, terms)
    });
    Ok(terms.collect())
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

/// True where nobody may be called at this number now: it falls under an entry of the business's list, or of the installation's.
///
/// # Errors
/// Where Postgres does.
pub async fn is_suppressed(db: impl PgExecutor<'_>, business: BusinessId, number: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT is_suppressed($1, $2) AS "is!""#, business.0, number).fetch_one(db).await
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
