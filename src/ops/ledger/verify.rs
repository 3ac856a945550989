//! `rollcall-ops ledger verify`: is this file what was exported, and does it keep the promises?

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{
    carrier,
    chain::Chain,
    record::{Ledger, Record, VERSION},
    rules::{self, Found, Told},
};
use crate::{
    config::Settings,
    ops::{
        exit, open,
        print::{Form, counting, reading, table},
    },
};

/// Exit codes of this command.
pub(super) const AFTER_HELP: &str = "\
Without --carrier nothing but the file is read. With it the settings of the programs are needed: every call id of the file is
looked up in the carrier's own list, and every call that the carrier lists to a number of the run must be one that the
ledger knows.

Exit codes:
  0   it is sound
  1   it could not be checked; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read
  4   it was changed, or shows a broken promise; each line that gives it away is named
  64  with --carrier: settings contradict each other, or ROLLCALL_SEALING_KEY is missing";

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A file that `ledger export` wrote.
    file: PathBuf,
    /// The head that the export printed.
    #[arg(long)]
    head: Option<String>,
    /// Compare with the carrier's own list.
    #[arg(long)]
    carrier: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Verdict {
    sound: bool,
    lines: u64,
    attempts: usize,
    transitions: usize,
    head: String,
    /// Calls that the carrier was asked about; null without `--carrier`.
    calls_at_carrier: Option<usize>,
    faults: Vec<Fault>,
}

/// A line that gives something away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Fault {
    line: u64,
    what: String,
}

/// Checks the file and prints what was found.
///
/// # Errors
/// Where the file cannot be read, or the carrier or a store does not answer.
pub(crate) async fn verify(order: Verify) -> anyhow::Result<u8> {
    let read = Read::file(&order.file).with_context(|| order.file.display().to_string())?;
    let mut found = read.faults(order.head.as_deref());
    let mut calls_at_carrier = None;
    if order.carrier {
        let ctx = open::context(order.settings)?;
        let Some(ledger) = &read.ledger else { anyhow::bail!("without its first line the file names no business") };
        let bar = counting(read.told.len(), "attempts compared with the carrier's list")?;
        let (calls, more) = carrier::compare(&ctx, ledger, &read.told, || bar.inc(1)).await?;
        bar.finish_and_clear();
        found.extend(more);
        calls_at_carrier = Some(calls);
    }
    let mut faults: Vec<Fault> = found.into_iter().map(|(line, what)| Fault { line, what }).collect();
    faults.sort_unstable();
    let verdict = Verdict {
        sound: faults.is_empty(),
        lines: read.lines,
        attempts: read.told.len(),
        transitions: read.told.iter().map(|one| one.steps.len()).sum(),
        head: read.chain.head().to_owned(),
        calls_at_carrier,
        faults,
    };
    order.form.print(&verdict, text)?;
    Ok(if verdict.sound { exit::OK } else { exit::BROKEN })
}

/// A file as it was read.
struct Read {
    lines: u64,
    chain: Chain,
    ledger: Option<Ledger>,
    told: Vec<Told>,
    /// Faults of the chain and of the order of its lines, and what the last line says of the rest.
    found: Found,
    ended: bool,
}

impl Read {
    fn file(path: &Path) -> anyhow::Result<Self> {
        let mut read =
            Self { lines: 0, chain: Chain::new(), ledger: None, told: Vec::new(), found: Found::new(), ended: false };
        let file = File::open(path)?;
        let bar = reading(file.metadata()?.len())?;
        for line in BufReader::new(bar.wrap_read(file)).split(b'\n') {
            read.line(&String::from_utf8_lossy(&line?));
        }
        bar.finish_and_clear();
        Ok(read)
    }

    fn line(&mut self, text: &str) {
        self.lines += 1;
        let line = self.lines;
        if let Some(what) = self.chain.read(text) {
            self.found.push((line, what));
        }
        if self.ended {
            self.found.push((line, "it stands behind the end".into()));
        }
        let Ok(record) = serde_json::from_str::<Record>(text) else {
            self.found.push((line, "it is neither an attempt nor a transition nor the beginning or end".into()));
            return;
        };
        match record {
            Record::Ledger(ledger) => {
                if line != 1 || ledger.version != VERSION {
                    self.found.push((line, format!("a ledger of version {VERSION} begins at line 1 only")));
                }
                self.ledger.get_or_insert(ledger);
            }
            Record::Attempt(dial) => self.told.push(Told { line, dial, steps: Vec::new() }),
            Record::Transition(step) => {
                match self.told.last_mut().filter(|told| told.dial.attempt_id == step.attempt_id) {
                    Some(told) => told.steps.push((line, step)),
                    None => {
                        self.found.push((line, "it is a transition of another attempt than the one before it".into()))
                    }
                }
            }
            Record::End(end) => {
                self.ended = true;
                rules::ending(&self.told, line, &end, &mut self.found);
            }
        }
    }

    fn faults(&self, head: Option<&str>) -> Found {
        let mut found = self.found.clone();
        match &self.ledger {
            Some(ledger) => found.extend(rules::broken(&self.told, ledger.at)),
            None => found.push((1, "it is not the beginning of a ledger: that was removed".into())),
        }
        if !self.ended {
            found.push((self.lines, "the file ends here, without its last line: it was cut off".into()));
        }
        if head.is_some_and(|head| !head.trim().eq_ignore_ascii_case(self.chain.head())) {
            found.push((self.lines, "its hash is not the head that was given: this is another file".into()));
        }
        found
    }
}

fn text(verdict: &Verdict) -> String {
    let asked = verdict.calls_at_carrier.map(|calls| format!(", {calls} calls at the carrier"));
    let counts = format!(
        "{} lines, {} attempts, {} transitions{}, head {}",
        verdict.lines,
        verdict.attempts,
        verdict.transitions,
        asked.unwrap_or_default(),
        verdict.head
    );
    if verdict.sound {
        return format!("Sound: {counts}");
    }
    let rows = verdict.faults.iter().map(|fault| [fault.line.to_string(), fault.what.clone()]);
    format!("NOT sound: {counts}\n{}", table(["line", "what is wrong"], rows))
}
