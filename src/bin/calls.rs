//! `rollcall-calls`: media streams of answered calls. Runs with `SERVICE_ROLE=calls`.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use rollcall::{
    api, arenas,
    config::{Role, Settings},
    context::Context,
    heartbeats::Who,
    server, shutdown,
    stores::Stores,
    telemetry,
    voice::Sessions,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::of_program(Role::Calls) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    arenas::keep_few();
    telemetry::start_logs(&settings);
    shutdown::exit_code(run(settings).await)
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let _last_spans = telemetry::traces::start(&settings, "rollcall-calls")?;
    let stopping = shutdown::on_signal()?;
    shutdown::end_hard_after(&stopping, Duration::from_secs(settings.drain_timeout_secs));
    let (calls_addr, admin_addr) = (settings.calls_addr, settings.admin_addr(Role::Calls));
    let doors = TcpListener::bind(calls_addr).await.with_context(|| format!("CALLS_ADDR {calls_addr}"))?;
    let admin = TcpListener::bind(admin_addr).await.with_context(|| format!("ADMIN_ADDR {admin_addr}"))?;
    let starting = api::admin::starting(Stores::lazily(&settings, "rollcall-calls")?);
    let (admin, ctx) = tokio::select! {
        opened = server::serve_while(admin, starting, open(settings)) => opened?,
        () = stopping.cancelled() => return Ok(()),
    };
    let ctx = ctx?.stopped_by(stopping.clone());
    let (name, ended) = (Who::new_name(), CancellationToken::new());
    let sessions = Sessions::new(ctx.clone(), &name)?;
    tracing::info!(calls = %doors.local_addr()?, admin = %admin.local_addr()?, "[STARTUP] rollcall-calls serves");
    let status = api::admin::router(ctx.clone(), telemetry::metrics::start()?);
    tokio::try_join!(
        server::serve(doors, server::media_doors(ctx.clone(), sessions.clone()), stopping),
        server::serve(admin, status, ended.clone()),
        futures::FutureExt::map(server::holds_conversations(&ctx, &sessions, &name, ended), Ok),
    )?;
    Ok(())
}

async fn open(settings: Settings) -> anyhow::Result<Context> {
    let ctx = Context::open(settings, "rollcall-calls").await?;
    ctx.stores.until_migrated().await;
    Ok(ctx)
}
