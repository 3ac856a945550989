//! Leads of a CSV file, in batches, as its bytes arrive.
//!
//! Invariant: memory does not grow with the file, and every row after the header ends as a lead or as a rejection.
//! Not here: what a cell may hold (`row`), which column is what (`header`), where records end (`record`).

use std::io::Cursor;

use tokio::io::{AsyncRead, AsyncReadExt, BufReader, Chain};

pub use super::header::FileError;
use super::{
    header::{self, Header},
    number::NumberRules,
    record::Records,
    row::Batch,
};

/// Bytes read from the upload at a time.
const READ_BYTES: usize = 64 * 1024;
/// A batch ends once its rows hold this many bytes, so that rows at the limit of their size do not add up.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The records of a file that is UTF-8 text by its first bytes.
pub(super) type Rows<R> = Records<BufReader<Chain<Cursor<Vec<u8>>, R>>>;

/// Begins to read a file; a byte order mark is passed over.
pub(super) async fn records<R: AsyncRead + Unpin>(mut upload: R) -> Result<Rows<R>, FileError> {
    let mut head = Vec::with_capacity(4);
    (&mut upload).take(4).read_to_end(&mut head).await?;
    header::refuse_foreign(&head)?;
    if head.starts_with("\u{feff}".as_bytes()) {
        head.drain(..3);
    }
    Ok(Records::new(BufReader::with_capacity(READ_BYTES, Cursor::new(head).chain(upload))))
}

/// The leads of one file.
pub struct CsvLeads<R> {
    records: Rows<R>,
    header: Header,
    rules: NumberRules,
}

impl<R: AsyncRead + Unpin> CsvLeads<R> {
    /// Reads the header. A file with a header and no rows is a list of none.
    ///
    /// # Errors
    /// [`FileError::Refused`] where this is no list of leads: then nothing may be stored.
    /// [`FileError::Read`] where the upload broke off.
    pub async fn open(upload: R, rules: NumberRules) -> Result<Self, FileError> {
        let mut records = records(upload).await?;
        let header = Header::read(records.next().await?.ok_or_else(header::empty)?)?;
        Ok(Self { records, header, rules })
    }

    /// The next rows of the file, at most `max` (at least one); `None` at its end.
    ///
    /// # Errors
    /// [`FileError::Read`] where the upload broke off; rows that were not returned are lost.
    pub async fn next_batch(&mut self, max: usize) -> Result<Option<Batch>, FileError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.rows() < max.max(1) && bytes < BATCH_BYTES {
            let Some(record) = self.records.next().await? else { break };
            bytes += record.bytes();
            batch.push(record.line(), self.header.draft(record).and_then(|draft| draft.into_lead(&self.rules)));
        }
        Ok((batch.rows() > 0).then_some(batch))
    }
}
