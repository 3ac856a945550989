//! Records of a CSV file (RFC 4180) as its bytes arrive.
//!
//! Invariant: whatever the file holds, no more than a fixed number of bytes of it is kept: a cell or a record past
//! its limit is read to its end and marked, not stored.
//! Not here: what the cells mean.

use std::io;

use csv_core::ReadFieldResult;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The most bytes of one cell.
pub(super) const CELL_MAX: usize = 64 * 1024;
/// The most bytes of all cells of one record.
pub(super) const RECORD_MAX: usize = 256 * 1024;
/// The most cells of one record that are kept; further ones are counted.
pub(super) const CELLS_MAX: usize = 512;

/// One record, valid until the next is read.
#[derive(Debug, Default)]
pub(super) struct Record {
    line: u64,
    text: Vec<u8>,
    ends: Vec<usize>,
    cells: usize,
    large_cell: Option<usize>,
    too_large: bool,
    unclosed_quote: bool,
}

impl Record {
    /// The physical line in which the record begins, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// How many cells it has, kept or not.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The first cell over [`CELL_MAX`], by its place.
    pub(super) fn large_cell(&self) -> Option<usize> {
        self.large_cell
    }

    /// The record is over [`RECORD_MAX`].
    pub(super) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// The file ended inside a quoted cell.
    pub(super) fn has_unclosed_quote(&self) -> bool {
        self.unclosed_quote
    }

    /// The bytes of a cell, empty where there is none.
    pub(super) fn cell(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1).copied().unwrap_or(usize::MAX) };
        self.ends.get(index).and_then(|end| self.text.get(start..*end)).unwrap_or_default()
    }

    fn begin(&mut self, line: u64) {
        self.text.clear();
        self.ends.clear();
        *self = Self {
            line,
            text: std::mem::take(&mut self.text),
            ends: std::mem::take(&mut self.ends),
            ..Self::default()
        };
    }

    fn add(&mut self, bytes: &[u8]) {
        let start = self.ends.last().copied().unwrap_or(0);
        if self.text.len() - start + bytes.len() > CELL_MAX {
            self.large_cell.get_or_insert(self.cells);
        } else if self.text.len() + bytes.len() > RECORD_MAX {
            self.too_large = true;
        } else if self.cells < CELLS_MAX && self.large_cell.is_none() {
            self.text.extend_from_slice(bytes);
        }
    }

    fn end_cell(&mut self) {
        self.cells += 1;
        if self.cells <= CELLS_MAX {
            self.ends.push(self.text.len());
        }
    }
}

/// Reads records from `source`.
pub(super) struct Records<R> {
    source: R,
    machine: csv_core::Reader,
    scratch: Box<[u8]>,
    lines: Lines,
    record: Record,
}

impl<R: AsyncBufRead + Unpin> Records<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            machine: csv_core::Reader::new(),
            scratch: vec![0; 8 * 1024].into_boxed_slice(),
            lines: Lines { at: 1, after_cr: false },
            record: Record::default(),
        }
    }

    /// The next record; empty lines are none. `None` at the end of the file.
    pub(super) async fn next(&mut self) -> io::Result<Option<&Record>> {
        if !self.skip_empty_lines().await? {
            return Ok(None);
        }
        self.record.begin(self.lines.at);
        let mut quotes = Quotes::default();
        loop {
            let bytes = self.source.fill_buf().await?;
            let at_end = bytes.is_empty();
            let (result, used, written) = self.machine.read_field(bytes, &mut self.scratch);
            self.lines.pass(&bytes[..used]);
            quotes.pass(&bytes[..used]);
            self.source.consume(used);
            self.record.add(&self.scratch[..written]);
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { record_end } => {
                    self.record.unclosed_quote |= at_end && quotes.are_open();
                    self.record.end_cell();
                    quotes = Quotes::default();
                    if record_end {
                        return Ok(Some(&self.record));
                    }
                }
                ReadFieldResult::End => return Ok(None),
            }
        }
    }

    /// Passes line ends before a record, so that its line is where its text begins. False at the end of the file.
    async fn skip_empty_lines(&mut self) -> io::Result<bool> {
        loop {
            let bytes = self.source.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let empty = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            let all_empty = empty == bytes.len();
            self.lines.pass(&bytes[..empty]);
            self.source.consume(empty);
            if !all_empty {
                return Ok(true);
            }
        }
    }
}

/// Counts physical lines, ended by CR, LF or both, over chunks that may part a CR from its LF.
struct Lines {
    at: u64,
    after_cr: bool,
}

impl Lines {
    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.at += u64::from(*byte == b'\r' || (*byte == b'\n' && !self.after_cr));
            self.after_cr = *byte == b'\r';
        }
    }
}

/// Whether a cell that begins with a quotation mark has been closed: then it holds an even number of them.
#[derive(Default)]
struct Quotes {
    begun: bool,
    quoted: bool,
    odd: bool,
}

impl Quotes {
    fn pass(&mut self, bytes: &[u8]) {
        if let (false, Some(first)) = (self.begun, bytes.first()) {
            self.begun = true;
            self.quoted = *first == b'"';
        }
        if self.quoted {
            self.odd ^= bytes.iter().filter(|b| **b == b'"').count() % 2 == 1;
        }
    }

    fn are_open(&self) -> bool {
        self.quoted && self.odd
    }
}
