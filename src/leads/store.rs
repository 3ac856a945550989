//! Leads become jobs: batches in, with what was refused beside them.
//!
//! Not here: what uploads came to, as people read it (`imports`).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

use super::{Lead, Rejected};
use crate::ids::{BusinessId, ImportId, JobId, RunId};

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
    /// The business dialed its number lately, in another run or by itself.
    CalledRecently,
    /// The run has its number already.
    Duplicate,
}

impl Fate {
    /// The word for it beside the row.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Suppressed => "suppressed",
            Self::CalledRecently => "called_recently",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Makes this transaction an import: it may take its time, its tally rows are its own, so that nobody waits for them, and
/// everybody can see that it still goes on. False where this upload went in before; then nothing more may be done.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn begin(tx: &mut PgTransaction<'_>, import: &Import, body_hash: Option<&[u8]>) -> sqlx::Result<bool> {
    take_time(tx).await?;
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('rollcall.going_in:' || $1::uuid::text, 0)) IS NULL AS had",
        import.id as ImportId
    )
    .fetch_one(&mut **tx)
    .await?;
    // Written first, since rejected rows refer to it; its counts come at the end.
    let done = sqlx::query!(
        "INSERT INTO lead_import (import_id, run_id, business_id, rows, accepted, duplicates, suppressed, rejected, body_hash)
         VALUES ($1, $2, $3, 0, 0, 0, 0, 0, $4) ON CONFLICT (import_id) DO NOTHING",
        import.id as ImportId,
        import.run as RunId,
        import.business as BusinessId,
        body_hash
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets this transaction move whole lists: it may take its time, and its tally rows are its own.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn take_time(tx: &mut PgTransaction<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT set_config('rollcall.importing', 'on', true) AS a, set_config('statement_timeout', '30min', true) AS b,
                set_config('lock_timeout', '30s', true) AS c, set_config('idle_in_transaction_session_timeout', '60s', true) AS d"
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(())
}

/// Makes jobs of `leads`, in their order; the first of two with one number wins. Numbers that the business dialed within
/// `called_within_days` days are left out: what was certainly never dialed does not count as a dial. Returns the lines that
/// became no job.
///
/// # Errors
/// Where Postgres cannot store them.
pub async fn insert_jobs(
    tx: &mut PgTransaction<'_>,
    import: &Import,
    leads: &[(u64, Lead)],
    called_within_days: Option<i16>,
) -> sqlx::Result<Vec<(i64, Fate)>> {
    let column = |read: fn(&Lead) -> Option<String>| leads.iter().map(|(_, lead)| read(lead)).collect::<Vec<_>>();
    let moments =
        |read: fn(&Lead) -> Option<DateTime<Utc>>| leads.iter().map(|(_, lead)| read(lead)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = leads.iter().map(|_| JobId::new().0).collect();
    let lines: Vec<i64> = leads.iter().map(|(line, _)| line.cast_signed()).collect();
    let numbers: Vec<String> = leads.iter().map(|(_, lead)| lead.to.as_str().to_owned()).collect();
    let priorities: Vec<i32> = leads.iter().map(|(_, lead)| lead.priority).collect();
    let (zone_sets, zone_set_of) = zone_sets(leads);
    let rows = sqlx::query!(
        r#"WITH zones AS MATERIALIZED (
               SELECT place, names, zone_set(names) AS zone_set
               FROM (SELECT place, string_to_array(names, ' ') AS names FROM unnest($11::text[]) WITH ORDINALITY AS set(names, place)) s
           ), given AS (
               SELECT *, to_number IN (SELECT suppressed_among($2, $5::text[])) AS suppressed,
                   CASE WHEN $14::smallint IS NOT NULL THEN
                       EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = $2 AND a.to_number = row.to_number
                               AND a.intent_at > statement_timestamp() - make_interval(days => $14) AND a.direction = 'outbound'
                               AND a.state NOT IN ('refused', 'not_sent', 'not_placed') AND a.run_id IS DISTINCT FROM $1
                               AND NOT rang_nobody(a.state, a.disposition, a.queue_cancelled_at))
                   ELSE false END AS called
               FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[], $10::bigint[],
                           $12::timestamptz[], $13::timestamptz[]) WITH ORDINALITY
                   AS row(job_id, line, to_number, external_id, variables, time_zone, priority, zones_at, not_before, not_after,
                          place)
           ), inserted AS (
               INSERT INTO job (job_id, run_id, business_id, line, to_number, external_id, variables, time_zone, time_zones,
                                zone_set, priority, not_before, not_after)
               SELECT job_id, $1, $2, line, to_number, external_id, variables::jsonb, time_zone, zones.names, zones.zone_set,
                      priority, not_before, not_after
               FROM given JOIN zones ON zones.place = given.zones_at WHERE NOT suppressed AND NOT called ORDER BY given.place
               ON CONFLICT (run_id, to_number) DO NOTHING
               RETURNING job_id
           )
           SELECT line AS "line!", suppressed AS "suppressed!", called AS "called!" FROM given
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
        &zone_set_of,
        &zone_sets,
        &moments(|lead| lead.not_before) as &[Option<DateTime<Utc>>],
        &moments(|lead| lead.not_after) as &[Option<DateTime<Utc>>],
        called_within_days,
    )
    .fetch_all(&mut **tx)
    .await?;
    let fate = |suppressed, called| match (suppressed, called) {
        (true, _) => Fate::Suppressed,
        (false, true) => Fate::CalledRecently,
        (false, false) => Fate::Duplicate,
    };
    Ok(rows.into_iter().map(|row| (row.line, fate(row.suppressed, row.called))).collect())
}

