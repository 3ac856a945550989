//! Opens Postgres and Redis, and names every Redis key.
//!
//! Invariant: a store that is down at the start is waited for, with a line that says so; nothing is skipped.
//! Not here: what is in the stores (each fact owns its tables and keys).

use std::{str::FromStr, sync::Arc, time::Duration};

use redis::{
    Client, IntoConnectionInfo,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use serde::Serialize;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

mod facts;
mod kept;
pub mod tenant;
pub mod together;

pub use facts::{PostgresFacts, Standby};

use crate::{
    config::{Settings, exposed},
    error::store_is_away,
};

/// The schema, in the program itself.
pub static MIGRATOR: Migrator = sqlx::migrate!();
/// Where the migrator keeps what it has applied.
const APPLIED: &str = "_sqlx_migrations";

/// Longest time that a Redis command may take. Longer than the stalls of a busy primary, shorter than a person's patience.
const REDIS_LIMIT: Duration = Duration::from_secs(5);

/// Both stores, cheap to clone.
#[derive(Clone)]
pub struct Stores {
    /// The record of everything.
    pub pg: PgPool,
    /// The same for requests of a business: shows the business that the request is bound to ([`tenant`]). It opens as many
    /// connections as it needs and at most as many as the other.
    pub tenant: PgPool,
    /// The gate, the bells, the heartbeats: may be emptied at any time.
    pub redis: ConnectionManager,
    /// The names of the Redis keys.
    pub keys: Keys,
    client: Arc<Client>,
}

/// The names of the Redis keys, all under one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// Keys under `prefix`, which may be empty.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// `name` under the prefix.
    #[must_use]
    pub fn key(&self, name: impl std::fmt::Display) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The prefix itself.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Stores {
    /// Opens both stores. Waits for a store that is down: a try every 250 ms to 5 s, each failure logged.
    ///
    /// # Errors
    /// Where an address cannot be read; never because a store is down.
    pub async fn open(settings: &Settings, application: &str) -> anyhow::Result<Self> {
        let (options, pool) = (pg_options(settings, application)?, pool_options(settings));
        let tenant = tenant::guarded(pool.clone()).connect_lazy_with(options.clone());
        let pg = wait_for("Postgres", || {
            let (pool, options) = (pool.clone(), options.clone());
            async move { Ok(pool.connect_with(options).await?) }
        })
        .await;
        let client = Arc::new(redis_client(settings)?);
        let redis = wait_for("Redis", || {
            let client = client.clone();
            async move { Ok(manage(&client).await?) }
        })
        .await;
        Ok(Self { pg, tenant, redis, keys: Keys::new(&settings.redis_prefix), client })
    }

    /// Both stores without a connection yet: one that is down shows at its first use, as an error.
    ///
    /// # Errors
    /// Where an address cannot be read.
    pub fn lazily(settings: &Settings, application: &str) -> anyhow::Result<Self> {
        let pg = pool_options(settings).connect_lazy_with(pg_options(settings, application)?);
        let tenant = tenant::guarded(pool_options(settings)).connect_lazy_with(pg_options(settings, application)?);
        let client = Arc::new(redis_client(settings)?);
        let redis = ConnectionManager::new_lazy_with_config((*client).clone(), manager_config())?;
        Ok(Self { pg, tenant, redis, keys: Keys::new(&settings.redis_prefix), client })
    }

    /// Applies the migrations that are missing, again where Postgres went away in the middle. Two processes may do it at once:
    /// one waits for the other. A schema that is newer than this program is left as it is, with a line that says so: the
    /// version before must run on it while its replicas are replaced, and again after a step back. Returns the versions that are applied.
    ///
    /// # Errors
    /// Where a migration fails, or one that was applied is not the one that this program knows.
    pub async fn migrate(settings: &Settings) -> anyhow::Result<Vec<i64>> {
        through_restarts("the schema", || Self::migrate_once(settings)).await
    }

    async fn migrate_once(settings: &Settings) -> anyhow::Result<Vec<i64>> {
        let options = PgConnectOptions::from_str(exposed(&settings.database_url))?;
        let pool = wait_for("Postgres", || {
            let options = options.clone();
            async move { Ok(PgPoolOptions::new().max_connections(1).connect_with(options).await?) }
        })
        .await;
        let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
        migrator.set_ignore_missing(true).run(&pool).await?;
        let applied = pool.acquire().await?.list_applied_migrations(&MIGRATOR.table_name).await?;
        let newer = applied.iter().filter(|one| !MIGRATOR.version_exists(one.version)).count();
        if newer > 0 {
            tracing::warn!(newer, "[STARTUP] the schema is newer than this program, which is fine for one version");
        }
        pool.close().await;
        Ok(applied.into_iter().map(|one| one.version).collect())
    }

    /// Waits until the schema is at least as new as this program, for programs that do not migrate: they may be replaced
    /// before the migration has run.
    pub async fn until_migrated(&self) {
        wait_for("the schema of this version", || async {
            let applied = self.pg.acquire().await?.list_applied_migrations(&MIGRATOR.table_name).await?;
            let lacks = MIGRATOR.iter().filter(|known| !applied.iter().any(|one| one.version == known.version)).count();
            anyhow::ensure!(lacks == 0, "{lacks} migrations were not applied; `rollcall-ops migrate` does it");
            Ok(())
        })
        .await;
    }

    /// A Redis connection of its own, for a queue worker or a blocking read.
    ///
    /// # Errors
    /// Where Redis cannot be reached now.
    pub async fn own_redis(&self) -> redis::RedisResult<ConnectionManager> {
        manage(&self.client).await
    }

    /// A Redis connection that waits without a limit, for blocking commands only.
    ///
    /// # Errors
    /// Where Redis cannot be reached now.
    pub async fn blocking_redis(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let config =
            redis::AsyncConnectionConfig::new().set_connection_timeout(Some(REDIS_LIMIT)).set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Opens one connection to Postgres and closes it: the pool only says that it waited in vain, this says why.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn reach_postgres(settings: &Settings) -> sqlx::Result<()> {
        PgConnection::connect_with(&pg_options(settings, "rollcall-ops")?).await?.close().await
    }

    /// True where both stores answer within a second each.
    pub async fn answer(&self) -> bool {
        self.away().await.is_empty()
    }

    /// The names of the stores that do not answer within a second each.
    pub async fn away(&self) -> Vec<&'static str> {
        let second = Duration::from_secs(1);
        let pg = tokio::time::timeout(second, sqlx::query_scalar!("SELECT 1").fetch_one(&self.pg));
        let mut redis = self.redis.clone();
        let ping =
            tokio::time::timeout(second, async move { redis::cmd("PING").query_async::<String>(&mut redis).await });
        let (pg, ping) = tokio::join!(pg, ping);
        let pg = (!matches!(pg, Ok(Ok(_)))).then_some("postgres");
        let redis = (!matches!(ping, Ok(Ok(_)))).then_some("redis");
        pg.into_iter().chain(redis).collect()
    }

    /// How Redis keeps what it holds, by its own `INFO`.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn redis_report(&self) -> redis::RedisResult<RedisReport> {
        let text: String = redis::cmd("INFO").query_async(&mut self.redis.clone()).await?;
        Ok(RedisReport::read(&text))
    }

    /// What Postgres counts of this database.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn postgres_report(&self) -> sqlx::Result<PostgresReport> {
        sqlx::query_as!(
            PostgresReport,
            r#"SELECT xact_commit + xact_rollback AS "transactions!", numbackends::bigint AS "connections!"
               FROM pg_stat_database WHERE datname = current_database()"#
        )
        .fetch_one(&self.pg)
        .await
    }
}

