//! A suppression list as a CSV file: numbers and prefixes that are not to be called, each with its terms.
//!
//! A number is taken as it is where it is E.164 (numbers that are never called may be on a list too); one that is written in
//! another way is read like a lead's. A prefix ends with a star: `+1900*`.

use chrono::{DateTime, Utc};
use tokio::io::AsyncRead;
use url::Url;

use super::{
    csv::{Rows, records},
    header::{self, FileError},
    number::{NumberRules, TEXT_MAX, listed},
    record::Record,
    row::{Fault, Rejected},
};
use crate::clock::{MOMENT, Moment};

/// The most characters of a text of a row.
pub const TEXT_LIMIT: usize = 2_000;
/// The most characters of a source.
pub const SOURCE_LIMIT: usize = 200;
/// What the columns may be called; the first three hold the number.
const COLUMNS: &str =
    "number (or to, or phone), source, note, expires_at, evidence, evidence_url, evidence_at, created_at";

/// A row of the list. Texts are as they were written, without the blanks around them; times are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the columns of the file under their own names")]
pub struct SuppressedRow {
    /// E.164, or a prefix of it with a star.
    pub number: String,
    pub source: Option<String>,
    pub note: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub evidence: Option<String>,
    pub evidence_url: Option<String>,
    pub evidence_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Number,
    Source,
    Note,
    ExpiresAt,
    Evidence,
    EvidenceUrl,
    EvidenceAt,
    /// Written by the export, and known better here.
    CreatedAt,
}

/// A list as its bytes arrive.
pub struct SuppressedCsv<R> {
    rows: Rows<R>,
    columns: Vec<(Column, String)>,
    rules: Option<NumberRules>,
}

impl<R: AsyncRead + Unpin> SuppressedCsv<R> {
    /// Reads the header. Without `rules` every number must be in E.164.
    ///
    /// # Errors
    /// [`FileError::Refused`] where this is no such list, [`FileError::Read`] where the upload broke off.
    pub async fn open(upload: R, rules: Option<NumberRules>) -> Result<Self, FileError> {
        let mut rows = records(upload).await?;
        let first = rows.next().await?.ok_or_else(|| {
            FileError::refused("empty", "This file is empty. Its first line names the columns, one of them number.")
        })?;
        let columns = header::names(first)?.into_iter().map(column).collect::<Result<Vec<_>, _>>()?;
        for (at, (kind, name)) in columns.iter().enumerate() {
            if columns[..at].iter().any(|(other, _)| other == kind) {
                return Err(FileError::refused("duplicate_column", format!("Two columns hold the {name}. Keep one.")));
            }
        }
        if columns.iter().all(|(kind, _)| *kind != Column::Number) {
            return Err(FileError::refused(
                "no_number_column",
                format!("No column holds the number. Columns: {COLUMNS}."),
            ));
        }
        Ok(Self { rows, columns, rules })
    }

    /// The next rows of the file, at most `max`, each a row or a rejection; `None` at its end.
    ///
    /// # Errors
    /// [`FileError::Read`] where the upload broke off; rows that were not returned are lost.
    pub async fn next_batch(&mut self, max: usize) -> Result<Option<Vec<Result<SuppressedRow, Rejected>>>, FileError> {
        let mut batch = Vec::new();
        while batch.len() < max {
            let Some(record) = self.rows.next().await? else { break };
            let line = record.line();
            batch.push(read(record, &self.columns, self.rules.as_ref()).map_err(|fault| fault.at(line)));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

fn column(name: String) -> Result<(Column, String), FileError> {
    let kind = match name.to_lowercase().as_str() {
        "number" | "to" | "phone" => Column::Number,
        "source" => Column::Source,
        "note" => Column::Note,
        "expires_at" => Column::ExpiresAt,
        "evidence" => Column::Evidence,
        "evidence_url" => Column::EvidenceUrl,
        "evidence_at" => Column::EvidenceAt,
        "created_at" => Column::CreatedAt,
        _ => {
            let detail = format!("A suppression list has no column {name:?}. Columns: {COLUMNS}.");
            return Err(FileError::refused("unknown_column", detail));
        }
    };
    Ok((kind, name))
}

fn read(record: &Record, columns: &[(Column, String)], rules: Option<&NumberRules>) -> Result<SuppressedRow, Fault> {
    header::check_row(record, columns.len(), |index| columns.get(index).map_or("", |(_, name)| name))?;
    let mut row = SuppressedRow::default();
    for (index, (kind, name)) in columns.iter().enumerate() {
        let text = str::from_utf8(record.cell(index)).ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
            let text = String::from_utf8_lossy(record.cell(index));
            Fault::cell(name, "invalid_utf8", "This cell is not UTF-8. Save the file as “CSV UTF-8”.", &text)
        })?;
        let text = text.trim();
        let most = if *kind == Column::Source { SOURCE_LIMIT } else { TEXT_LIMIT };
        if text.chars().count() > most {
            return Err(Fault::cell(name, "invalid_length", format!("must have at most {most} characters"), text));
        }
        let given = Some(text.to_owned()).filter(|text| !text.is_empty());
        match kind {
            Column::Number => {
                row.number = key(text, rules).map_err(|(code, detail)| Fault::cell(name, code, detail, text))?;
            }
            Column::Source => row.source = given,
            Column::Note => row.note = given,
            Column::ExpiresAt => row.expires_at = time(name, text)?,
            Column::Evidence => row.evidence = given,
            Column::EvidenceUrl => {
                if given.is_some() && !Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                    return Err(Fault::cell(name, "invalid_url", "Write an http or https address.", text));
                }
                row.evidence_url = given;
            }
            Column::EvidenceAt => row.evidence_at = time(name, text)?,
            Column::CreatedAt => {}
        }
    }
    Ok(row)
}

