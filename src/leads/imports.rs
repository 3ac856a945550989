//! What uploads came to, as people read it: those that went in, and the one that goes in now or broke off.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{
    Rejected,
    store::{Counts, Fate, Import},
};
use crate::{
    clock::Time,
    ids::{BusinessId, ImportId, RunId},
};

/// Where an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// It goes in; its counts are as of the last second, and no row is seen before all are.
    Importing,
    /// It is in.
    Done,
    /// It broke off, and nothing of it is stored; its counts say how far it had come.
    BrokenOff,
}

/// An upload of a run.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are columns of the import under their own names")]
pub struct Stored {
    pub id: ImportId,
    pub state: ImportState,
    pub counts: Counts,
    pub body_hash: Option<Vec<u8>>,
    pub created_at: Time,
}

/// Which uploads, by their ids, both ends included: an id grows with time.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    from: Uuid,
    to: Uuid,
}

impl Span {
    /// This one.
    #[must_use]
    pub fn one(import: ImportId) -> Self {
        Self { from: import.0, to: import.0 }
    }

    /// Those made before this one; all where it is `None`.
    #[must_use]
    pub fn before(import: Option<Uuid>) -> Self {
        let to = import.map_or(Uuid::max(), |import| Uuid::from_u128(import.as_u128().saturating_sub(1)));
        Self { from: Uuid::nil(), to }
    }
}

/// Uploads of a run of a business, newest first, at most `limit`.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn list(
    pg: impl PgExecutor<'_> + Copy,
    (business, run): (BusinessId, RunId),
    span: Span,
    limit: i64,
) -> sqlx::Result<Vec<Stored>> {
    let seen = read(pg, (business, run), span, limit).await?;
    if seen.iter().all(|upload| upload.state != ImportState::BrokenOff) {
        return Ok(seen);
    }
    // The lock is asked for after the snapshot is taken, so it may have ended with a commit in between. By now that is seen.
    read(pg, (business, run), span, limit).await
}

async fn read(
    pg: impl PgExecutor<'_>,
    (business, run): (BusinessId, RunId),
    span: Span,
    limit: i64,
) -> sqlx::Result<Vec<Stored>> {
    let rows = sqlx::query!(
        r#"SELECT import_id AS "import_id!: ImportId", rows AS "rows!", accepted AS "accepted!", duplicates AS "duplicates!",
                  suppressed AS "suppressed!", rejected AS "rejected!", body_hash, created_at AS "created_at!: Time",
                  done AS "done!",
                  NOT done AND EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND (classid::bigint << 32 | objid::bigint) = hashtextextended('rollcall.going_in:' || import_id::text, 0))
                      AS "alive!"
           FROM ((SELECT import_id, rows, accepted, duplicates, suppressed, rejected, body_hash, created_at, true AS done
                  FROM lead_import WHERE run_id = $2 AND business_id = $1 AND import_id BETWEEN $3 AND $4
                  ORDER BY import_id DESC LIMIT $5)
                 UNION ALL
                 SELECT import_id, rows, accepted, duplicates, suppressed, rejected, NULL, begun_at, false
                 FROM lead_import_progress WHERE run_id = $2 AND business_id = $1 AND import_id BETWEEN $3 AND $4) upload
           ORDER BY import_id DESC LIMIT $5"#,
        business as BusinessId,
        run as RunId,
        span.from,
        span.to,
        limit
    )
    .fetch_all(pg)
    .await?;
    let stored = rows.into_iter().map(|row| Stored {
        id: row.import_id,
        state: match (row.done, row.alive) {
            (true, _) => ImportState::Done,
            (false, true) => ImportState::Importing,
            (false, false) => ImportState::BrokenOff,
        },
        counts: Counts {
            rows: row.rows,
            accepted: row.accepted,
            duplicates: row.duplicates,
            suppressed: row.suppressed,
            rejected: row.rejected,
        },
        body_hash: row.body_hash,
        created_at: row.created_at,
    });
    Ok(stored.collect())
}

/// One upload of a run of a business.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn one(pg: impl PgExecutor<'_> + Copy, import: &Import) -> sqlx::Result<Option<Stored>> {
    Ok(list(pg, (import.business, import.run), Span::one(import.id), 1).await?.pop())
}

/// The first rows of an upload that cannot be called, at most `limit`: neither duplicates nor suppressed ones.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn faults(pg: impl PgExecutor<'_>, import: &Import, limit: i64) -> sqlx::Result<Vec<Rejected>> {
    let fates = [Fate::Suppressed, Fate::CalledRecently, Fate::Duplicate].map(|fate| fate.code().to_owned());
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT import_id AS "import_id: ImportId", line, field, code, detail, value FROM rejected_lead
           WHERE run_id = $1 AND import_id = $2 AND code <> ALL ($3) ORDER BY line LIMIT $4"#,
        import.run as RunId,
        import.id as ImportId,
        &fates,
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| Kept::from(row).row).collect())
}

struct Row {
    import_id: ImportId,
    line: i64,
    field: Option<String>,
    code: String,
    detail: String,
    value: Option<String>,
}

/// A row of `rejected.csv`.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The upload.
    pub import: ImportId,
    /// The row.
    pub row: Rejected,
}

impl From<Row> for Kept {
    fn from(row: Row) -> Self {
        let Row { import_id: import, line, field: column, code, detail, value } = row;
        Self { import, row: Rejected { line: line.cast_unsigned(), column, code: code.into(), detail, value } }
    }
}

/// Where the next page of rejected rows begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct After {
    /// The upload of the last row shown.
    pub import: Uuid,
    /// Its line.
    pub line: i64,
}

/// Rejected rows of a run, one upload after the other, at most `limit`; with `import` only those of one upload.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn rejected(
    pg: impl PgExecutor<'_>,
    run: RunId,
    import: Option<ImportId>,
    after: After,
    limit: i64,
) -> sqlx::Result<Vec<Kept>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT import_id AS "import_id: ImportId", line, field, code, detail, value FROM rejected_lead
           WHERE run_id = $1 AND (import_id, line) > ($2, $3)
               AND import_id BETWEEN coalesce($4::uuid, '00000000-0000-0000-0000-000000000000')
                   AND coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           ORDER BY import_id, line LIMIT $5"#,
        run as RunId,
        after.import,
        after.line,
        import as Option<ImportId>,
        limit
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(Kept::from).collect())
}
