//! Postgres and Redis of our own, for a demo or a test run: never an instance that is already there.
//!
//! Both listen on loopback, on ports that were free, and keep everything in the scratch folder of `Children`. Postgres
//! refuses to run as root, so root starts both as another user.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use nix::unistd::{User, geteuid};
use rand::RngExt;
use sqlx::{
    Connection, PgConnection, Postgres,
    migrate::{MigrateDatabase, Migrator},
};

use crate::ops::{
    binaries::Binaries,
    children::{Children, Stop},
    environment::clean_command,
};

/// Postgres among [`PrivateStores::children`].
pub const POSTGRES: &str = "postgres";
/// Redis among [`PrivateStores::children`].
pub const REDIS: &str = "redis";
/// Enough for a test run with a pool per test, beside a few servers.
const MAX_CONNECTIONS: u32 = 300;
/// A free port can be taken by someone else before its server binds it; then others are tried.
const START_TRIES: usize = 3;
/// Below the ports that a system gives by itself, to whoever connects or asks for any (Linux: 32768–60999; IANA's dynamic
/// ports, RFC 6335 §6: 49152–65535): a port of these is taken by nobody while its server is away.
const PORTS: Range<u16> = 20_000..32_768;

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production: Postgres flushes each commit, Redis its log each second.
    Flushed,
    /// Nothing is flushed: for tests, which do not outlive the machine.
    Scratch,
}

/// Postgres and Redis, running as children of this process.
#[derive(Debug)]
pub struct PrivateStores {
    children: Children,
    binaries: Binaries,
    durability: Durability,
    user: Option<User>,
    postgres: SocketAddr,
    redis: SocketAddr,
    set: Vec<&'static str>,
}

impl PrivateStores {
    /// Starts both, with an empty database `rollcall`, and waits until they answer.
    ///
    /// # Errors
    /// Where a program is missing, or does not start; with what it printed.
    pub async fn start(durability: Durability) -> anyhow::Result<Self> {
        Self::start_with(durability, Vec::new()).await
    }

    /// The same with settings of Postgres besides, each as `name=value`.
    ///
    /// # Errors
    /// Where a program is missing, or does not start; with what it printed.
    pub async fn start_with(durability: Durability, set: Vec<&'static str>) -> anyhow::Result<Self> {
        let binaries = Binaries::find()?;
        let children = Children::new()?;
        let [postgres, redis] = free_addresses()?;
        let mut stores = Self { children, binaries, durability, user: other_user()?, postgres, redis, set };
        stores.make_cluster().await?;
        let mut tries = 1;
        while let Err(error) = stores.start_servers().await {
            if tries == START_TRIES {
                return Err(error);
            }
            tries += 1;
            for name in [REDIS, POSTGRES] {
                if stores.children.runs(name)? {
                    stores.children.kill(name)?;
                }
            }
            [stores.postgres, stores.redis] = free_addresses()?;
        }
        Postgres::create_database(&stores.database_url()).await?;
        Ok(stores)
    }

