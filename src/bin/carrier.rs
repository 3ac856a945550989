//! `rollcall-carrier`: the sandbox carrier on a port of its own.
use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use clap::Parser;
use rollcall::sim::{Config, MAGIC_HELP, Sim, Tls};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// A pretend Twilio and Telnyx with a memory, faults on demand, and figures (`GET /_figures`).
#[derive(Debug, Parser)]
#[command(name = "rollcall-carrier", version, after_help = MAGIC_HELP)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8070")]
    addr: SocketAddr,
    /// Where to listen with TLS too, with the certificate chain and its key (PEM files).
    #[arg(long, value_name = "ADDR,CHAIN,KEY")]
    tls: Option<Tls>,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    threads: usize,
    #[command(flatten)]
    config: Config,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    // One thread wakes no other: less processor time than two, as long as one is enough.
    let mut runtime = if args.threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    runtime.worker_threads(args.threads).enable_all().build()?.block_on(serve(args))
}

/// Serves until SIGTERM or SIGINT.
async fn serve(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(args.addr).with_context(|| format!("cannot listen on {}", args.addr))?;
    let mut sim = Sim::start(args.config, listener)?;
    println!("rollcall-carrier listens on {}", sim.base_url());
    println!("its Telnyx signs webhooks with the key {}", sim.telnyx_public_key());
    if let Some(tls) = args.tls {
        println!("and with TLS on {}", sim.listen_with_tls(&tls).context("cannot listen with TLS")?);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sim.shutdown().await;
    Ok(())
}
