//! `rollcall-ops secrets`: the sealing key is replaced while calls run.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    businesses::resealing::reseal,
    config::Settings,
    ops::{
        exit, open,
        print::{Form, counting},
    },
};

/// Exit codes, and how a key is replaced.
pub(super) const AFTER_HELP: &str = "\
How the sealing key is replaced while calls run:
  1  restart every program with ROLLCALL_SEALING_KEYS_ALSO=<new key>: everybody can read both
  2  restart every program with ROLLCALL_SEALING_KEY=<new key> and ROLLCALL_SEALING_KEYS_ALSO=<old key>
  3  rollcall-ops secrets rotate, with the settings of step 2
  4  a day later, when no stored answer and no call is of the old key, leave it out

Exit codes:
  0   every credential is sealed under the key in force
  1   it failed; standard error says why
  2   the command line is wrong, or a variable of the environment cannot be read
  3   a credential could not be opened with any key that was given; the others are sealed anew
  64  settings contradict each other, or ROLLCALL_SEALING_KEY is missing";

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(super) enum Secrets {
    /// Seal every carrier credential anew under ROLLCALL_SEALING_KEY.
    #[command(after_help = AFTER_HELP)]
    Rotate(Box<Rotate>),
}

/// The order.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// Does it and returns the exit code.
pub(super) async fn secrets(order: Secrets) -> anyhow::Result<u8> {
    let Secrets::Rotate(order) = order;
    let Rotate { form, settings } = *order;
    let ctx = open::context(settings)?;
    let bar = counting(0, "accounts looked at")?;
    let told = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let done = reseal(&ctx.stores.pg, &ctx.vault, told).await;
    bar.finish_and_clear();
    let done = done.context("the credentials could not all be sealed anew")?;
    let key = ctx.vault.key_id();
    form.print(&json!({ "key": key, "accounts": done }), |_| {
        format!(
            "{} credentials were sealed anew under the key {key}; {} were so before; {} cannot be opened with any key given.",
            done.sealed_anew, done.as_they_were, done.shut
        )
    })?;
    Ok(if done.shut > 0 { exit::FOUND } else { exit::OK })
}
