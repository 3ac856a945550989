//! A whole installation to be broken: private stores, the sandbox carrier, two apis behind a door and up to three workers,
//! all real programs, with a fault proxy on every road between them.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::StatusCode;
use rollcall::{
    ops::{
        children::Stop,
        private::{Durability, PrivateStores, free_addresses},
    },
    sim::{CallReport, Faults, LogEntry},
    stores::MIGRATOR,
};
use serde::de::DeserializeOwned;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::proxy::Proxy;

/// The carrier among the children.
const CARRIER: &str = "carrier";
/// A replica that has not drained by then is told so hard.
const DRAIN: Duration = Duration::from_secs(15);
/// A connection that came while Postgres was stopping, and has not said yet who it is, gets no signal and keeps Postgres from
/// ending for this time (by default a minute, seen with Postgres 15): a road that lets nothing through makes such connections.
const SILENT_CLIENTS: &str = "authentication_timeout=2s";
/// The operator key of every trial.
pub(crate) const OPERATOR_KEY: &str = "operator key of the trial by fault";
/// 32 bytes in base64.
const SEALING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Api(usize),
    Worker(usize),
}

/// What there is of each.
pub(crate) const ALL: [Who; 5] = [Who::Api(0), Who::Api(1), Who::Worker(0), Who::Worker(1), Who::Worker(2)];

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api(0) => "api-1",
            Self::Api(_) => "api-2",
            Self::Worker(0) => "worker-1",
            Self::Worker(1) => "worker-2",
            Self::Worker(_) => "worker-3",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Api(n) => n,
            Self::Worker(n) => 2 + n,
        }
    }
}

/// What differs from one trial to another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// The seed of the carrier and of the proxies.
    pub(crate) seed: u64,
    /// Flags of the sandbox carrier.
    pub(crate) carrier: Vec<String>,
    /// Settings of apis and workers.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Variables of one replica, from its first start on.
    pub(crate) of_one: Vec<(&'static str, &'static str, String)>,
    /// Workers to begin with.
    pub(crate) workers: usize,
    /// Every second business dials through Telnyx, the others through Twilio.
    pub(crate) both_carriers: bool,
}

#[derive(Debug)]
struct Replica {
    who: Who,
    serves: SocketAddr,
    admin: SocketAddr,
    /// Variables of this one.
    extra: Vec<(&'static str, String)>,
    /// It is to run: where it does not, it is started again.
    wanted: bool,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) stores: PrivateStores,
    pub(crate) http: reqwest::Client,
    pub(crate) door: Proxy,
    pub(crate) to_postgres: Proxy,
    pub(crate) to_redis: Proxy,
    pub(crate) to_carrier: Proxy,
    /// Replicas that ended though nobody had asked them to.
    pub(crate) ended_alone: Vec<String>,
    programs: PathBuf,
    settings: Vec<(&'static str, String)>,
    carrier: SocketAddr,
    replicas: Vec<Replica>,
}

impl Site {
    /// Starts stores, carrier and proxies; no replica yet.
    pub(crate) async fn open(terms: &Terms) -> anyhow::Result<Self> {
        let stores = PrivateStores::start_with(Durability::Flushed, vec![SILENT_CLIENTS]).await?;
        stores.migrate(&MIGRATOR).await?;
        let [carrier, rest @ ..]: [SocketAddr; 11] = free_addresses()?;
        let (serve, admin) = rest.split_at(5);
        let replicas: Vec<Replica> = ALL
            .into_iter()
            .zip(serve.iter().zip(admin))
            .map(|(who, (&serves, &admin))| Replica { who, serves, admin, extra: Vec::new(), wanted: false })
            .collect();
        let door = Proxy::open(vec![serve[0], serve[1]], terms.seed).await?;
        let to_postgres = Proxy::open(vec![address(&stores.database_url())?], terms.seed + 1).await?;
        let to_redis = Proxy::open(vec![address(&stores.redis_url())?], terms.seed + 2).await?;
        let to_carrier = Proxy::open(vec![carrier], terms.seed + 3).await?;
        let mut settings = vec![
            ("DATABASE_URL", format!("postgres://rollcall@{}/rollcall", to_postgres.addr)),
            ("REDIS_URL", format!("redis://{}/0", to_redis.addr)),
            ("PUBLIC_BASE_URL", format!("http://{}", door.addr)),
            ("TWILIO_API_BASE_URL", format!("http://{}", to_carrier.addr)),
            ("ROLLCALL_OPERATOR_KEY", OPERATOR_KEY.to_owned()),
            ("ROLLCALL_SEALING_KEY", SEALING_KEY.to_owned()),
            ("DRAIN_TIMEOUT_SECS", "10".to_owned()),
        ];
        settings.extend(terms.settings.iter().cloned());
        let programs = Path::new(env!("CARGO_BIN_EXE_rollcall-worker")).parent().context("no folder of programs")?;
        let mut site = Self {
            stores,
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?,
            door,
            to_postgres,
            to_redis,
            to_carrier,
            ended_alone: Vec::new(),
            programs: programs.to_owned(),
            settings,
            carrier,
            replicas,
        };
        for (name, variable, value) in &terms.of_one {
            let found = site.replicas.iter_mut().find(|replica| replica.who.name() == *name);
            found.context("no such replica")?.extra.push((variable, value.clone()));
        }
        site.start_carrier(terms).await?;
        Ok(site)
    }

