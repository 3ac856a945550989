//! Every setting, read once: flag, variable, default and meaning in one place.
//!
//! Invariant: a contradiction is refused before a port opens, with exit code 64; a wrong role with 78.
//! Not here: what a business may set for itself (rows in Postgres), and the sandbox carrier's own flags.

mod addresses;
pub mod sealing;
mod times;
mod voice;

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use sealing::{KEY, KEYS_ALSO, is_set, sealing_key};

pub use times::Times;
pub use voice::{SileroSettings, VoiceSettings};

/// Exit code of a command line or setting that does not fit (sysexits.h EX_USAGE).
pub const EXIT_USAGE: u8 = 64;
/// Exit code of a program started in another program's role (sysexits.h EX_CONFIG).
pub const EXIT_ROLE: u8 = 78;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// REST, webhooks, status. Never dials.
    Api,
    /// The only one that dials.
    Worker,
    /// Media sessions.
    Calls,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A class of work that a worker takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorkClass {
    /// Look at a business and dial.
    Calls,
    /// Sweep: ring for what is due, start and end runs, wake what waits.
    Runs,
    /// Tell customers' own addresses of events. Nothing is told in this version.
    Hooks,
    /// Fetch and delete recordings.
    Recordings,
    /// Reconcile, hang up, forget, prune.
    Maintenance,
}

impl WorkClass {
    /// The word in settings and heartbeats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Runs => "runs",
            Self::Hooks => "hooks",
            Self::Recordings => "recordings",
            Self::Maintenance => "maintenance",
        }
    }
}

/// A callback event that can be asked for besides `initiated` and `completed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusEvent {
    /// The carrier took the call out of its queue.
    Initiated,
    /// The destination rings.
    Ringing,
    /// Somebody or something answered.
    Answered,
    /// The call is over.
    Completed,
}

