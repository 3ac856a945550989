//! The demo: a list of fictional numbers called at the sandbox carrier, where an agent talks to whoever answers, with nothing
//! that is not private to it.
//!
//! Invariant: it can never ring a person. It reads no `.env` and no exported setting, and refuses a carrier that is not
//! on this machine's loopback.
//! Not here: any rule of dialing. The demo is a client of the API, and believes the carrier's figures only.

use clap::{Args, builder::FalseyValueParser};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod client;
mod parts;
mod summary;
mod watch;

use crate::ops::installation::Installation;
use client::Client;
use summary::Figures;
use watch::Trial;

/// Ended by Ctrl-C, as shells say it: 128 + SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// What to do besides calling the list.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Leave everything running after the summary, until Ctrl-C, and print addresses and a key.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// Kill the worker (SIGKILL) in the middle of the run and start another one; takes up to three minutes.
    #[arg(long, env = "KILL", value_parser = FalseyValueParser::new())]
    kill: bool,
}

/// Runs the demo. Ctrl-C at any time stops all that it started and leaves nothing behind.
///
/// # Errors
/// Where something does not start, or a program ends in the middle.
pub(super) async fn demo(order: &Demo) -> anyhow::Result<u8> {
    let stop = interrupted()?;
    println!("Starting a private Postgres and Redis, the sandbox, the api, the worker and the calls program …");
    let mut parts = tokio::select! {
        parts = parts::start() => parts?,
        () = stop.cancelled() => return Ok(EXIT_INTERRUPTED),
    };
    let done = tokio::select! {
        // With KEEP, Ctrl-C is the planned end: the verdict on the run is the answer then.
        biased;
        done = call_the_list(&mut parts, order, &stop) => done,
        () = stop.cancelled() => Ok(EXIT_INTERRUPTED),
    };
    println!("Stopping worker, calls program, api and sandbox, then Redis and Postgres …");
    parts.end().await?;
    done
}

/// Cancelled by Ctrl-C or SIGTERM. Further ones are swallowed: stopping takes seconds, and nothing may be left behind.
fn interrupted() -> std::io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        cancelled.cancel();
    });
    Ok(token)
}

async fn call_the_list(parts: &mut Installation, order: &Demo, stop: &CancellationToken) -> anyhow::Result<u8> {
    let client = Client::set_up(parts).await?;
    let run = client.start_run().await?;
    println!("Calling {} numbers, {} at once; an agent talks to whoever answers:", run.leads.accepted, client::SLOTS);
    let trial = if order.kill { Trial::KillWorker } else { Trial::None };
    let (run, took) = watch::watch(parts, &client, run, trial).await?;
    let all_kept = summary::print(&run, took, &Figures::read(parts).await?);
    if let Some(talk) = client.a_conversation(&run).await? {
        println!("\nOne of the conversations:");
        for line in talk {
            println!("  {line}");
        }
    }
    if order.keep {
        say_where(parts, &client, &run);
        stop.cancelled().await;
    }
    Ok(u8::from(!all_kept))
}

fn say_where(parts: &mut Installation, client: &Client, run: &client::Run) {
    println!("\nEverything stays up until Ctrl-C:");
    println!("  API      {}    (its description: {}/docs)", parts.api_url(), parts.api_url());
    println!("  status   {}/status", parts.admin_url());
    println!("  carrier  {}/_figures", parts.carrier_url());
    println!("  key      {}", client.key);
    println!("  logs     {}", parts.logs().display());
    println!("\n  curl -H 'Authorization: Bearer {}' {}/v1/runs/{}", client.key, parts.api_url(), run.id);
}
