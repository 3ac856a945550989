//! Runs one command with private stores beside it: the tests, or a check of the queries.

use std::{ffi::OsString, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus};

use anyhow::Context;
use clap::Args;
use sqlx::migrate::Migrator;
use tokio::{process::Command, signal::unix};

use crate::ops::private::{Durability, PrivateStores};

/// What to run.
#[derive(Debug, Args)]
pub(super) struct WithStores {
    /// Apply the migrations of this folder first: those of the source, which may be newer than this program.
    #[arg(long, value_name = "FOLDER")]
    migrations: Option<PathBuf>,
    /// The command and its arguments, after `--`. It sees `DATABASE_URL` and `REDIS_URL` of the private stores.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Starts the stores, runs the command, stops the stores, and returns the command's exit code (128 + signal where it was
/// killed, as shells say it).
///
/// # Errors
/// Where the stores do not start or the command cannot be run.
pub(super) async fn with_stores(order: &WithStores) -> anyhow::Result<u8> {
    let stores = PrivateStores::start(Durability::Scratch).await?;
    let status = run(order, &stores).await;
    stores.end().await?;
    Ok(exit_code(status?))
}

async fn run(order: &WithStores, stores: &PrivateStores) -> anyhow::Result<ExitStatus> {
    if let Some(folder) = &order.migrations {
        stores.migrate(&Migrator::new(folder.as_path()).await?).await?;
    }
    let (program, arguments) = order.command.split_first().context("no command was given")?;
    // It stays in our process group: Ctrl-C reaches both, and we wait for it to end in its own way.
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", stores.database_url())
        .env("REDIS_URL", stores.redis_url())
        .spawn()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(ended?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => child.start_kill()?,
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn code_of(script: &str) -> u8 {
        let command = ["/bin/sh", "-c", script].map(OsString::from).into();
        with_stores(&WithStores { migrations: None, command }).await.unwrap()
    }

    #[tokio::test]
    async fn the_command_sees_the_stores_and_its_exit_code_is_ours() {
        let script =
            "case $DATABASE_URL$REDIS_URL in postgres://rollcall@127.0.0.1:*redis://127.0.0.1:*) exit 7;; esac";
        assert_eq!(code_of(script).await, 7);
    }

    #[test]
    fn a_killed_command_counts_as_a_failure() {
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
    }
}