    /// The address of the database, for `DATABASE_URL`.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.url_of("rollcall")
    }

    /// The address of Redis, for `REDIS_URL`.
    #[must_use]
    pub fn redis_url(&self) -> String {
        format!("redis://{}/0", self.redis)
    }

    /// Applies these migrations to the private database.
    ///
    /// # Errors
    /// Where a migration fails.
    pub async fn migrate(&self, migrator: &Migrator) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.database_url()).await?;
        migrator.run(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// The scratch folder and the processes in it, for more of them: they are stopped before the stores are.
    pub fn children(&mut self) -> &mut Children {
        &mut self.children
    }

    /// Stops Postgres fast, as an upgrade does, and starts it again on the same port with the same data.
    ///
    /// # Errors
    /// Where it does not stop or start.
    pub async fn restart_postgres(&mut self) -> anyhow::Result<()> {
        self.children.stop(POSTGRES, Stop::Interrupt).await?;
        self.start_postgres().await
    }

    /// Stops everything in the scratch folder, the stores last, and removes it. Dropping does the same.
    ///
    /// # Errors
    /// Where the runtime itself is stopping.
    pub async fn end(self) -> anyhow::Result<()> {
        self.children.end().await
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://rollcall@{}/{database}", self.postgres)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.children.scratch().join(name)
    }

    /// `program` in the scratch folder, as the user that the stores run as.
    fn command(&self, program: &Path) -> Command {
        let mut command = clean_command(program);
        command.current_dir(self.children.scratch());
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    async fn make_cluster(&mut self) -> anyhow::Result<()> {
        let redis = self.folder(REDIS);
        std::fs::create_dir(&redis)?;
        if let Some(user) = &self.user {
            for folder in [self.children.scratch(), &redis] {
                chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        let mut initdb = self.command(&self.binaries.postgres.join("initdb"));
        initdb.args(["--locale=C", "--encoding=UTF8", "--auth=trust", "--username=rollcall", "--no-sync"]);
        initdb.arg("--pgdata").arg(self.folder(POSTGRES));
        self.children.run("initdb", initdb).await
    }

    async fn start_servers(&mut self) -> anyhow::Result<()> {
        self.start_postgres().await?;
        self.start_redis().await
    }

    /// Starts Postgres, which has been stopped, on the same port with the same data, and waits until it answers.
    ///
    /// # Errors
    /// Where it does not start; with the end of its log.
    pub async fn start_postgres(&mut self) -> anyhow::Result<()> {
        let mut command = self.command(&self.binaries.postgres.join("postgres"));
        command.arg("-D").arg(self.folder(POSTGRES)).arg("-k").arg(self.children.scratch());
        let mut settings = vec![
            format!("listen_addresses={}", self.postgres.ip()),
            format!("port={}", self.postgres.port()),
            format!("max_connections={MAX_CONNECTIONS}"),
        ];
        if self.durability == Durability::Scratch {
            settings.extend(["fsync=off".to_owned(), "full_page_writes=off".to_owned()]);
        }
        settings.extend(self.set.iter().map(|setting| (*setting).to_owned()));
        for setting in settings {
            command.args(["-c", &setting]);
        }
        self.children.spawn(POSTGRES, command, Stop::Interrupt)?;
        let url = self.url_of("postgres");
        let connects = async || match PgConnection::connect(&url).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        };
        self.children.wait_for(POSTGRES, connects).await
    }

    /// Starts Redis, which has been stopped, on the same port with what it had saved (nothing where `Scratch`), and waits
    /// until it answers.
    ///
    /// # Errors
    /// Where it does not start; with the end of its log.
    pub async fn start_redis(&mut self) -> anyhow::Result<()> {
        let mut command = self.command(&self.binaries.redis);
        command.arg("--dir").arg(self.folder(REDIS));
        command.args(["--bind", &self.redis.ip().to_string(), "--port", &self.redis.port().to_string(), "--save", ""]);
        command.args(match self.durability {
            Durability::Flushed => ["--appendonly", "yes", "--appendfsync", "everysec"].as_slice(),
            Durability::Scratch => ["--appendonly", "no"].as_slice(),
        });
        self.children.spawn(REDIS, command, Stop::Terminate)?;
        let client = redis::Client::open(self.redis_url())?;
        let answers = async || match client.get_multiplexed_async_connection().await {
            Ok(mut connection) => redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok(),
            Err(_) => false,
        };
        self.children.wait_for(REDIS, answers).await
    }
}

/// So many loopback addresses with different ports that were free a moment ago, for servers that may go and come back.
///
/// # Errors
/// Where no port can be bound.
pub fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    // All are held until all are known, so that none is given out twice.
    let held: Vec<TcpListener> = (0..N).map(|_| any_free()).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().map_err(|_| anyhow::anyhow!("fewer ports were bound than asked for"))
}

fn any_free() -> anyhow::Result<TcpListener> {
    for _ in PORTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS))) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return Ok(bound?),
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}

/// Whom the stores run as, where it is not ourselves.
fn other_user() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    None.context("Postgres does not run as root, and there is neither a user `postgres` nor `nobody` to run it as")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::stores::MIGRATOR;

    #[test]
    fn free_addresses_are_all_different_and_loopback_and_none_that_a_system_gives_to_who_connects() {
        let addresses: [SocketAddr; 50] = free_addresses().unwrap();
        let ports: std::collections::HashSet<u16> = addresses.iter().map(SocketAddr::port).collect();
        assert_eq!(ports.len(), addresses.len());
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && PORTS.contains(&address.port())));
    }

    #[tokio::test]
    async fn private_stores_take_the_schema_survive_a_restart_and_leave_nothing() {
        let mut stores = PrivateStores::start(Durability::Scratch).await.unwrap();
        let scratch = stores.children().scratch().to_owned();
        let folder = std::fs::metadata(&scratch).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        assert!(!geteuid().is_root() || folder.uid() != 0, "root's stores belong to another user");

        stores.migrate(&MIGRATOR).await.unwrap();
        stores.restart_postgres().await.unwrap();
        let mut connection = PgConnection::connect(&stores.database_url()).await.unwrap();
        let applied = sqlx::raw_sql("SELECT 1 FROM _sqlx_migrations").execute(&mut connection).await.unwrap();
        assert_eq!(usize::try_from(applied.rows_affected()).unwrap(), MIGRATOR.iter().count());

        let (postgres, redis) = (stores.postgres, stores.redis);
        stores.end().await.unwrap();
        assert!(!scratch.exists());
        for address in [postgres, redis] {
            assert!(std::net::TcpStream::connect(address).is_err(), "{address} still answers");
        }
    }
}