/// How Redis keeps what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedisReport {
    /// True where it has a memory limit and throws keys away when that is reached.
    pub may_evict: bool,
    /// Keys thrown away since it started.
    pub evicted_keys: u64,
    /// True where it keeps an append-only file and the last write of it was well.
    pub persistent: bool,
    /// Memory in use.
    pub memory_bytes: u64,
    /// The most memory that it may use; 0 without a limit.
    pub memory_limit_bytes: u64,
    /// Its version.
    pub version: String,
}

impl RedisReport {
    /// How full it is, in percent of its limit; none without one. Full, it takes no key more.
    #[must_use]
    pub fn memory_percent(&self) -> Option<f64> {
        (self.memory_limit_bytes > 0).then(|| self.memory_bytes as f64 * 100.0 / self.memory_limit_bytes as f64)
    }

    fn read(info: &str) -> Self {
        let text = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
        let number = |name: &str| text(name).trim().parse::<u64>().unwrap_or(0);
        Self {
            may_evict: number("maxmemory") > 0 && text("maxmemory_policy").trim() != "noeviction",
            evicted_keys: number("evicted_keys"),
            persistent: number("aof_enabled") == 1 && text("aof_last_write_status").trim() == "ok",
            memory_bytes: number("used_memory"),
            memory_limit_bytes: number("maxmemory"),
            version: text("redis_version").trim().to_owned(),
        }
    }
}

