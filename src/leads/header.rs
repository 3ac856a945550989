//! The first line of a file: which column is what, and whether this is a list at all.
//!
//! Invariant: a file that cannot be read as a list is refused here, before any row of it is judged.

use std::{collections::HashSet, io};

use serde_json::Value;

use super::{
    record::{CELL_MAX, CELLS_MAX, RECORD_MAX, Record},
    row::{Draft, Fault, bad_priority, name_fault, shown},
};

/// Why a file is no list of leads, or could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file as a whole is refused; nothing of it may be stored.
    #[error("{detail}")]
    Refused {
        /// A word that programs may decide by, e.g. `no_phone_column`.
        code: &'static str,
        /// A sentence for people: what is wrong and what to do.
        detail: String,
    },
    /// The bytes stopped arriving.
    #[error("the upload broke off")]
    Read(#[from] io::Error),
}

impl FileError {
    pub(super) fn refused(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused { code, detail: detail.into() }
    }
}

/// Knows a file that is not UTF-8 text by its first bytes (the magic numbers of its format).
pub(super) fn refuse_foreign(head: &[u8]) -> Result<(), FileError> {
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Err(utf16());
    }
    if head.starts_with(&[0x1f, 0x8b]) {
        return Err(FileError::refused("gzip", "This file is compressed with gzip. Unpack it and send the CSV."));
    }
    // Zip (an .xlsx is one) and the container of an old .xls.
    if head.starts_with(b"PK\x03\x04") || head.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        let detail = "This is a spreadsheet or zip file. Save the sheet as “CSV UTF-8” and send that.";
        return Err(FileError::refused("spreadsheet", detail));
    }
    Ok(())
}

fn utf16() -> FileError {
    FileError::refused("utf16", "This file is in UTF-16. Save it as “CSV UTF-8” and send that.")
}

/// A file without a single line.
pub(super) fn empty() -> FileError {
    FileError::refused("empty", "This file is empty. Its first line names the columns, one of them to or phone.")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    To,
    ExternalId,
    TimeZone,
    Priority,
    NotBefore,
    NotAfter,
    Variable,
    /// A column without a name, such as a trailing comma makes: its cells must be empty.
    Unnamed,
}

/// What each column of the file holds.
#[derive(Debug)]
pub(super) struct Header {
    columns: Vec<(Kind, String)>,
}

impl Header {
    /// Reads the header from the file's first record.
    pub(super) fn read(record: &Record) -> Result<Self, FileError> {
        let columns: Vec<_> = names(record)?.iter().map(|name| column(name)).collect();
        check_names(&columns)?;
        Ok(Self { columns })
    }

    /// The cells of a row, each in its place.
    pub(super) fn draft<'a>(&'a self, record: &'a Record) -> Result<Draft<'a>, Fault> {
        check_row(record, self.columns.len(), |index| self.columns.get(index).map_or("", |(_, name)| name))?;
        let mut draft = Draft::default();
        for (index, (kind, name)) in self.columns.iter().enumerate() {
            let cell = str::from_utf8(record.cell(index)).map_err(|_| {
                let text = String::from_utf8_lossy(record.cell(index));
                Fault::cell(name, "invalid_utf8", "This cell is not UTF-8. Save the file as “CSV UTF-8”.", &text)
            })?;
            let trimmed = Some(cell.trim()).filter(|text| !text.is_empty());
            match kind {
                Kind::To => (draft.to_column, draft.to) = (name, cell),
                Kind::ExternalId => draft.external_id = trimmed,
                Kind::TimeZone => draft.time_zone = trimmed,
                Kind::Priority => {
                    let priority = trimmed.map_or(Ok(0), str::parse);
                    draft.priority = priority.map_err(|_| bad_priority(cell))?;
                }
                Kind::NotBefore => draft.not_before = trimmed,
                Kind::NotAfter => draft.not_after = trimmed,
                Kind::Variable => {
                    draft.variables.insert(name.clone(), Value::String(cell.to_owned()));
                }
                Kind::Unnamed => {
                    if let Some(text) = trimmed {
                        let detail = format!("Column {} has no name in the header. Name it or empty it.", index + 1);
                        return Err(Fault::cell("", "unnamed_column", detail, text));
                    }
                }
            }
        }
        Ok(draft)
    }
}

