//! Log lines and counters of this process.
//!
//! Invariant: no secret and no whole phone number reaches a line or a label (numbers go through `leads::number::mask`).
//! Not here: figures of the installation (`api::status` reads them from the stores).

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, LogLevel, Settings};

/// Starts logging to standard error. DEBUG and TRACE open Rollcall's own targets; libraries stay at WARN.
pub fn start_logs(settings: &Settings) {
    let own = match settings.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::new(format!("warn,rollcall={own},sqlx::query=error"));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = match settings.log_format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// Starts the counters of this process and returns what writes them out for `/metrics`.
///
/// # Errors
/// Where counters were started before in this process.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    Ok(PrometheusBuilder::new().install_recorder()?)
}