/// The key of a number or a prefix.
fn key(text: &str, rules: Option<&NumberRules>) -> Result<String, (&'static str, String)> {
    if text.len() <= TEXT_MAX && text.starts_with('+') {
        let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.' | '/')).collect();
        let read = rules.filter(|_| !bare.ends_with('*')).and_then(|rules| rules.read(text).ok());
        // As it stands first: what a list bars need not be a number that may be dialed.
        return match (listed(&bare), read) {
            (Ok(()), _) => Ok(bare),
            (Err(_), Some(number)) => Ok(number.e164.into()),
            (Err(fault), None) => Err(fault),
        };
    }
    match rules {
        Some(rules) => {
            rules.read(text).map(|number| number.e164.into()).map_err(|error| (error.code(), error.to_string()))
        }
        None => {
            let detail = "The installation's list has no country: write numbers in E.164, such as +12025550123.";
            Err(("invalid_number", detail.to_owned()))
        }
    }
}

/// A moment, or the beginning of a day in UTC.
fn time(column: &str, text: &str) -> Result<Option<DateTime<Utc>>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let moment = Moment::read(text).ok_or_else(|| Fault::cell(column, "invalid_time", MOMENT, text))?;
    Ok(Some(moment.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rows(text: &str, region: Option<&str>) -> Vec<Result<SuppressedRow, Rejected>> {
        let rules = region.map(|region| NumberRules::new(region.parse().unwrap()));
        let mut list = SuppressedCsv::open(text.as_bytes(), rules).await.unwrap_or_else(|error| panic!("{error}"));
        list.next_batch(100).await.unwrap_or_else(|error| panic!("{error}")).unwrap_or_default()
    }

    #[tokio::test]
    async fn numbers_and_prefixes_are_read_as_people_write_them() {
        let text = "phone\n+1 (202) 555-0123\n+1900*\n+1 900 *\n(202) 555-0124\n+190055512345678901\n*\n+0123456\n12\n";
        let keys: Vec<_> = rows(text, Some("US")).await.into_iter().map(|row| row.map(|row| row.number)).collect();
        let read: Vec<&str> = keys.iter().filter_map(|key| key.as_deref().ok()).collect();
        assert_eq!(read, ["+12025550123", "+1900*", "+1900*", "+12025550124"]);
        let lines: Vec<u64> = keys.iter().filter_map(|key| key.as_ref().err().map(|row| row.line)).collect();
        assert_eq!(lines, [6, 7, 8, 9]);
        let without: Vec<_> = rows(text, None).await;
        assert_eq!(without.iter().filter(|row| row.is_ok()).count(), 3);
    }

    #[tokio::test]
    async fn a_row_has_its_terms_and_a_bad_time_is_named() {
        let text = "number,expires_at,evidence,evidence_url,evidence_at,source\n\
                    +12025550123,2027-01-02,said so,https://x.example/1,2026-11-22T08:00:00+01:00,crm\n+12025550124,tomorrow,,,,\n";
        let rows = rows(text, None).await;
        let first = rows[0].as_ref().unwrap_or_else(|row| panic!("{row:?}"));
        assert_eq!(first.expires_at.map(|at| at.to_rfc3339()).as_deref(), Some("2027-01-02T00:00:00+00:00"));
        assert_eq!(first.evidence_at.map(|at| at.to_rfc3339()).as_deref(), Some("2026-11-22T07:00:00+00:00"));
        assert_eq!((first.source.as_deref(), first.evidence.as_deref()), (Some("crm"), Some("said so")));
        let second = rows[1].as_ref().err().map(|row| (row.line, row.code.to_string(), row.column.clone()));
        assert_eq!(second, Some((3, "invalid_time".into(), Some("expires_at".into()))));
    }

    #[tokio::test]
    async fn a_file_without_numbers_or_with_a_column_of_its_own_is_refused() {
        for (text, code) in [
            ("", "empty"),
            ("note\nx\n", "no_number_column"),
            ("number,name\n+12025550123,x\n", "unknown_column"),
            ("number,phone\n1,2\n", "duplicate_column"),
            ("number;note\n", "wrong_delimiter"),
        ] {
            let refused = SuppressedCsv::open(text.as_bytes(), None).await.err();
            assert!(matches!(refused, Some(FileError::Refused { code: told, .. }) if told == code), "{text:?}");
        }
    }
}