/// The settings of the programs.
#[derive(Debug, Clone, Parser)]
#[command(version, about = "An outbound dialer: lists in, every number called once, the outcome out.")]
pub struct Settings {
    /// The role of this process; a program refuses to start in another's.
    #[arg(long, env = "SERVICE_ROLE")]
    pub service_role: Option<String>,
    /// Postgres 14 or later.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "postgres://rollcall@127.0.0.1:5432/rollcall",
        hide_env_values = true
    )]
    pub database_url: SecretString,
    /// Redis 6.0 or later, or Valkey; one primary, no cluster.
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379/0", hide_env_values = true)]
    pub redis_url: SecretString,
    /// Put before every Redis key, so that several installations can share one Redis.
    #[arg(long, env = "REDIS_PREFIX", default_value = "")]
    pub redis_prefix: String,
    /// Most connections to Postgres that one process opens; the api opens as many again, for requests of businesses.
    #[arg(long, env = "DATABASE_POOL", default_value = "8", value_parser = clap::value_parser!(u32).range(2..=500))]
    pub database_pool: u32,
    /// Where REST, pages and webhooks listen.
    #[arg(long, env = "API_ADDR", default_value = "127.0.0.1:8080")]
    pub api_addr: SocketAddr,
    /// Where media streams listen.
    #[arg(long, env = "CALLS_ADDR", default_value = "127.0.0.1:8090")]
    pub calls_addr: SocketAddr,
    /// Where health, status and metrics listen; by default port 9090 for the api, 9091 for the worker, 9092 for calls, on
    /// loopback.
    #[arg(long, env = "ADMIN_ADDR")]
    pub admin_addr: Option<SocketAddr>,
    /// What carriers call back: scheme, host and port as they see them. Signatures are checked over it.
    #[arg(long, env = "PUBLIC_BASE_URL", default_value = "http://127.0.0.1:8080", value_parser = base_url)]
    pub public_base_url: Url,
    /// The key that manages businesses: at least 16 characters.
    #[arg(long, env = "ROLLCALL_OPERATOR_KEY", hide_env_values = true, value_parser = operator_key)]
    pub rollcall_operator_key: Option<SecretString>,
    /// Seals carrier credentials and callback tokens: 32 bytes in base64.
    #[arg(long, env = "ROLLCALL_SEALING_KEY", hide_env_values = true)]
    pub rollcall_sealing_key: Option<SecretString>,
    /// Sealing keys that open and verify besides, while one is being replaced (`rollcall-ops secrets rotate`).
    #[arg(long, env = "ROLLCALL_SEALING_KEYS_ALSO", value_delimiter = ',', hide_env_values = true)]
    pub rollcall_sealing_keys_also: Vec<SecretString>,
    /// Twilio's REST API, for accounts that name no other.
    #[arg(long, env = "TWILIO_API_BASE_URL", default_value = "https://api.twilio.com", value_parser = base_url)]
    pub twilio_api_base_url: Url,
    /// Telnyx's REST API, for accounts that name no other.
    #[arg(long, env = "TELNYX_API_BASE_URL", default_value = "https://api.telnyx.com", value_parser = base_url)]
    pub telnyx_api_base_url: Url,
    /// Calls at once over all businesses. Zero or less falls back to 50.
    #[arg(long, env = "MAX_CONCURRENT_CALLS", default_value = "50", allow_hyphen_values = true)]
    pub max_concurrent_calls: i64,
    /// Calls at once of a business that was created without a number of its own.
    #[arg(long, env = "BUSINESS_MAX_CONCURRENT_CALLS", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub business_max_concurrent_calls: u32,
    /// Which callbacks the carrier is asked for; `completed` is always among them.
    #[arg(long, env = "STATUS_EVENTS", value_delimiter = ',', default_value = "initiated,completed")]
    pub status_events: Vec<StatusEvent>,
    /// Businesses that one worker looks at at once.
    #[arg(long, env = "WORKER_CONCURRENCY", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub worker_concurrency: u16,
    /// What this worker takes on.
    #[arg(long, env = "WORKER_QUEUES", value_delimiter = ',', default_value = "calls,runs,recordings,maintenance")]
    pub worker_queues: Vec<WorkClass>,
    /// Seconds between heartbeats; a worker is dead after two missed ones.
    #[arg(long, env = "WORKER_HEARTBEAT_INTERVAL", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=300))]
    pub worker_heartbeat_interval: u64,
    /// Seconds that a number rings, where a run says nothing.
    #[arg(long, env = "RING_TIMEOUT_SECS", default_value = "30", value_parser = clap::value_parser!(i32).range(5..=600))]
    pub ring_timeout_secs: i32,
    /// Seconds that a call may last, where a run says nothing.
    #[arg(long, env = "CALL_TIME_LIMIT_SECS", default_value = "600", value_parser = clap::value_parser!(i32).range(1..=14_400))]
    pub call_time_limit_secs: i32,
    /// Seconds that a call may wait in the carrier's queue before it is cancelled there and queued again here.
    #[arg(long, env = "CARRIER_QUEUE_LIMIT_SECS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub carrier_queue_limit_secs: u64,
    /// Seconds between SIGTERM and the end, at most.
    #[arg(long, env = "DRAIN_TIMEOUT_SECS", default_value = "25", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub drain_timeout_secs: u64,
    /// ERROR, WARN, INFO, DEBUG or TRACE: DEBUG and TRACE open Rollcall's own targets only.
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO", ignore_case = true)]
    pub log_level: LogLevel,
    /// How log lines are written.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", ignore_case = true)]
    pub log_format: LogFormat,
    /// A collector that traces of calls are sent to (OTLP over HTTP, e.g. http://127.0.0.1:4318); unset: none are made.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_parser = base_url)]
    pub otel_exporter_otlp_endpoint: Option<Url>,
    /// Conversations.
    #[command(flatten)]
    pub voice: VoiceSettings,
    /// The times of the dial protocol.
    #[command(flatten)]
    pub times: Times,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the five names are their own meaning")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Settings {
    /// The settings of this process, for a program of role `own`. What does not fit is printed.
    ///
    /// # Errors
    /// With the exit code: 64 for a wrong setting, 78 for another program's role, 0 after `--help` and `--version`.
    pub fn of_program(own: Role) -> Result<Self, ExitCode> {
        let settings = Self::try_parse().map_err(|error| {
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 })
        })?;
        settings.judge(own).map_err(|(why, code)| {
            eprintln!("[STARTUP] {why}");
            ExitCode::from(code)
        })?;
        Ok(settings)
    }

    /// Why this process may not start as `own`: the sentence and the exit code. The api may leave the role unset.
    ///
    /// # Errors
    /// With the sentence to print and the exit code, where the role is another one, or settings contradict each other.
    pub fn judge(&self, own: Role) -> Result<(), (String, u8)> {
        let own_name = own.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        match self.service_role.as_deref().filter(|role| !role.is_empty()) {
            Some(role) if !role.eq_ignore_ascii_case(&own_name) => {
                let text = format!("SERVICE_ROLE is {role}, but this program's role is {own_name}; it does not start.");
                return Err((text, EXIT_ROLE));
            }
            None if own != Role::Api => {
                let text = format!("SERVICE_ROLE is unset; this program starts only with SERVICE_ROLE={own_name}.");
                return Err((text, EXIT_ROLE));
            }
            _ => {}
        }
        let mut wrong = self.contradictions();
        if own == Role::Calls {
            wrong.extend(self.voice.contradictions());
        }
        if wrong.is_empty() { Ok(()) } else { Err((wrong.join("\n"), EXIT_USAGE)) }
    }

    /// The settings that no program starts with, each in one sentence; empty where all is well.
    #[must_use]
    pub fn contradictions(&self) -> Vec<String> {
        let mut wrong = self.times.contradictions();
        wrong.extend(self.addresses_wrong());
        match &self.rollcall_sealing_key {
            None => wrong.push(
                "ROLLCALL_SEALING_KEY is missing: 32 random bytes in base64, e.g. from `openssl rand -base64 32`."
                    .into(),
            ),
            Some(key) => wrong.extend(sealing_key(KEY, key).err().map(|error| format!("{error}."))),
        }
        let also = self.rollcall_sealing_keys_also.iter().filter(|key| is_set(key));
        wrong.extend(also.filter_map(|key| sealing_key(KEYS_ALSO, key).err()).map(|error| format!("{error}.")));
        if self.max_concurrent_calls > 10_000 {
            wrong.push(format!("MAX_CONCURRENT_CALLS is {}; it must be at most 10000.", self.max_concurrent_calls));
        }
        wrong
    }

    /// What is wrong with the addresses of the stores, each in one sentence that shows no password; empty where both can be read.
    #[must_use]
    pub fn addresses_wrong(&self) -> Vec<String> {
        addresses::wrong(&self.database_url, &self.redis_url)
    }

    /// `CARRIER_QUEUE_LIMIT_SECS` in milliseconds.
    #[must_use]
    pub fn carrier_queue_limit_ms(&self) -> i64 {
        i64::try_from(self.carrier_queue_limit_secs * 1_000).unwrap_or(i64::MAX)
    }

    /// Calls at once over all businesses: the setting, or 50 with a warning where it is zero or less.
    #[must_use]
    pub fn max_lines(&self) -> i32 {
        if self.max_concurrent_calls < 1 {
            tracing::warn!(setting = self.max_concurrent_calls, "MAX_CONCURRENT_CALLS must be positive; 50 is used");
            return 50;
        }
        i32::try_from(self.max_concurrent_calls).unwrap_or(i32::MAX)
    }

    /// Where health, status and metrics of this role listen.
    #[must_use]
    pub fn admin_addr(&self, role: Role) -> SocketAddr {
        let port = match role {
            Role::Api => 9090,
            Role::Worker => 9091,
            Role::Calls => 9092,
        };
        self.admin_addr.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

fn base_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|e| format!("not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("http:// or https:// and a host are needed".into());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("a base URL has no query, fragment or user".into());
    }
    Ok(url)
}

fn operator_key(text: &str) -> Result<SecretString, String> {
    if text.len() < 16 {
        return Err("the operator key needs at least 16 characters".into());
    }
    Ok(SecretString::from(text))
}

/// The base URL without its trailing slash, so that a path can be put behind it.
#[must_use]
pub fn without_slash(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// The text of a secret setting; only where it is handed to the store or client that needs it.
#[must_use]
pub fn exposed(secret: &SecretString) -> &str {
    secret.expose_secret()
}
