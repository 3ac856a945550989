//! The command line: what a person, a script or a container asks of an installation, and the demo.
//!
//! Invariant: whatever a command starts ends with it, also when it is killed.
//! Not here: rules. A command calls what the API calls, or asks the API itself.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{config::Settings, stores::Stores, telemetry};

mod binaries;
pub mod children;
mod demo;
mod environment;
mod health;
pub mod installation;
pub mod private;
mod reconcile;
mod with_stores;

/// The command line of `rollcall-ops`.
#[derive(Debug, Parser)]
#[command(name = "rollcall-ops", version, about = "Operates Rollcall: schema, health, demo.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the schema up to this program's version. Several may do it at once.
    Migrate(Box<Settings>),
    /// Succeed where a program and its stores are ready: for health checks of containers.
    Health(health::Health),
    /// Call a list of fictional numbers at a sandbox carrier, with everything private to this command.
    Demo(demo::Demo),
    /// Say what became of an attempt in doubt that needs a person.
    Reconcile(Box<reconcile::Reconcile>),
    /// Run a command with a private Postgres and Redis, then stop them.
    WithStores(with_stores::WithStores),
}

/// Does what the command line says and returns the exit code: 0, or 1 with a sentence on standard error.
pub async fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Migrate(settings) => {
            telemetry::start_logs(&settings);
            Stores::migrate(&settings).await.map(|()| 0)
        }
        Command::Health(order) => health::health(&order).await.map(|()| 0),
        Command::Demo(order) => demo::demo(&order).await,
        Command::Reconcile(order) => reconcile::reconcile(*order).await.map(|()| 0),
        Command::WithStores(order) => with_stores::with_stores(&order).await,
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("rollcall-ops: {error:#}");
            ExitCode::FAILURE
        }
    }
}
