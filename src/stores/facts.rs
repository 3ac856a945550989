//! What the stores say of themselves: versions, durability, clocks, migrations.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError};

use crate::stores::{APPLIED, Stores};

/// What Postgres says of itself.
#[derive(Debug, Clone)]
pub struct PostgresFacts {
    /// Its version, as it writes it.
    pub version: String,
    /// Commits reach the disk.
    pub fsync: bool,
    /// Pages survive a write that was cut.
    pub full_page_writes: bool,
    /// When a commit is acknowledged.
    pub synchronous_commit: String,
    /// It is a standby and takes no writes.
    pub replica: bool,
    /// Connections that it takes from programs.
    pub connections: i64,
    /// Those that there are now.
    pub connected: i64,
}

/// A server that takes Postgres' log, and could be promoted.
#[derive(Debug, Clone)]
pub struct Standby {
    /// What it calls itself, or where it is.
    pub name: String,
    /// `sync`, `quorum`, `potential` or `async`; none where this role may not see it.
    pub sync_state: Option<String>,
    /// Bytes of the log that it has not flushed.
    pub behind_bytes: Option<i64>,
    /// How long it took of late to flush what it is sent, ms; none where nothing was sent of late.
    pub behind_ms: Option<i64>,
}

impl Stores {
    /// What Postgres says of itself.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn postgres(&self) -> sqlx::Result<PostgresFacts> {
        sqlx::query_as!(
            PostgresFacts,
            r#"SELECT current_setting('server_version') AS "version!", current_setting('fsync') = 'on' AS "fsync!",
                      current_setting('full_page_writes') = 'on' AS "full_page_writes!",
                      current_setting('synchronous_commit') AS "synchronous_commit!", pg_is_in_recovery() AS "replica!",
                      current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                          AS "connections!",
                      (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS "connected!""#
        )
        .fetch_one(&self.pg)
        .await
    }

    /// The standbys that are attached. A backup that is being taken, an archive and a logical subscriber are none.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn standbys(&self) -> sqlx::Result<Vec<Standby>> {
        // Without the rights of pg_monitor every column but the pid is null (PostgreSQL manual, "pg_stat_replication").
        sqlx::query_as!(
            Standby,
            r#"SELECT coalesce(nullif(r.application_name, ''), host(r.client_addr), 'process ' || r.pid) AS "name!", r.sync_state,
                      CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.flush_lsn)::bigint END AS behind_bytes,
                      (extract(epoch FROM r.flush_lag) * 1000)::bigint AS behind_ms
               FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
               WHERE s.slot_type IS DISTINCT FROM 'logical' AND r.state IS DISTINCT FROM 'backup'
                   AND coalesce(r.application_name, '') NOT IN ('pg_basebackup', 'pg_receivewal')
               ORDER BY 1"#
        )
        .fetch_all(&self.pg)
        .await
    }

    /// What Redis says of itself (`INFO`), name by name. `CONFIG` is not asked: managed ones refuse it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn redis_info(&self) -> redis::RedisResult<HashMap<String, String>> {
        let text: String = redis::cmd("INFO").query_async(&mut self.redis.clone()).await?;
        let facts = text.lines().filter_map(|line| line.split_once(':'));
        Ok(facts.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// Versions of the migrations that the database has, and the one that failed half way, if any.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn migrations(&self) -> anyhow::Result<(Vec<AppliedMigration>, Option<i64>)> {
        let mut connection = self.pg.acquire().await?;
        let failed = match connection.dirty_version(APPLIED).await {
            // undefined_table (PostgreSQL manual, appendix A): nobody has migrated this database yet.
            Err(MigrateError::Execute(sqlx::Error::Database(error))) if error.code().as_deref() == Some("42P01") => {
                return Ok((Vec::new(), None));
            }
            answer => answer?,
        };
        Ok((connection.list_applied_migrations(APPLIED).await?, failed))
    }

    /// Postgres' clock, microseconds since 1970.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn postgres_clock(&self) -> sqlx::Result<i64> {
        sqlx::query_scalar!(r#"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS "now!""#)
            .fetch_one(&self.pg)
            .await
    }

    /// The time, as Postgres tells it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn postgres_time(&self) -> sqlx::Result<DateTime<Utc>> {
        sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(&self.pg).await
    }

    /// Redis' clock, microseconds since 1970.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn redis_clock(&self) -> redis::RedisResult<i64> {
        let (secs, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut self.redis.clone()).await?;
        Ok(secs * 1_000_000 + micros)
    }
}
