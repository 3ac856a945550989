//! CSV files out, a part at a time.
//!
//! Invariant: a cell never begins with a character that a spreadsheet would take for a formula, and memory does not grow with
//! the file.
//! Not here: which rows and columns (each route's own).

use std::borrow::Cow;

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures::Stream;

use crate::stores::tenant;

/// What a spreadsheet would run (OWASP, "CSV Injection"): a tab or line end may hide one of the others.
const FORMULA_STARTS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A cell that stays text in a spreadsheet.
#[must_use]
pub fn cell(text: &str) -> Cow<'_, str> {
    if text.starts_with(FORMULA_STARTS) { format!("'{text}").into() } else { text.into() }
}

/// Rows as CSV text (RFC 4180).
///
/// # Errors
/// None in practice: memory takes every row.
pub fn lines<C: AsRef<[u8]>>(rows: impl IntoIterator<Item = Vec<C>>) -> anyhow::Result<Bytes> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?.into())
}

/// The answer that saves itself as `name`. A part that fails breaks the transfer off, so that half a file is seen as half.
pub fn file(name: &str, parts: impl Stream<Item = anyhow::Result<Bytes>> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, Body::from_stream(tenant::carried_stream(parts))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_like_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        for text in ["", "a=1", "'=1", " =1", "ü"] {
            assert_eq!(cell(text), text);
        }
    }
}
