//! How answers are printed: a table for people, JSON for programs, a line of progress on a terminal only.

use std::{
    io::{ErrorKind, Write},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{clock::Time, leads::mask};

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Form {
    /// Print JSON for programs: stable names, ids as text, times in RFC 3339 with milliseconds and Z.
    #[arg(long)]
    pub(super) json: bool,
}

impl Form {
    /// Prints `answer` as JSON, or what `table` makes of it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn print<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        self.write(std::io::stdout().lock(), answer, table)
    }

    /// The same into `out`.
    ///
    /// # Errors
    /// Where it cannot be written. A reader who has seen enough and is gone (`| head`) is none.
    pub(super) fn write<T: Serialize>(
        self,
        mut out: impl Write,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(answer)? } else { table(answer) };
        match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the answer cannot be written"),
            _ => Ok(()),
        }
    }
}

/// A list as the API writes one.
#[derive(Debug, Serialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    /// What to give as `--after` for the next page; null on the last.
    pub(super) next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that is whole.
    pub(super) fn whole(data: Vec<T>) -> Self {
        Self { data, next_cursor: None }
    }

    /// The page of `rows`, which were read one further than `limit`; `id` names where the next one begins.
    pub(super) fn page(mut rows: Vec<T>, limit: usize, id: impl Fn(&T) -> String) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(id);
        Self { data: rows, next_cursor }
    }

    /// The line below a table that is not the last page.
    pub(super) fn more(&self) -> String {
        let next = self.next_cursor.as_ref();
        next.map(|cursor| format!("\nThere are more: --after {cursor}")).unwrap_or_default()
    }
}

/// A table with these headings, as wide as the terminal.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings).add_rows(rows);
    table.to_string()
}

/// A cell of a value that may be absent.
pub(super) fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A time to the second, for a table.
pub(super) fn moment(time: Time) -> String {
    time.0.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A number of a person in a list: whole numbers are shown only of the one record that was asked for.
pub(super) fn masked(number: &str) -> String {
    mask(number)
}

/// Says what takes its time, on a terminal only; cleared by `finish_and_clear`.
pub(super) fn waiting(what: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

/// A bar over bytes that are read, on a terminal only; cleared by `finish_and_clear`.
///
/// # Errors
/// Never, as long as its template is one.
pub(super) fn reading(bytes: u64) -> anyhow::Result<ProgressBar> {
    bar(bytes, "{bytes}/{total_bytes}", "")
}

/// A bar over `all` of what is named, on a terminal only; cleared by `finish_and_clear`.
///
/// # Errors
/// Never, as long as its template is one.
pub(super) fn counting(all: usize, what: &'static str) -> anyhow::Result<ProgressBar> {
    bar(u64::try_from(all)?, "{pos}/{len} {msg}", what)
}

fn bar(all: u64, counts: &str, what: &'static str) -> anyhow::Result<ProgressBar> {
    let template = format!("  {{elapsed_precise}} [{{bar:40.cyan/blue}}] {counts} · {{eta}} left");
    let style = ProgressStyle::with_template(&template)?.progress_chars("=> ");
    Ok(ProgressBar::new(all).with_style(style).with_message(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_have_templates_that_can_be_read() {
        assert_eq!(reading(7).unwrap().length(), Some(7));
        assert_eq!(counting(8, "jobs").unwrap().length(), Some(8));
    }

    #[test]
    fn a_reader_who_is_gone_is_no_failure_and_a_full_disk_is_one() {
        struct Fails(ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = |kind| Form { json: true }.write(Fails(kind), &"answer", |_| String::new());
        written(ErrorKind::BrokenPipe).unwrap();
        assert_eq!(written(ErrorKind::StorageFull).unwrap_err().to_string(), "the answer cannot be written");
    }

    #[test]
    fn a_page_names_where_the_next_begins_only_if_there_is_one() {
        let page = |rows: Vec<i32>| List::page(rows, 2, ToString::to_string);
        assert_eq!((page(vec![1, 2, 3]).data, page(vec![1, 2, 3]).next_cursor), (vec![1, 2], Some("2".into())));
        assert_eq!((page(vec![1, 2]).data, page(vec![1, 2]).next_cursor), (vec![1, 2], None));
    }
}
