//! `rollcall-ops reconcile`: a person says what became of an attempt in doubt.

use clap::{Args, ValueEnum};

use crate::{
    config::Settings,
    context::Context,
    dialing::by_person::{self, Word},
    ids::AttemptId,
    telemetry,
};

/// The order.
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// The attempt, as `why`, the job and the log name it.
    attempt: AttemptId,
    /// What became of it.
    #[arg(long = "as", value_enum)]
    became: Became,
    /// The carrier's id of the call; needed with `--as placed`.
    #[arg(long, required_if_eq("became", "placed"))]
    call_id: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Became {
    /// It is the call that `--call-id` names.
    Placed,
    /// The carrier never had it; its number may be called again.
    NotPlaced,
}

/// Applies the person's word and prints what was done.
pub(super) async fn reconcile(order: Reconcile) -> anyhow::Result<()> {
    telemetry::start_logs(&order.settings);
    let word = match (order.became, order.call_id) {
        (Became::Placed, Some(call_id)) => Word::Placed { call_id },
        (Became::Placed, None) => anyhow::bail!("--call-id is needed with --as placed"),
        (Became::NotPlaced, _) => Word::NotPlaced,
    };
    let ctx = Context::open(order.settings, "rollcall-ops").await?;
    by_person::settle(&ctx, order.attempt, &word).await?;
    println!("{} is closed or found; its slot follows the carrier's word.", order.attempt);
    Ok(())
}