/// What Postgres counts of this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PostgresReport {
    /// Transactions since its statistics began; a statement outside of one is one.
    pub transactions: i64,
    /// Connections to this database, from whomever.
    pub connections: i64,
}

fn pg_options(settings: &Settings, application: &str) -> sqlx::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(exposed(&settings.database_url))?.application_name(application);
    Ok(options.options([
        ("lock_timeout", "500"),
        ("statement_timeout", "2000"),
        ("idle_in_transaction_session_timeout", "2000"),
        ("timezone", "UTC"),
        // A plan is kept as long as its connection. One that was made for small tables would read big ones whole, a plan per
        // execution costs more than the statement, compiling one costs 100 ms, and helpers take the core that dials.
        ("enable_seqscan", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
    ]))
}

fn pool_options(settings: &Settings) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(settings.database_pool)
        .acquire_timeout(Duration::from_secs(2))
        .idle_timeout(Duration::from_secs(60))
        .test_before_acquire(false)
        .before_acquire(|connection, was| Box::pin(still_there(connection, was.idle_for)))
}

/// Asks a connection whether it is still there, unless it was a second ago: asking is a round trip of its own.
async fn still_there(connection: &mut PgConnection, idle_for: Duration) -> sqlx::Result<bool> {
    if idle_for > Duration::from_secs(1) {
        connection.ping().await?;
    }
    Ok(true)
}

/// A command does not wait until the one before it was acknowledged: many are under way on one connection.
fn redis_client(settings: &Settings) -> redis::RedisResult<Client> {
    let address = exposed(&settings.redis_url).into_connection_info()?;
    Client::open(address.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn manager_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(REDIS_LIMIT))
        .set_response_timeout(Some(REDIS_LIMIT))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_secs(1))
}

async fn manage(client: &Client) -> redis::RedisResult<ConnectionManager> {
    ConnectionManager::new_with_config(client.clone(), manager_config()).await
}

/// Repeats a step of a start that broke off because Postgres went away.
///
/// # Errors
/// Where the step fails for any other reason.
pub async fn through_restarts<T, F>(name: &str, mut step: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    loop {
        match step().await {
            Err(error) if error.chain().any(|cause| cause.downcast_ref().is_some_and(store_is_away)) => {
                tracing::warn!(error = format!("{error:#}"), "[STARTUP] Postgres went away at {name}; again");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            done => return done,
        }
    }
}

async fn wait_for<T, F>(name: &str, mut open: impl FnMut() -> F) -> T
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut pause = Duration::from_millis(250);
    loop {
        match open().await {
            Ok(store) => return store,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    again_in_ms = pause.as_millis(),
                    "[STARTUP] {name} is not there yet"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn commands_to_redis_are_sent_at_once() {
        let client = redis_client(&Settings::parse_from(["test"])).unwrap();
        assert!(client.get_connection_info().tcp_settings().nodelay());
    }

    #[test]
    fn redis_evicts_only_with_a_limit_and_a_policy() {
        let report = |limit: u64, policy: &str, aof: u8, status: &str| {
            RedisReport::read(&format!(
                "# Memory\r\nused_memory:77\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n# Persistence\r\n\
                 aof_enabled:{aof}\r\naof_last_write_status:{status}\r\n# Stats\r\nevicted_keys:5\r\n"
            ))
        };
        assert!(!report(0, "allkeys-lru", 1, "ok").may_evict);
        assert!(!report(1_000, "noeviction", 1, "ok").may_evict);
        assert!(report(1_000, "volatile-ttl", 1, "ok").may_evict);
        assert!(report(0, "noeviction", 1, "ok").persistent);
        assert!(!report(0, "noeviction", 1, "err").persistent);
        assert!(!report(0, "noeviction", 0, "ok").persistent);
        assert_eq!((report(0, "x", 0, "").evicted_keys, report(0, "x", 0, "").memory_bytes), (5, 77));
        assert_eq!([0, 154].map(|limit| report(limit, "noeviction", 1, "ok").memory_percent()), [None, Some(50.0)]);
    }
}