    /// Starts both apis and so many workers, and waits until they are ready.
    pub(crate) async fn start_replicas(&mut self, workers: usize) -> anyhow::Result<()> {
        for who in [Who::Api(0), Who::Api(1)].into_iter().chain((0..workers).map(Who::Worker)) {
            self.start(who)?;
        }
        for place in 0..2 + workers {
            self.until_ready(self.replicas[place].who).await?;
        }
        Ok(())
    }

    /// Waits until a replica answers that it is ready.
    pub(crate) async fn until_ready(&mut self, who: Who) -> anyhow::Result<()> {
        let (url, http) = (format!("http://{}/readyz", self.replicas[who.place()].admin), self.http.clone());
        let ready = async || http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        self.stores.children().wait_for(who.name(), ready).await
    }

    async fn start_carrier(&mut self, terms: &Terms) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.join("rollcall-carrier"));
        command.env_clear().args([
            "--addr",
            &self.carrier.to_string(),
            "--no-magic",
            "--cps",
            "0",
            "--telnyx-dps",
            "0",
        ]);
        command.args(["--seed", &terms.seed.to_string()]).args(&terms.carrier);
        self.stores.children().spawn(CARRIER, command, Stop::Terminate)?;
        let (http, url) = (self.http.clone(), self.carrier_url("/healthz"));
        let answers = async || http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        self.stores.children().wait_for(CARRIER, answers).await
    }

    /// Starts a replica and does not wait for it; from now on it is started again whenever it has ended.
    pub(crate) fn start(&mut self, who: Who) -> anyhow::Result<()> {
        let api = matches!(who, Who::Api(_));
        let mut command = Command::new(self.programs.join(if api { "rollcall-api" } else { "rollcall-worker" }));
        let replica = &mut self.replicas[who.place()];
        replica.wanted = true;
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("SERVICE_ROLE", if api { "api" } else { "worker" });
        command.env("ADMIN_ADDR", replica.admin.to_string()).env("API_ADDR", replica.serves.to_string());
        command.envs(replica.extra.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.stores.children().scratch());
        self.stores.children().spawn(who.name(), command, Stop::Terminate)
    }

    /// Variables of one replica from its next start on.
    pub(crate) fn equip(&mut self, who: Who, extra: Vec<(&'static str, String)>) {
        self.replicas[who.place()].extra = extra;
    }

    /// Starts again what has ended by itself.
    pub(crate) fn tend(&mut self) -> anyhow::Result<()> {
        for who in ALL {
            if self.replicas[who.place()].wanted && !self.stores.children().runs(who.name())? {
                let end = self.stores.children().log_end(who.name());
                let last = end.lines().last().unwrap_or_default();
                self.ended_alone.push(format!("{} ended by itself: {last}", who.name()));
                self.start(who)?;
            }
        }
        Ok(())
    }

    /// kill -9, and another one at once.
    pub(crate) fn kill(&mut self, who: Who) -> anyhow::Result<()> {
        if self.replicas[who.place()].wanted {
            if self.stores.children().runs(who.name())? {
                self.stores.children().kill(who.name())?;
            }
            self.start(who)?;
        }
        Ok(())
    }

    /// SIGTERM, and where it is to go on, another one when it has drained.
    pub(crate) async fn terminate(&mut self, who: Who, then: Then) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.replicas[who.place()].wanted, false) {
            return Ok(());
        }
        if self.stores.children().runs(who.name())? {
            let stopped = tokio::time::timeout(DRAIN, self.stores.children().stop(who.name(), Stop::Terminate)).await;
            if stopped.is_err() {
                self.ended_alone.push(format!("{} did not drain within {} s", who.name(), DRAIN.as_secs()));
                self.stores.children().kill(who.name())?;
            }
        }
        if then == Then::Another { self.start(who) } else { Ok(()) }
    }

    /// SIGSTOP or SIGCONT, to a replica or a store.
    pub(crate) fn signal(&mut self, name: &str, signal: Signal) -> anyhow::Result<()> {
        if let Some(pid) = self.stores.children().pid(name) {
            // One that has ended in this moment is started again by the next look.
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), signal);
        }
        Ok(())
    }

    /// True while a replica is stopped by a signal, whoever sent it.
    pub(crate) fn is_stopped(&mut self, who: Who) -> anyhow::Result<bool> {
        let Some(pid) = self.stores.children().pid(who.name()) else { return Ok(false) };
        if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            // "7 (name) T 1 …", and a name may hold a bracket.
            return Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')));
        }
        let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output()?;
        Ok(output.stdout.first() == Some(&b'T'))
    }

    /// Runs `rollcall-ops` with these words, with the settings of the replicas; its exit code, where it ends within 20 s.
    pub(crate) async fn ops(&mut self, words: &[&str]) -> anyhow::Result<Option<i32>> {
        let mut command = tokio::process::Command::new(self.programs.join("rollcall-ops"));
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value))).args(words);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        command.as_std_mut().process_group(0).current_dir(self.stores.children().scratch());
        match tokio::time::timeout(Duration::from_secs(20), command.output()).await {
            Ok(output) => Ok(output?.status.code()),
            Err(_) => Ok(None),
        }
    }

    /// Ids of the apis' processes.
    pub(crate) fn api_pids(&mut self) -> Vec<u32> {
        ["api-1", "api-2"].into_iter().filter_map(|name| self.stores.children().pid(name)).collect()
    }

    /// A pool of our own to the database, past the proxy.
    pub(crate) fn sql(&mut self) -> anyhow::Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(3).acquire_timeout(Duration::from_secs(1));
        Ok(options.connect_lazy(&self.stores.database_url())?)
    }

    /// What the carrier shows at one of its own routes.
    pub(crate) async fn carrier<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self.http.get(self.carrier_url(path)).send().await?.error_for_status()?.json().await?)
    }

    /// Every create that the carrier received.
    pub(crate) async fn carrier_log(&self) -> anyhow::Result<Vec<LogEntry>> {
        let text = self.http.get(self.carrier_url("/_log")).send().await?.error_for_status()?.text().await?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Every call that the carrier has.
    pub(crate) async fn carrier_calls(&self) -> anyhow::Result<Vec<CallReport>> {
        self.carrier("/_calls").await
    }

    /// Replaces the faults of the carrier.
    pub(crate) async fn set_faults(&self, faults: &Faults) -> anyhow::Result<()> {
        let answer = self.http.put(self.carrier_url("/_faults")).json(faults).send().await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "the carrier takes no such fault: {}", answer.text().await?);
        Ok(())
    }

    pub(crate) fn carrier_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.carrier)
    }
}

/// What follows a SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Another,
    Nothing,
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let url: url::Url = url.parse()?;
    Ok(SocketAddr::new(url.host_str().context("no host")?.parse()?, url.port().context("no port")?))
}
