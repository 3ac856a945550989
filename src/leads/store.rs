//! Leads become jobs: batches in, with what was refused beside them.

use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

use super::{Lead, Rejected};
use crate::{
    clock::Time,
    ids::{BusinessId, ImportId, JobId, RunId},
};

/// One upload, which counts as a whole or not at all.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// Its id.
    pub id: ImportId,
    /// The run that it goes into.
    pub run: RunId,
    /// The run's business.
    pub business: BusinessId,
}

/// How many rows there were, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "one count per fate of a row; rows is their sum")]
pub struct Counts {
    pub rows: i64,
    pub accepted: i64,
    pub duplicates: i64,
    pub suppressed: i64,
    pub rejected: i64,
}

/// A lead that became no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its number is on the suppression list.
    Suppressed,
    /// The run has its number already.
    Duplicate,
}

/// Makes this transaction an import: it may take its time, and its tally rows are its own, so that nobody waits for them.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn begin(tx: &mut PgTransaction<'_>, import: &Import) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT set_config('rollcall.importing', 'on', true) AS a, set_config('statement_timeout', '30min', true) AS b,
                set_config('lock_timeout', '30s', true) AS c, set_config('idle_in_transaction_session_timeout', '60s', true) AS d"
    )
    .fetch_one(&mut **tx)
    .await?;
    // Written first, since rejected rows refer to it; its counts come at the end.
    sqlx::query!(
        "INSERT INTO lead_import (import_id, run_id, business_id, rows, accepted, duplicates, suppressed, rejected)
         VALUES ($1, $2, $3, 0, 0, 0, 0, 0)",
        import.id as ImportId,
        import.run as RunId,
        import.business as BusinessId
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes jobs of `leads`, in their order; the first of two with one number wins. Returns the lines that became no job.
///
/// # Errors
/// Where Postgres cannot store them.
pub async fn insert_jobs(
    tx: &mut PgTransaction<'_>,
    import: &Import,
    leads: &[(u64, Lead)],
) -> sqlx::Result<Vec<(i64, Fate)>> {
    let column = |read: fn(&Lead) -> Option<String>| leads.iter().map(|(_, lead)| read(lead)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = leads.iter().map(|_| JobId::new().0).collect();
    let lines: Vec<i64> = leads.iter().map(|(line, _)| line.cast_signed()).collect();
    let numbers: Vec<String> = leads.iter().map(|(_, lead)| lead.to.as_str().to_owned()).collect();
    let priorities: Vec<i32> = leads.iter().map(|(_, lead)| lead.priority).collect();
    let rows = sqlx::query!(
        r#"WITH given AS (
               SELECT *, is_suppressed($2, to_number) AS suppressed
               FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[]) WITH ORDINALITY
                   AS row(job_id, line, to_number, external_id, variables, time_zone, priority, place)
           ), inserted AS (
               INSERT INTO job (job_id, run_id, business_id, line, to_number, external_id, variables, time_zone, time_zones, zone_set, priority)
               SELECT job_id, $1, $2, line, to_number, external_id, variables::jsonb, time_zone,
                      array_remove(ARRAY[time_zone], NULL), zone_set(array_remove(ARRAY[time_zone], NULL)), priority
               FROM given WHERE NOT suppressed ORDER BY place
               ON CONFLICT (run_id, to_number) DO NOTHING
               RETURNING job_id
           )
           SELECT line AS "line!", suppressed AS "suppressed!" FROM given
           WHERE job_id NOT IN (SELECT job_id FROM inserted) ORDER BY place"#,
        import.run as RunId,
        import.business as BusinessId,
        &ids,
        &lines,
        &numbers,
        &column(|lead| lead.external_id.clone()) as &[Option<String>],
        &column(|lead| serde_json::to_string(&lead.variables).ok()) as &[Option<String>],
        &column(|lead| lead.time_zone.map(|zone| zone.name().to_owned())) as &[Option<String>],
        &priorities,
    )
    .fetch_all(&mut **tx)
    .await?;
    let fate = |suppressed| if suppressed { Fate::Suppressed } else { Fate::Duplicate };
    Ok(rows.into_iter().map(|row| (row.line, fate(row.suppressed))).collect())
}

/// Keeps rows that became no job, each with its reason.
///
/// # Errors
/// Where Postgres cannot store them.
pub async fn keep_rejected(tx: &mut PgTransaction<'_>, import: &Import, rejected: &[Rejected]) -> sqlx::Result<()> {
    if rejected.is_empty() {
        return Ok(());
    }
    let lines: Vec<i64> = rejected.iter().map(|row| row.line.cast_signed()).collect();
    let columns: Vec<Option<String>> = rejected.iter().map(|row| row.column.clone()).collect();
    let codes: Vec<String> = rejected.iter().map(|row| row.code.clone().into_owned()).collect();
    let details: Vec<String> = rejected.iter().map(|row| row.detail.clone()).collect();
    let values: Vec<Option<String>> = rejected.iter().map(|row| row.value.clone()).collect();
    sqlx::query!(
        "INSERT INTO rejected_lead (run_id, import_id, line, field, code, detail, value)
         SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])",
        import.run as RunId,
        import.id as ImportId,
        &lines,
        &columns as &[Option<String>],
        &codes,
        &details,
        &values as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes down what the upload came to.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn finish(tx: &mut PgTransaction<'_>, import: &Import, counts: &Counts) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE lead_import SET rows = $2, accepted = $3, duplicates = $4, suppressed = $5, rejected = $6 WHERE import_id = $1",
        import.id as ImportId,
        counts.rows,
        counts.accepted,
        counts.duplicates,
        counts.suppressed,
        counts.rejected
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An upload that was stored.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are columns of the import under their own names")]
pub struct Stored {
    pub counts: Counts,
    pub created_at: Time,
}

/// One upload of a run of a business.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn one(pg: impl PgExecutor<'_>, import: &Import) -> sqlx::Result<Option<Stored>> {
    let row = sqlx::query!(
        r#"SELECT rows, accepted, duplicates, suppressed, rejected, created_at AS "created_at: Time"
           FROM lead_import WHERE import_id = $1 AND run_id = $2 AND business_id = $3"#,
        import.id as ImportId,
        import.run as RunId,
        import.business as BusinessId
    )
    .fetch_optional(pg)
    .await?;
    Ok(row.map(|row| Stored {
        counts: Counts {
            rows: row.rows,
            accepted: row.accepted,
            duplicates: row.duplicates,
            suppressed: row.suppressed,
            rejected: row.rejected,
        },
        created_at: row.created_at,
    }))
}

/// A row of `rejected.csv`.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The upload.
    pub import: ImportId,
    /// The row.
    pub row: Rejected,
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
    let rows = sqlx::query!(
        r#"SELECT import_id AS "import: ImportId", line, field, code, detail, value FROM rejected_lead
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
    let kept = rows.into_iter().map(|row| Kept {
        import: row.import,
        row: Rejected {
            line: row.line.cast_unsigned(),
            column: row.field,
            code: row.code.into(),
            detail: row.detail,
            value: row.value,
        },
    });
    Ok(kept.collect())
}
