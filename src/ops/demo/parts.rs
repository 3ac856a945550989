//! The programs of a demo, as children of this process that see nothing of its settings.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rand::Rng;
use url::{Host, Url};

use crate::{
    ops::{
        children::Stop,
        environment::clean_command,
        health::http_client,
        private::{Durability, PrivateStores, free_addresses},
    },
    stores::MIGRATOR,
};

const API: &str = "api";
const CARRIER: &str = "carrier";
const WORKER: &str = "worker";

/// Most calls at once of the whole demo installation.
pub(super) const MAX_LINES: u32 = 50;
/// How the sandbox carrier behaves: calls that are short, an answer that is quick, and a share of each outcome.
const CARRIER_FLAGS: [&str; 19] = [
    "--no-magic",
    "--cps",
    "50",
    "--dial-ms",
    "20..60",
    "--ring-ms",
    "100..300",
    "--talk-ms",
    "300..900",
    "--accept-delay-ms",
    "20..60",
    "--answered",
    "0.62",
    "--busy",
    "0.10",
    "--no-answer",
    "0.20",
    "--failed",
    "0.08",
];
/// So long may the worker and the api take to finish what they do when they are asked to stop.
const DRAIN_SECS: &str = "10";

/// Everything that runs in a demo.
pub(super) struct Parts {
    stores: PrivateStores,
    /// The folder that this program stands in; the others are beside it.
    programs: PathBuf,
    settings: Vec<(&'static str, String)>,
    addresses: Addresses,
    /// The key that manages businesses.
    pub(super) operator_key: String,
    http: reqwest::Client,
}

struct Addresses {
    api: SocketAddr,
    api_admin: SocketAddr,
    worker_admin: SocketAddr,
    carrier: SocketAddr,
}

impl Parts {
    /// Starts the stores, applies the schema, and starts carrier, api and worker, each when the one before answers.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("this program's own place is unknown")?;
        let programs = own.parent().context("this program stands in no folder")?.to_owned();
        let stores = PrivateStores::start(Durability::Flushed).await?;
        stores.migrate(&MIGRATOR).await?;
        let [api, api_admin, worker_admin, carrier] = free_addresses()?;
        let addresses = Addresses { api, api_admin, worker_admin, carrier };
        let (operator_key, sealing_key) = (random_text(), random_text());
        let settings = settings(&stores, &addresses, &operator_key, &sealing_key)?;
        let http = http_client(Duration::from_secs(5))?;
        let mut parts = Self { stores, programs, settings, addresses, operator_key, http };
        parts.start_carrier().await?;
        parts.start_api().await?;
        parts.start_worker().await?;
        Ok(parts)
    }

    /// Where REST, pages and webhooks answer.
    pub(super) fn api_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// Where the api's health, status and metrics answer.
    pub(super) fn admin_url(&self) -> String {
        format!("http://{}", self.addresses.api_admin)
    }

    /// Where the sandbox carrier answers.
    pub(super) fn carrier_url(&self) -> String {
        format!("http://{}", self.addresses.carrier)
    }

    /// Where the logs of the programs are, until the end.
    pub(super) fn logs(&mut self) -> &Path {
        self.stores.children().scratch()
    }

