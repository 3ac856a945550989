//! The command line: what a person, a script or a container asks of an installation, and the demo.
//!
//! Invariant: whatever a command starts ends with it, also when it is killed; every exit code is documented in `exit`.
//! Not here: rules. A command calls what the API or a worker calls, or asks the API itself.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{config::Settings, error::store_is_away, stores::Stores, telemetry};

mod binaries;
pub mod children;
mod cleanup;
mod demo;
mod doctor;
mod environment;
mod exit;
mod health;
mod import;
pub mod installation;
mod jobs;
mod keys;
mod ledger;
mod open;
mod print;
pub mod private;
mod reconcile;
mod runs;
mod secrets;
mod slots;
mod with_stores;
mod workers;

use print::Form;

/// The command line of `rollcall-ops`.
#[derive(Debug, Parser)]
#[command(
    name = "rollcall-ops",
    version,
    about = "Operates Rollcall: what is wrong, who is on the line, what is stuck; schema, keys, lists, demo.",
    after_help = exit::ALL
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Is everything well? Each check with its evidence and what to do.
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(Box<doctor::Doctor>),
    /// What is stuck, with evidence; `--apply` puts it right.
    #[command(after_help = cleanup::AFTER_HELP)]
    Cleanup(Box<cleanup::Cleanup>),
    /// Ask the carrier now about attempts in doubt, or say what became of one.
    #[command(after_help = reconcile::AFTER_HELP)]
    Reconcile(Box<reconcile::Reconcile>),
    /// Who holds which slot, at the gate and in the ledger.
    #[command(after_help = exit::PLAIN)]
    Slots(Box<slots::Slots>),
    /// Runs of every business.
    #[command(after_help = exit::PLAIN)]
    Runs(Box<runs::Runs>),
    /// Jobs of a run, or one job with its attempts.
    #[command(after_help = exit::PLAIN)]
    Jobs(Box<jobs::Jobs>),
    /// What keeps a run from dialing.
    #[command(after_help = exit::PLAIN)]
    Why(Box<runs::WhyNot>),
    /// Workers that beat, and those that have stopped.
    #[command(after_help = exit::PLAIN)]
    Workers(Box<workers::Workers>),
    /// API keys of a business.
    #[command(subcommand, after_help = exit::PLAIN)]
    Keys(keys::Keys),
    /// Replace the key that seals credentials, while calls run.
    #[command(subcommand, after_help = secrets::AFTER_HELP)]
    Secrets(secrets::Secrets),
    /// Put a CSV file into a run.
    #[command(after_help = import::AFTER_HELP)]
    Import(Box<import::Import>),
    /// The dial ledger of a run as a file that proves itself, and the proof of such a file.
    #[command(subcommand, after_help = ledger::AFTER_HELP)]
    Ledger(ledger::Ledger),
    /// Succeed where a program and its stores are ready: for health checks of containers.
    #[command(after_help = exit::PLAIN)]
    Health(health::Health),
    /// Bring the schema up to this program's version. Several may do it at once.
    #[command(after_help = exit::PLAIN)]
    Migrate(Box<Migrate>),
    /// Call a list of fictional numbers at a sandbox carrier, with everything private to this command.
    Demo(demo::Demo),
    /// Run a command with a private Postgres and Redis, then stop them.
    WithStores(with_stores::WithStores),
}

/// The schema to be brought up.
#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// Does what the command line says and returns the exit code; where it failed, with a sentence on standard error.
pub async fn run(cli: Cli) -> ExitCode {
    match done(cli.command).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("rollcall-ops: {}", sentence(&error));
            if error.chain().any(is_lost_store) {
                eprintln!("A store does not answer: `rollcall-ops doctor` says which, and why.");
            }
            if error.chain().any(is_of_another_schema) {
                eprintln!("The database has another schema: `rollcall-ops migrate` brings it up to this version.");
            }
            ExitCode::from(match error.downcast_ref::<exit::Contradiction>() {
                Some(exit::Contradiction::Fight(_)) => exit::SETTINGS,
                Some(exit::Contradiction::Unreadable(_)) => exit::COMMAND_LINE,
                None => 1,
            })
        }
    }
}

async fn done(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Doctor(order) => doctor::doctor(*order).await,
        Command::Cleanup(order) => cleanup::cleanup(*order).await,
        Command::Reconcile(order) => reconcile::reconcile(*order).await,
        Command::Slots(order) => slots::slots(*order).await,
        Command::Runs(order) => runs::runs(*order).await,
        Command::Jobs(order) => jobs::jobs(*order).await,
        Command::Why(order) => runs::why(*order).await,
        Command::Workers(order) => workers::workers(*order).await,
        Command::Keys(order) => keys::keys(order).await,
        Command::Secrets(order) => secrets::secrets(order).await,
        Command::Import(order) => import::import(*order).await,
        Command::Ledger(order) => ledger::ledger(order).await,
        Command::Health(order) => health::health(&order).await.map(|()| exit::OK),
        Command::Migrate(order) => migrate(*order).await.map(|()| exit::OK),
        Command::Demo(order) => demo::demo(&order).await,
        Command::WithStores(order) => with_stores::with_stores(&order).await,
    }
}

async fn migrate(order: Migrate) -> anyhow::Result<()> {
    telemetry::start_logs(&order.settings);
    let applied = Stores::migrate(&order.settings).await?;
    let newest = applied.iter().max();
    order.form.print(&json!({"version": newest, "migrations": applied.len()}), |_| {
        format!("The schema is at {}.", newest.unwrap_or(&0))
    })
}

/// An error with its causes, but for those that it tells already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// True where a table, a column or a function is not there (PostgreSQL manual, appendix A).
fn is_of_another_schema(cause: &(dyn std::error::Error + 'static)) -> bool {
    let code = cause.downcast_ref::<sqlx::Error>().and_then(|error| error.as_database_error()?.code());
    code.is_some_and(|code| matches!(&*code, "42P01" | "42703" | "42883"))
}

/// True where Postgres or Redis could not be reached, or not in time.
fn is_lost_store(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<sqlx::Error>().is_some_and(store_is_away)
        || cause.downcast_ref::<redis::RedisError>().is_some_and(|error| error.is_io_error() || error.is_timeout())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::runs::RunState;

    #[test]
    fn only_commands_that_judge_the_settings_promise_a_code_for_them() {
        let command = Cli::command();
        let help = |command: &clap::Command| command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let promise: Vec<_> = command.get_subcommands().filter(|one| help(one).contains("\n  64 ")).collect();
        let promise: Vec<&str> = promise.into_iter().map(clap::Command::get_name).collect();
        assert_eq!(promise, ["doctor", "cleanup", "reconcile", "secrets", "ledger"]);
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_a_wrong_command_line() {
        let refused = Cli::try_parse_from(["rollcall-ops", "runs", "--database-pool", "1"]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
    }

    #[test]
    fn the_help_of_runs_names_every_state() {
        use RunState::{Cancelled, Cancelling, Completed, Draft, Paused, Running, Scheduled};
        let command = Cli::command();
        let runs = command.find_subcommand("runs").unwrap();
        let help = runs.get_arguments().find(|argument| argument.get_id() == "state").unwrap().get_help().unwrap();
        for state in [Draft, Scheduled, Running, Paused, Cancelling, Cancelled, Completed] {
            assert!(help.to_string().contains(state.as_str()), "{help} lacks {}", state.as_str());
        }
    }
}
