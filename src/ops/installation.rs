//! A whole installation of our own: stores, sandbox, api, workers and a calls program, as children of this process that see nothing
//! of its settings. The demo and the bench run on one.
//!
//! It can never ring a person: its only carrier is the sandbox, and an address that is not on loopback is refused. So are its
//! voice providers.

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
        children::{Children, Stop},
        environment::clean_command,
        health::http_client,
        private::{Durability, PrivateStores, free_addresses},
    },
    stores::MIGRATOR,
};

const API: &str = "api";
const CALLS: &str = "calls";
const CARRIER: &str = "carrier";
/// The workers of an installation by their number; as many as there are names can be had.
const WORKERS: [&str; 4] = ["worker", "worker-2", "worker-3", "worker-4"];
/// So long may the worker and the api take to finish what they do when they are asked to stop.
const DRAIN_SECS: &str = "10";
/// Longest exchange with the api or the carrier. A long wait of the carrier's, or an upload, fits into it.
const EXCHANGE: Duration = Duration::from_secs(300);

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of the programs.
    pub programs: PathBuf,
    /// Flags of the sandbox carrier.
    pub carrier: Vec<&'static str>,
    /// Settings of api, worker and calls program besides those that say who is where.
    pub settings: Vec<(&'static str, String)>,
    /// Settings of Postgres besides its defaults, each as `name=value`.
    pub postgres: Vec<&'static str>,
    /// How many workers, at most four.
    pub workers: usize,
    /// Whether agents talk: a calls program runs, and the sandbox's voice providers hear, think and speak.
    pub talks: bool,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Installation {
    plan: Plan,
    stores: PrivateStores,
    settings: Vec<(&'static str, String)>,
    addresses: Addresses,
    /// The key that manages businesses.
    pub operator_key: String,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Addresses {
    api: SocketAddr,
    api_admin: SocketAddr,
    worker_admins: [SocketAddr; WORKERS.len()],
    carrier: SocketAddr,
    calls: SocketAddr,
    calls_admin: SocketAddr,
}

impl Installation {
    /// Starts the stores, applies the schema, and starts the programs of the plan, each when the one before answers.
    ///
    /// # Errors
    /// Where a program is missing or does not start; with the end of its log.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let stores = PrivateStores::start_with(Durability::Flushed, plan.postgres.clone()).await?;
        stores.migrate(&MIGRATOR).await?;
        let [api, api_admin, carrier, calls, calls_admin, a, b, c, d] = free_addresses()?;
        let addresses = Addresses { api, api_admin, worker_admins: [a, b, c, d], carrier, calls, calls_admin };
        let (operator_key, sealing_key) = (random_text(), random_text());
        let settings = settings(&plan, &stores, &addresses, &operator_key, &sealing_key)?;
        let http = http_client(EXCHANGE)?;
        let mut all = Self { plan, stores, settings, addresses, operator_key, http };
        all.start_carrier().await?;
        all.start_api().await?;
        if all.plan.talks {
            all.start_calls().await?;
        }
        for number in 0..all.plan.workers {
            all.start_worker(number).await?;
        }
        Ok(all)
    }

    /// Where REST, pages and webhooks answer.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// Where the api's health, status and metrics answer.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.addresses.api_admin)
    }

    /// Where health, status and metrics of a worker answer; `None` where there is no worker of this number.
    #[must_use]
    pub fn worker_admin_url(&self, number: usize) -> Option<String> {
        self.addresses.worker_admins.get(number).map(|address| format!("http://{address}"))
    }

    /// Where the health, status and metrics of the calls program answer, if there is one.
    #[must_use]
    pub fn calls_admin_url(&self) -> String {
        format!("http://{}", self.addresses.calls_admin)
    }

    /// Where the sandbox carrier answers.
    #[must_use]
    pub fn carrier_url(&self) -> String {
        format!("http://{}", self.addresses.carrier)
    }

    /// The address of the database.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.stores.database_url()
    }

    /// The address of Redis.
    #[must_use]
    pub fn redis_url(&self) -> String {
        self.stores.redis_url()
    }

    /// Where the logs of the programs are, until the end.
    pub fn logs(&mut self) -> &Path {
        self.stores.children().scratch()
    }

    /// The processes: `api`, `calls`, `carrier`, `worker`, `worker-2` …, and those of the stores.
    pub fn children(&mut self) -> &mut Children {
        self.stores.children()
    }

    /// A client for these programs.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Fails where a program is not running any more.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let (workers, calls) = (self.plan.workers, self.plan.talks.then_some(CALLS));
        let children = self.stores.children();
        for name in WORKERS.into_iter().take(workers).chain(calls).chain([API, CARRIER]) {
            if !children.runs(name)? {
                bail!("the {name} ended.\n{}", children.log_end(name));
            }
        }
        Ok(())
    }

    /// Starts one worker more and waits until it takes work.
    ///
    /// # Errors
    /// Where there are four already, or it does not start; with the end of its log.
    pub async fn add_worker(&mut self) -> anyhow::Result<()> {
        self.start_worker(self.plan.workers).await?;
        self.plan.workers += 1;
        Ok(())
    }

    /// Ends a worker without a warning, as an out-of-memory killer would, and starts another one.
    ///
    /// # Errors
    /// Where it does not run, or no other starts.
    pub async fn kill_worker(&mut self, number: usize) -> anyhow::Result<()> {
        let name = WORKERS.get(number).context("there are four workers at most")?;
        self.stores.children().kill(name)?;
        self.start_worker(number).await
    }

    /// Stops workers, calls program, api and carrier, then Redis and Postgres, and removes what they wrote.
    ///
    /// # Errors
    /// Where the runtime itself is stopping.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stores.end().await
    }

    async fn start_carrier(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("rollcall-carrier")?;
        command.arg("--addr").arg(self.addresses.carrier.to_string()).args(&self.plan.carrier);
        let answers = format!("{}/healthz", self.carrier_url());
        self.start_program(CARRIER, command, answers).await
    }

    async fn start_api(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("rollcall-api")?;
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("SERVICE_ROLE", "api").env("ADMIN_ADDR", self.addresses.api_admin.to_string());
        let ready = format!("{}/readyz", self.admin_url());
        self.start_program(API, command, ready).await
    }

    async fn start_calls(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("rollcall-calls")?;
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let (calls, admin) = (self.addresses.calls, self.addresses.calls_admin);
        command.env("SERVICE_ROLE", "calls").env("ADMIN_ADDR", admin.to_string());
        command.env("CALLS_ADDR", calls.to_string()).env("PUBLIC_MEDIA_URL", format!("ws://{calls}"));
        self.start_program(CALLS, command, format!("http://{admin}/readyz")).await
    }

    async fn start_worker(&mut self, number: usize) -> anyhow::Result<()> {
        let (Some(&name), Some(&admin)) = (WORKERS.get(number), self.addresses.worker_admins.get(number)) else {
            bail!("there are {} workers at most", WORKERS.len())
        };
        let mut command = self.program("rollcall-worker")?;
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("SERVICE_ROLE", "worker").env("ADMIN_ADDR", admin.to_string());
        self.start_program(name, command, format!("http://{admin}/readyz")).await
    }

    /// `name` from the folder of programs, in the scratch folder, where no `.env` lies.
    fn program(&mut self, name: &str) -> anyhow::Result<Command> {
        let path = self.plan.programs.join(name);
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

/// The settings of api, worker and calls program: these and no others.
fn settings(
    plan: &Plan,
    stores: &PrivateStores,
    addresses: &Addresses,
    operator_key: &str,
    sealing_key: &str,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let carrier = format!("http://{}", addresses.carrier);
    ensure_loopback(&carrier)?;
    let mut settings = vec![
        ("DATABASE_URL", stores.database_url()),
        ("REDIS_URL", stores.redis_url()),
        ("API_ADDR", addresses.api.to_string()),
        ("PUBLIC_BASE_URL", format!("http://{}", addresses.api)),
        ("ROLLCALL_OPERATOR_KEY", operator_key.to_owned()),
        ("ROLLCALL_SEALING_KEY", sealing_key.to_owned()),
        // Also what names no address of its own goes to the sandbox, which takes every key.
        ("DEEPGRAM_BASE_URL", carrier.clone()),
        ("DEEPGRAM_API_KEY", "sandbox".to_owned()),
        ("OPENAI_BASE_URL", format!("{carrier}/v1")),
        ("OPENAI_API_KEY", "sandbox".to_owned()),
        ("ELEVENLABS_BASE_URL", carrier.clone()),
        ("ELEVENLABS_API_KEY", "sandbox".to_owned()),
        ("TELNYX_API_BASE_URL", carrier.clone()),
        ("TWILIO_API_BASE_URL", carrier),
        ("DRAIN_TIMEOUT_SECS", DRAIN_SECS.to_owned()),
    ];
    settings.extend(plan.settings.iter().cloned());
    Ok(settings)
}

/// Refuses an address that is not a literal loopback address, so that a demo can never ring a person. Names are refused
/// too, `localhost` among them: what they mean is decided elsewhere.
pub(in crate::ops) fn ensure_loopback(url: &str) -> anyhow::Result<()> {
    let parsed: Url = url.parse().with_context(|| format!("{url} is no URL"))?;
    let loopback = match parsed.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    ensure!(loopback, "{url} is not on this machine's loopback; nobody is called but a sandbox carrier of our own");
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
    fn the_keys_are_32_bytes_and_new_each_time() {
        assert_eq!(STANDARD.decode(random_text()).unwrap().len(), 32);
        assert_ne!(random_text(), random_text());
    }
}
