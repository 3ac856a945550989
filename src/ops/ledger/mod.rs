//! `rollcall-ops ledger`: the dial ledger of a run as a file that proves itself, and the proof of such a file.
//!
//! Invariant: a file that was changed after its export is never called sound, and the line that gives it away is named.
//! Not here: how attempts come to be and move (`attempts`), and asking the carrier what to do next (`dialing`).

use clap::Subcommand;

mod carrier;
mod chain;
mod export;
mod record;
mod rules;
mod verify;

pub(super) use export::{Export, export};
pub(super) use verify::{Verify, verify};

/// Exit codes of these commands.
pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0   it is written, or sound
  1   it failed; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read
  4   the file is not sound
  64  verify --carrier: settings contradict each other, or ROLLCALL_SEALING_KEY is missing";

/// What to do with the ledger.
#[derive(Debug, Subcommand)]
pub(super) enum Ledger {
    /// Write every attempt and transition of a run as lines of JSON that hold on to each other by hash.
    #[command(after_help = export::AFTER_HELP)]
    Export(Box<Export>),
    /// Check such a file: its chain, the promises, and with `--carrier` every call id at the carrier.
    #[command(after_help = verify::AFTER_HELP)]
    Verify(Box<Verify>),
}

/// Does it and gives the exit code.
///
/// # Errors
/// Where a file cannot be read or written, or a store does not answer.
pub(super) async fn ledger(order: Ledger) -> anyhow::Result<u8> {
    match order {
        Ledger::Export(order) => export(*order).await,
        Ledger::Verify(order) => verify(*order).await,
    }
}