/// Each set of zones once, its names separated by spaces, and for every lead the place of its set, from 1: most leads of a
/// list share a few sets.
fn zone_sets(leads: &[(u64, Lead)]) -> (Vec<String>, Vec<i64>) {
    let mut places: HashMap<&[Tz], i64> = HashMap::new();
    let mut sets = Vec::new();
    let place_of = leads.iter().map(|(_, lead)| {
        *places.entry(&lead.time_zones).or_insert_with(|| {
            let names: Vec<&str> = lead.time_zones.iter().map(|zone| zone.name()).collect();
            sets.push(names.join(" "));
            i64::try_from(sets.len()).unwrap_or(i64::MAX)
        })
    });
    let place_of = place_of.collect();
    (sets, place_of)
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

/// Writes down what the upload came to, in place of what was told meanwhile.
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
    sqlx::query!("DELETE FROM lead_import_progress WHERE run_id = $1", import.run as RunId).execute(&mut **tx).await?;
    Ok(())
}

/// Tells how far an upload has come, on a connection of its own: it is committed at once, and the upload is not. What was told
/// of an earlier one that broke off is forgotten.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn tell(pg: impl PgExecutor<'_>, import: &Import, counts: &Counts) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO lead_import_progress AS p (run_id, business_id, import_id, rows, accepted, duplicates, suppressed, rejected)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (run_id) DO UPDATE SET import_id = excluded.import_id, rows = excluded.rows, accepted = excluded.accepted,
             duplicates = excluded.duplicates, suppressed = excluded.suppressed, rejected = excluded.rejected,
             begun_at = CASE WHEN p.import_id = excluded.import_id AND p.rows < excluded.rows THEN p.begun_at
                             ELSE excluded.begun_at END",
        import.run as RunId,
        import.business as BusinessId,
        import.id as ImportId,
        counts.rows,
        counts.accepted,
        counts.duplicates,
        counts.suppressed,
        counts.rejected
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Takes a number out of the rows of a business that did not become jobs; how many said it. A row in which it is written in another
/// way than in E.164 is not found.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn erase_rejected(tx: &mut PgTransaction<'_>, business: BusinessId, number: &str) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "UPDATE rejected_lead SET value = NULL
         WHERE value = $2 AND value LIKE '+%' AND run_id IN (SELECT run_id FROM run WHERE business_id = $1 AND name IS NOT NULL)",
        business.0,
        number
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Takes out of the rows of a run that did not become jobs what they said, at most `most`; how many there were.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn forget_rejected(pg: impl PgExecutor<'_>, run: RunId, most: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "UPDATE rejected_lead SET value = NULL WHERE ctid = ANY (ARRAY(SELECT ctid FROM rejected_lead
             WHERE run_id = $1 AND value IS NOT NULL LIMIT $2 FOR UPDATE SKIP LOCKED))",
        run as RunId,
        most
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected())
}