/// The row's size and its number of cells.
pub(super) fn check_row<'a>(record: &Record, columns: usize, name: impl Fn(usize) -> &'a str) -> Result<(), Fault> {
    if record.has_unclosed_quote() {
        let detail = "A quotation mark in this row is never closed, and the file ends inside it. Close it.";
        return Err(Fault::row("unclosed_quote", detail));
    }
    if let Some(index) = record.large_cell() {
        let detail = format!(
            "A cell has at most {CELL_MAX} bytes. Shorten it, or look for a quotation mark that is not closed."
        );
        let start = String::from_utf8_lossy(record.cell(index));
        return Err(Fault::cell(name(index), "cell_too_large", detail, &start));
    }
    if record.is_too_large() {
        return Err(Fault::row("row_too_large", format!("A row has at most {RECORD_MAX} bytes. Shorten it.")));
    }
    let cells = record.cells();
    let code = match cells.cmp(&columns) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => "too_few_cells",
        std::cmp::Ordering::Greater => "too_many_cells",
    };
    let detail = format!(
        "This row has {cells} cells, the header {columns}. A comma inside a cell needs quotation marks around it."
    );
    Err(Fault::row(code, detail))
}

/// A NUL in the name of a column: in UTF-16 every other byte of a plain text is one.
fn nul(record: &Record, index: usize) -> FileError {
    let bytes = (0..record.cells()).flat_map(|index| record.cell(index));
    let (nuls, all) = bytes.fold((0, 0), |(nuls, all), byte| (nuls + usize::from(*byte == 0), all + 1));
    if nuls * 3 >= all {
        return utf16();
    }
    let detail = format!("The name of column {} holds a NUL character. Remove it.", index + 1);
    FileError::refused("nul_character", detail)
}

/// The names of the columns, as the first record has them.
pub(super) fn names(record: &Record) -> Result<Vec<String>, FileError> {
    check_size(record)?;
    let mut names = Vec::with_capacity(record.cells());
    for index in 0..record.cells() {
        if record.cell(index).contains(&0) {
            return Err(nul(record, index));
        }
        let name = str::from_utf8(record.cell(index)).map_err(|_| {
            FileError::refused("invalid_utf8", "The header line is not UTF-8. Save the file as “CSV UTF-8”.")
        })?;
        names.push(name.trim().to_owned());
    }
    if let [only] = names.as_slice() {
        check_delimiter(only)?;
    }
    Ok(names)
}

fn check_size(record: &Record) -> Result<(), FileError> {
    if record.has_unclosed_quote() {
        return Err(FileError::refused("unclosed_quote", "A quotation mark in the header is never closed. Close it."));
    }
    if record.large_cell().is_some() || record.is_too_large() {
        return Err(FileError::refused("header_too_large", "The first line is far too long for a header line."));
    }
    if record.cells() > CELLS_MAX {
        return Err(FileError::refused("too_many_columns", format!("A file has at most {CELLS_MAX} columns.")));
    }
    Ok(())
}

fn column(name: &str) -> (Kind, String) {
    let kind = match name.to_lowercase().as_str() {
        "" => Kind::Unnamed,
        "to" | "phone" => Kind::To,
        "external_id" => Kind::ExternalId,
        "time_zone" => Kind::TimeZone,
        "priority" => Kind::Priority,
        "not_before" => Kind::NotBefore,
        "not_after" => Kind::NotAfter,
        _ => Kind::Variable,
    };
    (kind, name.to_owned())
}

/// A file with one column may be one whose columns are separated by something else.
fn check_delimiter(only: &str) -> Result<(), FileError> {
    let found = [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")];
    match found.iter().find(|(mark, _)| only.contains(*mark)) {
        Some((_, marks)) => {
            let detail = format!("The columns are separated by {marks}. Separate them by commas.");
            Err(FileError::refused("wrong_delimiter", detail))
        }
        None => Ok(()),
    }
}

fn check_names(columns: &[(Kind, String)]) -> Result<(), FileError> {
    let phones: Vec<_> = columns.iter().filter(|(kind, _)| *kind == Kind::To).map(|(_, name)| name.as_str()).collect();
    if phones.is_empty() {
        let names: Vec<_> = columns.iter().take(20).map(|(_, name)| shown(name)).collect();
        let detail = format!("No column is named to or phone. The header names: {}.", names.join(", "));
        return Err(FileError::refused("no_phone_column", detail));
    }
    if phones.len() > 1 {
        let detail = format!("More than one column holds the number: {}. Keep one.", phones.join(", "));
        return Err(FileError::refused("ambiguous_phone_column", detail));
    }
    let mut seen = HashSet::new();
    for (kind, name) in columns.iter().filter(|(kind, _)| *kind != Kind::Unnamed) {
        if let Some(detail) = name_fault(name) {
            return Err(FileError::refused("invalid_name", format!("{}: {detail}", shown(name))));
        }
        // The names of our own columns are read in any case, those of variables as written.
        let key = if *kind == Kind::Variable { name.clone() } else { name.to_lowercase() };
        if !seen.insert(key) {
            let detail = format!("Two columns are named {}. Rename one.", shown(name));
            return Err(FileError::refused("duplicate_column", detail));
        }
    }
    Ok(())
}
