//! `rollcall-ops import`: a CSV file into a run, by the same flow as the API's.

use std::{
    io::{self, Seek},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    config::Settings,
    dialing::import::{self, Imported, Upload},
    ids::{ImportId, RunId},
    jobs::queue::{Bells, Why},
    leads::store,
    ops::{
        exit, open,
        print::{Form, cell, reading, table},
    },
    runs::{RunState, find},
};

/// Rejected rows that a table shows; all of them are in `rejected.csv`.
const SHOWN: usize = 10;

/// Exit codes of this command.
pub(super) const AFTER_HELP: &str = "\
The list goes in as a whole or not at all. Duplicates and suppressed numbers are counted and left out; rows that cannot
be called are rejected, and `GET /v1/runs/{id}/rejected.csv` lists every one of them with its reason.

Exit codes:
  0   it is in, and no row was rejected
  1   nothing was stored; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read
  3   it is in, and some rows were rejected";

/// What goes where.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The run, which must not be over.
    run: RunId,
    /// A CSV file with a column `to` or `phone`; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// Puts the file into the run and rings where that is running.
///
/// # Errors
/// Where the file cannot be read, the run takes no list, or Postgres does not answer; then nothing is stored.
pub(super) async fn import(order: Import) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let Some(business) = find::business_of(&stores.pg, order.run).await? else {
        anyhow::bail!("there is no run {}", order.run);
    };
    let file = whole(&order.file).await.with_context(|| order.file.display().to_string())?;
    let bar = reading(file.metadata().await?.len())?;
    let upload = Upload::Csv(Counted { file, bar: bar.clone() });
    let import = store::Import { id: ImportId::new(), run: order.run, business };
    let done = import::into_run(&stores.pg, import, None, upload).await;
    bar.finish_and_clear();
    let (imported, state) = done.map_err(open::plain)?;
    if state == RunState::Running
        && let Err(error) = Bells::new(&stores).ring(business, Why::Work).await
    {
        tracing::warn!(error = format!("{error:#}"), "the bell could not be rung; the sweep will");
    }
    order.form.print(&imported, text)?;
    Ok(if imported.rejected > 0 { exit::FOUND } else { exit::OK })
}

/// The file, or standard input written to one: no connection to Postgres waits for whoever writes the list.
async fn whole(path: &Path) -> io::Result<tokio::fs::File> {
    if path != Path::new("-") {
        return tokio::fs::File::open(path).await;
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        file.rewind()?;
        io::Result::Ok(file)
    });
    Ok(tokio::fs::File::from_std(read.await.map_err(io::Error::other)??))
}

/// A file that moves the bar as it is read.
struct Counted {
    file: tokio::fs::File,
    bar: ProgressBar,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.file).poll_read(cx, buf);
        self.bar.inc(u64::try_from(buf.filled().len() - before).unwrap_or(0));
        read
    }
}

fn text(imported: &Imported) -> String {
    let counts = [imported.rows, imported.accepted, imported.duplicates, imported.suppressed, imported.rejected];
    let counts = table(["rows", "accepted", "duplicates", "suppressed", "rejected"], [counts.map(|n| n.to_string())]);
    if imported.errors.is_empty() {
        return counts;
    }
    let rows = imported
        .errors
        .iter()
        .take(SHOWN)
        .map(|row| [row.line.to_string(), cell(row.column.as_ref()), row.code.to_string(), row.detail.clone()]);
    let rejected = table(["line", "column", "code", "what is wrong"], rows);
    format!("{counts}\n{rejected}\nAll rejected rows: GET {}", imported.rejected_url)
}
