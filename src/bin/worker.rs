//! `rollcall-worker`: the only program that dials. Runs with `SERVICE_ROLE=worker`.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use rollcall::{
    api, arenas,
    config::{Role, Settings},
    context::Context,
    heartbeats::Who,
    server, shutdown,
    stores::Stores,
    telemetry, worker,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::of_program(Role::Worker) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    arenas::keep_few();
    telemetry::start_logs(&settings);
    shutdown::exit_code(run(settings).await)
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let _last_spans = telemetry::traces::start(&settings, "rollcall-worker")?;
    let stopping = shutdown::on_signal()?;
    shutdown::end_hard_after(&stopping, Duration::from_secs(settings.drain_timeout_secs));
    let admin_addr = settings.admin_addr(Role::Worker);
    let admin = TcpListener::bind(admin_addr).await.with_context(|| format!("ADMIN_ADDR {admin_addr}"))?;
    let starting = api::admin::starting(Stores::lazily(&settings, "rollcall-worker")?);
    let (admin, ctx) = tokio::select! {
        opened = server::serve_while(admin, starting, open(settings)) => opened?,
        () = stopping.cancelled() => return Ok(()),
    };
    let ctx = ctx?.stopped_by(stopping.clone());
    let name = Who::new_name();
    tracing::info!(worker.name = name, admin = %admin.local_addr()?, "[STARTUP] the worker takes bells");
    let status = api::admin::router(ctx.clone(), telemetry::metrics::start()?);
    // Whoever watches sees the drain to its end.
    let (served, worked) = server::serve_beside(admin, status, worker::run(ctx.clone(), &name, stopping)).await;
    ctx.close().await;
    served?;
    worked
}

async fn open(settings: Settings) -> anyhow::Result<Context> {
    let ctx = Context::open(settings, "rollcall-worker").await?;
    ctx.stores.until_migrated().await;
    ctx.warm().await;
    Ok(ctx)
}
