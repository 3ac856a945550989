//! Log lines, figures and traces of this process.
//!
//! Invariant: no secret and no whole phone number reaches a line, a label or a span (numbers go through
//! `leads::number::mask`); a label has a handful of values, and none of them is an id.
//! Not here: what the installation is doing (`dialing::overview` reads it from the stores).

pub mod metrics;
pub mod traces;
pub mod voice;

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