    /// A client for the demo's own programs.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Fails with the end of its log where a program is not running any more.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let children = self.stores.children();
        for name in [WORKER, API, CARRIER] {
            if !children.runs(name)? {
                bail!("the {name} ended in the middle of the demo.\n{}", children.log_end(name));
            }
        }
        Ok(())
    }

    /// Ends the worker without a warning, as an out-of-memory killer would, and starts another one.
    pub(super) async fn kill_worker(&mut self) -> anyhow::Result<()> {
        self.stores.children().kill(WORKER)?;
        self.start_worker().await
    }

    /// Stops worker, api and carrier, then Redis and Postgres, and removes what they wrote.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.stores.end().await
    }

    async fn start_carrier(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("rollcall-carrier")?;
        command.arg("--addr").arg(self.addresses.carrier.to_string()).args(CARRIER_FLAGS);
        let figures = format!("{}/_figures", self.carrier_url());
        self.start_program(CARRIER, command, figures).await
    }

    async fn start_api(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("rollcall-api")?;
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("SERVICE_ROLE", "api").env("ADMIN_ADDR", self.addresses.api_admin.to_string());
        let ready = format!("{}/readyz", self.admin_url());
        self.start_program(API, command, ready).await
    }

    async fn start_worker(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("rollcall-worker")?;
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("SERVICE_ROLE", "worker").env("ADMIN_ADDR", self.addresses.worker_admin.to_string());
        let ready = format!("http://{}/readyz", self.addresses.worker_admin);
        self.start_program(WORKER, command, ready).await
    }

    /// `name` from the folder of this program, in the scratch folder, where no `.env` lies.
    fn program(&mut self, name: &str) -> anyhow::Result<Command> {
        let path = self.programs.join(name);
        ensure!(path.is_file(), "{} is missing; `cargo build` makes it", path.display());
        let mut command = clean_command(path);
        command.current_dir(self.stores.children().scratch());
        Ok(command)
    }

    async fn start_program(&mut self, name: &'static str, command: Command, ready: String) -> anyhow::Result<()> {
        let children = self.stores.children();
        children.spawn(name, command, Stop::Terminate)?;
        let http = self.http.clone();
        let answers = async || http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success());
        children.wait_for(name, answers).await
    }
}

/// The settings of api and worker: these and no others.
fn settings(
    stores: &PrivateStores,
    addresses: &Addresses,
    operator_key: &str,
    sealing_key: &str,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let carrier = format!("http://{}", addresses.carrier);
    ensure_loopback(&carrier)?;
    Ok(vec![
        ("DATABASE_URL", stores.database_url()),
        ("REDIS_URL", stores.redis_url()),
        ("API_ADDR", addresses.api.to_string()),
        ("PUBLIC_BASE_URL", format!("http://{}", addresses.api)),
        ("ROLLCALL_OPERATOR_KEY", operator_key.to_owned()),
        ("ROLLCALL_SEALING_KEY", sealing_key.to_owned()),
        // Also what names no carrier address of its own goes to the sandbox.
        ("TWILIO_API_BASE_URL", carrier),
        ("MAX_CONCURRENT_CALLS", MAX_LINES.to_string()),
        ("DRAIN_TIMEOUT_SECS", DRAIN_SECS.to_owned()),
    ])
}

/// Refuses an address that is not a literal loopback address, so that a demo can never ring a person. Names are refused
/// too, `localhost` among them: what they mean is decided elsewhere.
pub(super) fn ensure_loopback(url: &str) -> anyhow::Result<()> {
    let parsed: Url = url.parse().with_context(|| format!("{url} is no URL"))?;
    let loopback = match parsed.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    ensure!(loopback, "{url} is not on this machine's loopback; the demo calls nobody but its own sandbox carrier");
    Ok(())
}

/// 32 random bytes in base64.
fn random_text() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_that_is_not_loopback_is_refused() {
        for fine in ["http://127.0.0.1:4010", "http://127.9.9.9", "http://[::1]:4010/base"] {
            assert!(ensure_loopback(fine).is_ok(), "{fine}");
        }
        for other in [
            "https://api.twilio.com",
            "http://localhost:4010",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@api.twilio.com",
            "http://192.168.1.7",
            "http://0.0.0.0:4010",
            "http://[::ffff:10.0.0.1]",
            "127.0.0.1:4010",
            "",
        ] {
            assert!(ensure_loopback(other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_keys_of_a_demo_are_32_bytes_and_new_each_time() {
        assert_eq!(STANDARD.decode(random_text()).unwrap().len(), 32);
        assert_ne!(random_text(), random_text());
    }
}
