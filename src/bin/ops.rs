//! `rollcall-ops`: parse, run.

use std::process::ExitCode;

use clap::Parser;
use rollcall::ops::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    ops::run(Cli::parse()).await
}
