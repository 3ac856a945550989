//! What the exit codes of `rollcall-ops` mean, for scripts.

/// Nothing was found, or what was asked for is done.
pub(super) const OK: u8 = 0;
/// The command line is wrong, or a variable of the environment cannot be read; clap's own code.
pub(super) const COMMAND_LINE: u8 = 2;
/// Something was found that somebody has to look at: a warning of the doctor, a dry run that would act, rejected rows, an
/// attempt still in doubt.
pub(super) const FOUND: u8 = 3;
/// Something is broken: the doctor failed a check, or a ledger is not sound.
pub(super) const BROKEN: u8 = 4;
/// Settings contradict each other (sysexits.h: `EX_USAGE`), as the other programs say it.
pub(super) const SETTINGS: u8 = 64;

/// Of commands that only read or do one thing. They take the settings as they are: none of them ends with [`SETTINGS`].
pub(super) const PLAIN: &str = "\
Exit codes:
  0   done
  1   it failed; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read";

/// Of the program. 2 is clap's own code, for flags and variables alike.
pub(super) const ALL: &str = "\
Exit codes:
  0   done; nothing was found
  1   it failed; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read
  3   something was found: a warning of the doctor, a dry run that would act, rejected rows, an attempt still in doubt
  4   something is broken: the doctor failed a check, or a ledger is not sound
  64  settings contradict each other, or ROLLCALL_SEALING_KEY is missing
  130 the demo was ended by Ctrl-C; with-stores ends with the code of its command";

/// Settings that the command cannot work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Contradiction {
    /// No program starts with them.
    #[error("{0}")]
    Fight(String),
    /// One of those that every command needs cannot be read.
    #[error("{0}")]
    Unreadable(String),
}
