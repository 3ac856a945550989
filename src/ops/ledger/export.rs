//! `rollcall-ops ledger export`: a run's ledger as it was at one moment.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use sqlx::PgTransaction;

use super::{
    chain::Chain,
    record::{Dial, End, Ledger, Record, Transition, VERSION},
};
use crate::{
    attempts::export::{self, Exported},
    config::Settings,
    ids::RunId,
    jobs::results,
    ops::{
        exit, open,
        print::{Form, counting, masked},
    },
    runs::find,
};

/// Attempts read at once.
const PART: i64 = 2_000;

/// Exit codes of this command.
pub(super) const AFTER_HELP: &str = "\
Each line ends with its own hash (SHA-256 over its text before `,\"hash\":\"`) and carries the hash of the line before it. Keep
the last one, the head, apart from the file: who has it can prove that even a file made anew from the first line is another.

Exit codes:
  0   it is written
  1   it failed; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read";

/// What goes where.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The run; of one that still dials, what there is now.
    #[arg(long)]
    run: RunId,
    /// The file to write; without it the lines go to standard output, and what was written is said on standard error.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the whole numbers of the people called.
    #[arg(long)]
    numbers: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    run_id: RunId,
    attempts: u64,
    transitions: u64,
    head: String,
}

/// Writes the file.
///
/// # Errors
/// Where there is no such run, Postgres does not answer, or the file cannot be written.
pub(crate) async fn export(order: Export) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let Some(business_id) = find::business_of(&stores.pg, order.run).await? else {
        anyhow::bail!("there is no run {}", order.run);
    };
    let out: Box<dyn Write + Send> = match &order.out {
        Some(path) => {
            Box::new(std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?)
        }
        None => Box::new(io::stdout()),
    };
    let mut file = File { out: BufWriter::new(out), chain: Chain::new(), attempts: 0, transitions: 0 };
    let (mut tx, at) = export::moment(&stores.pg).await?;
    file.add(&Record::Ledger(Ledger { version: VERSION, run_id: order.run, business_id, at }))?;
    let jobs = jobs(&mut tx, order.run).await?;
    let bar = bar(&jobs, order.out.is_some())?;
    let mut after = None;
    loop {
        let part = export::page(&mut tx, order.run, after, PART).await?;
        let Some(last) = part.last() else { break };
        // The attempts of a job follow each other, from the first on.
        bar.inc(part.iter().filter(|attempt| attempt.n == 1).count() as u64);
        after = Some((last.job_id, last.n));
        for attempt in part {
            file.attempt(attempt, order.numbers)?;
        }
    }
    tx.commit().await?;
    bar.finish_and_clear();
    let written = file.end(order.run, jobs)?;
    if order.out.is_some() {
        order.form.print(&written, text)?;
    } else {
        // The ledger itself goes to standard output.
        order.form.write(std::io::stderr().lock(), &written, text)?;
    }
    Ok(exit::OK)
}

/// A bar over the jobs that may have been dialed; those that were cancelled before it are among them, and it ends early by
/// as many. Where the lines themselves go to a terminal there is none: it would stand between them.
fn bar(jobs: &BTreeMap<String, i64>, to_a_file: bool) -> anyhow::Result<ProgressBar> {
    if !to_a_file && io::stdout().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let dialed = jobs.iter().filter(|(state, _)| state.as_str() != "skipped" && state.as_str() != "queued");
    counting(usize::try_from(dialed.map(|(_, count)| *count).sum::<i64>())?, "jobs written")
}

async fn jobs(tx: &mut PgTransaction<'_>, run: RunId) -> sqlx::Result<BTreeMap<String, i64>> {
    Ok(results::counted(tx, run).await?.into_iter().collect())
}

/// The file, as far as it is written.
struct File {
    out: BufWriter<Box<dyn Write + Send>>,
    chain: Chain,
    attempts: u64,
    transitions: u64,
}

impl File {
    fn add(&mut self, record: &Record) -> anyhow::Result<()> {
        writeln!(self.out, "{}", self.chain.add(record)?).context("the ledger cannot be written")
    }

    fn attempt(&mut self, attempt: Exported, whole_numbers: bool) -> anyhow::Result<()> {
        let shown = |number: &str| if whole_numbers { number.to_owned() } else { masked(number) };
        let mut steps = Vec::new();
        for event in attempt.events.as_array().into_iter().flatten() {
            let mut step = event.clone();
            step["attempt_id"] = attempt.attempt_id.to_string().into();
            let step: Transition = serde_json::from_value(step)
                .with_context(|| format!("attempt {} has a transition of another shape", attempt.attempt_id))?;
            steps.push(step);
        }
        self.attempts += 1;
        self.transitions += u64::try_from(steps.len())?;
        self.add(&Record::Attempt(Dial {
            attempt_id: attempt.attempt_id,
            job_id: attempt.job_id,
            n: attempt.n,
            carrier: attempt.carrier,
            account: attempt.account,
            call_id: attempt.carrier_call_id,
            from: shown(&attempt.from_number),
            to: shown(&attempt.to_number),
            slot: attempt.slot,
            line_held: attempt.line,
            state: attempt.state,
            disposition: attempt.disposition,
            reason: attempt.reason,
            intent_at: attempt.intent_at,
            ended_at: attempt.ended_at,
            transitions: steps.len(),
        }))?;
        steps.into_iter().try_for_each(|step| self.add(&Record::Transition(step)))
    }

    fn end(mut self, run_id: RunId, jobs: BTreeMap<String, i64>) -> anyhow::Result<Written> {
        let (attempts, transitions) = (self.attempts, self.transitions);
        self.add(&Record::End(End { attempts, transitions, jobs }))?;
        self.out.flush().context("the ledger cannot be written")?;
        Ok(Written { run_id, attempts, transitions, head: self.chain.head().to_owned() })
    }
}

fn text(written: &Written) -> String {
    format!("{} attempts, {} transitions, head {}", written.attempts, written.transitions, written.head)
}
