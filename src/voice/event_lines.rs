//! The lines of server-sent events, one at a time and whole, out of reads that cut them anywhere.
//!
//! Source: WHATWG HTML, "Server-sent events", 9.2.6: a mark of the byte order may come first, a line ends in `\n`, `\r\n` or `\r`, and
//! what is no UTF-8 is replaced. `eventsource-stream` panics at the mark, has no limit, keeps what is no UTF-8 for ever, and looks
//! at all that it holds with each read: whoever hands it whole lines lets it look at each byte once.

use axum::body::Bytes;
use futures::{Stream, TryStreamExt, stream};

use crate::voice::link::MOST_BYTES;

/// The lines of `bytes`, each with its end. It fails where an event has no end within [`MOST_BYTES`].
pub(super) fn lines<E: Into<anyhow::Error>>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> impl Stream<Item = anyhow::Result<String>> {
    stream::try_unfold((bytes, Lines::default()), async |(mut bytes, mut lines)| {
        loop {
            if let Some(line) = lines.next()? {
                return Ok(Some((line, (bytes, lines))));
            }
            match bytes.try_next().await.map_err(Into::into)? {
                Some(read) => lines.read = read,
                // A line without its end is nothing.
                None => return Ok(None),
            }
        }
    })
}

#[derive(Default)]
struct Lines {
    /// What of the last read was not looked at.
    read: Bytes,
    /// A line whose end was not read.
    line: Vec<u8>,
    /// Bytes of the event so far.
    event: usize,
    any: bool,
    /// The last line ended in `\r`: a `\n` belongs to it.
    returned: bool,
}

impl Lines {
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let end = self.read.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let part = self.read.split_to(end.map_or(self.read.len(), |at| at + 1));
        self.event += part.len();
        anyhow::ensure!(self.event <= MOST_BYTES, "an event of it is longer than {MOST_BYTES} bytes");
        self.line.extend_from_slice(&part);
        if end.is_none() {
            return Ok(None);
        }
        let blank = self.line == b"\r" || (self.line == b"\n" && !self.returned);
        if blank {
            self.event = 0;
        }
        self.returned = self.line.ends_with(b"\r");
        let mut line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if !std::mem::replace(&mut self.any, true) {
            line = line.trim_start_matches('\u{feff}').to_owned();
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use eventsource_stream::Eventsource;
    use futures::StreamExt;

    use super::*;

    fn reads<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> impl Stream<Item = anyhow::Result<Bytes>> + Unpin {
        let reads: Vec<_> = reads.into_iter().map(|read| Ok(Bytes::copy_from_slice(read))).collect();
        stream::iter(reads)
    }

    async fn events<'a>(of: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let events = lines(reads(of)).eventsource();
        events.map(|event| event.unwrap().data).collect().await
    }

    #[tokio::test]
    async fn a_byte_order_mark_at_the_beginning_is_no_part_of_the_first_event() {
        assert_eq!(events([b"\xef\xbb".as_slice(), b"\xbfdata: a\n\n"]).await, ["a"]);
        assert_eq!(events(["\u{feff}\u{feff}data: a\n\n".as_bytes()]).await, ["a"]);
        assert_eq!(events(["data: \u{feff}a\n\n".as_bytes()]).await, ["\u{feff}a"], "elsewhere it is a letter");
    }

    #[tokio::test]
    async fn events_are_the_same_wherever_reads_cut_them_and_however_their_lines_end() {
        let all = "data: a\r\ndata: é\r\n\r\n: a comment\n\ndata: b\r\rdata: c\n\ndata: d\r\n\r\n".as_bytes();
        for size in 1..all.len() {
            assert_eq!(events(all.chunks(size)).await, ["a\né", "b", "c", "d"], "in reads of {size}");
        }
    }

    #[tokio::test]
    async fn a_line_is_handed_on_once_and_whole() {
        let lines: Vec<_> = lines(reads(b"data: ab\n\nda".chunks(1))).try_collect().await.unwrap();
        assert_eq!(lines, ["data: ab\n", "\n"]);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_spoil_only_their_own_event() {
        assert_eq!(
            events([b"data: a\n\ndata: \xff\xfe\n\ndata: b\n\n".as_slice()]).await,
            ["a", "\u{fffd}\u{fffd}", "b"]
        );
    }

    #[tokio::test]
    async fn an_event_without_an_end_fails_within_its_limit_and_many_short_ones_never() {
        for (line, fails) in [("xxxxxxxx", true), ("data: x\r\n", true), ("data: x\r\n\r\n", false), ("x\n\n", false)] {
            let most = 2 * MOST_BYTES / line.len();
            let mut read = 0;
            let reads = stream::repeat_with(|| anyhow::Ok(Bytes::from(line))).take(most).inspect(|_| read += 1);
            let ended = lines(reads).try_for_each(async |_| Ok(())).await;
            assert_eq!(ended.is_err(), fails, "{line:?}");
            let limit = if fails { MOST_BYTES / line.len() + 1 } else { most };
            assert_eq!(read, limit, "{line:?}");
        }
    }
}
