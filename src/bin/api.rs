//! `rollcall-api`: REST, pages, webhooks, status. Never dials.

use std::process::ExitCode;

use anyhow::Context as _;
use rollcall::{
    api, arenas, businesses,
    config::{Role, Settings},
    context::Context,
    dialing::startup,
    server, shutdown,
    stores::Stores,
    telemetry,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::of_program(Role::Api) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    arenas::keep_few();
    telemetry::start_logs(&settings);
    shutdown::exit_code(run(settings).await)
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let _last_spans = telemetry::traces::start(&settings, "rollcall-api")?;
    let stopping = shutdown::on_signal()?;
    shutdown::end_hard_after(&stopping, std::time::Duration::from_secs(settings.drain_timeout_secs));
    let (api_addr, admin_addr) = (settings.api_addr, settings.admin_addr(Role::Api));
    let doors = TcpListener::bind(api_addr).await.with_context(|| format!("API_ADDR {api_addr}"))?;
    let admin = TcpListener::bind(admin_addr).await.with_context(|| format!("ADMIN_ADDR {admin_addr}"))?;
    let starting = api::admin::starting(Stores::lazily(&settings, "rollcall-api")?);
    let (admin, ctx) = tokio::select! {
        opened = server::serve_while(admin, starting, open(settings)) => opened?,
        () = stopping.cancelled() => return Ok(()),
    };
    let ctx = ctx?.stopped_by(stopping.clone());
    tracing::info!(api = %doors.local_addr()?, admin = %admin.local_addr()?, "[STARTUP] rollcall-api serves");
    let (routes, status) = (server::doors(ctx.clone()), api::admin::router(ctx.clone(), telemetry::metrics::start()?));
    // Whoever watches sees the last requests answered.
    let serve = server::serve_beside(admin, status, server::serve(doors, routes, stopping));
    tokio::try_join!(
        futures::FutureExt::map(serve, |(watched, served)| served.and(watched)),
        futures::FutureExt::map(futures::future::join(startup::clean_up(&ctx), server::beats(&ctx, Role::Api)), Ok),
    )?;
    Ok(())
}

async fn open(settings: Settings) -> anyhow::Result<Context> {
    let max_lines = settings.max_lines();
    Stores::migrate(&settings).await?;
    let ctx = Context::open(settings, "rollcall-api").await?;
    businesses::store::set_max_lines(&ctx.stores.pg, max_lines).await?;
    Ok(ctx)
}
