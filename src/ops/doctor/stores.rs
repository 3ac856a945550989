//! Postgres and Redis: there, quick, migrated, and keeping what they are given.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Check, Fault};
use crate::{
    context::Context,
    stores::{MIGRATOR, Stores},
};

/// A store that takes longer to answer once is away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions whose times are compared.
const QUESTIONS: usize = 5;
/// Half of the questions answered slower than this make dialing slow: a call needs several of them.
const SLOW: Duration = Duration::from_millis(20);
/// Percent of Redis' memory limit from which on somebody has to see to it, and from which on it may be full at any time.
const MEMORY_WARN: u64 = 85;
const MEMORY_FAIL: u64 = 95;
/// The oldest versions that are supported.
const OLDEST_POSTGRES: u32 = 14;
const OLDEST_REDIS: u32 = 6;

/// Postgres is there.
pub(super) async fn postgres(ctx: &Context) -> Check {
    let asked = tokio::time::timeout(PATIENCE, async {
        Stores::reach_postgres(&ctx.settings).await?;
        let facts = ctx.stores.postgres().await?;
        let took = median(async || ctx.stores.postgres_clock().await.map(|_| ())).await?;
        Ok::<_, sqlx::Error>((facts, took))
    });
    let (facts, took) = match asked.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Check::fail("postgres", format!("it does not answer: {error}"), POSTGRES_AWAY),
        Err(_) => return Check::fail("postgres", "it does not answer within 5 s", POSTGRES_AWAY),
    };
    let mut faults = speed(took);
    if facts.replica {
        faults.push(Fault::fail("it is a standby and takes no writes", "point DATABASE_URL at the primary"));
    }
    if major(&facts.version) < OLDEST_POSTGRES {
        faults.push(Fault::fail(format!("version {}", facts.version), "upgrade to Postgres 14 or later"));
    }
    if facts.connected * 10 >= facts.connections * 9 {
        let evidence = format!("{} of {} connections are taken", facts.connected, facts.connections);
        faults.push(Fault::warn(evidence, "raise max_connections or lower DATABASE_POOL"));
    }
    let well = format!(
        "version {}, answers in {}, {} of {} connections taken",
        facts.version,
        millis(took),
        facts.connected,
        facts.connections
    );
    Check::of("postgres", well, faults)
}

const POSTGRES_AWAY: &str = "bring Postgres back; nothing else is needed (RUNBOOK: /readyz is red)";
const REDIS_AWAY: &str = "bring Redis back; the gate is rebuilt by itself (RUNBOOK: /readyz is red)";

/// Redis is there.
pub(super) async fn redis(ctx: &Context) -> Check {
    let asked = tokio::time::timeout(PATIENCE, async {
        let info = ctx.stores.redis_info().await?;
        let took = median(async || ctx.stores.redis_clock().await.map(|_| ())).await?;
        Ok::<_, redis::RedisError>((info, took))
    });
    let (info, took) = match asked.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Check::fail("redis", format!("it does not answer: {error}"), REDIS_AWAY),
        Err(_) => return Check::fail("redis", "it does not answer within 5 s", REDIS_AWAY),
    };
    let mut faults = speed(took);
    if fact(&info, "role") == "slave" {
        faults.push(Fault::fail("it is a replica and takes no writes", "point REDIS_URL at the primary"));
    }
    if fact(&info, "cluster_enabled") == "1" {
        faults.push(Fault::fail(
            "it is a cluster, whose scripts touch one slot only",
            "use one primary without cluster mode",
        ));
    }
    let version = fact(&info, "redis_version");
    if major(version) < OLDEST_REDIS {
        faults.push(Fault::fail(format!("version {version}"), "upgrade to Redis 6.0 or later, or Valkey"));
    }
    Check::of("redis", format!("version {version}, answers in {}", millis(took)), faults)
}

/// The median time of a question.
async fn median<E>(ask: impl AsyncFn() -> Result<(), E>) -> Result<Duration, E> {
    let mut times = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let begun = Instant::now();
        ask().await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[QUESTIONS / 2])
}

fn speed(took: Duration) -> Vec<Fault> {
    let slow = Fault::warn(format!("it answers in {} only", millis(took)), "look at its load and the network to it");
    if took > SLOW { vec![slow] } else { Vec::new() }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// The first number of a version; 0 where there is none.
fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn fact<'a>(info: &'a HashMap<String, String>, name: &str) -> &'a str {
    info.get(name).map_or("", String::as_str)
}

/// The schema is this program's.
pub(super) async fn migrations(ctx: &Context) -> anyhow::Result<Check> {
    const MIGRATE: &str = "rollcall-ops migrate";
    let (applied, failed) = ctx.stores.migrations().await?;
    let ours: HashMap<i64, &[u8]> = MIGRATOR.iter().map(|m| (m.version, &*m.checksum)).collect();
    let mut faults = Vec::new();
    if let Some(version) = failed {
        faults.push(Fault::fail(format!("migration {version} failed half way"), "see the log of the migration"));
    }
    let newer: Vec<i64> = applied.iter().map(|m| m.version).filter(|version| !ours.contains_key(version)).collect();
    if !newer.is_empty() {
        let evidence = format!("the database has {newer:?}, which this program does not know");
        faults.push(Fault::warn(evidence, "fine for one version: end the upgrade, or step back no further"));
    }
    let mut missing: Vec<i64> =
        ours.keys().filter(|version| !applied.iter().any(|m| m.version == **version)).copied().collect();
    missing.sort_unstable();
    if !missing.is_empty() {
        faults.push(Fault::fail(format!("{missing:?} are not applied"), MIGRATE));
    }
    let other = applied.iter().filter(|m| ours.get(&m.version).is_some_and(|sum| *sum != &*m.checksum));
    let other: Vec<i64> = other.map(|m| m.version).collect();
    if !other.is_empty() {
        let evidence = format!("{other:?} are applied with another text than this program's");
        faults.push(Fault::fail(evidence, "use programs of the database's version"));
    }
    let newest = applied.iter().map(|m| m.version).max().unwrap_or(0);
    Ok(Check::of("migrations", format!("{} applied, the newest {newest}; none is missing", applied.len()), faults))
}

/// A commit that Postgres acknowledged is kept.
pub(super) async fn postgres_durability(ctx: &Context) -> anyhow::Result<Check> {
    let facts = ctx.stores.postgres().await?;
    let mut faults = Vec::new();
    for (name, on) in [("fsync", facts.fsync), ("full_page_writes", facts.full_page_writes)] {
        if !on {
            let evidence = format!("{name} is off: a crash of the machine can lose or break the ledger");
            faults.push(Fault::fail(evidence, format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")));
        }
    }
    if facts.synchronous_commit == "off" {
        let evidence = "synchronous_commit is off: an acknowledged intent can be lost, and its number called twice";
        faults.push(Fault::fail(evidence, "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()"));
    }
    let well = format!("fsync on, full_page_writes on, synchronous_commit {}", facts.synchronous_commit);
    Ok(Check::of("postgres_durability", well, faults))
}

/// Redis drops nothing by itself. What it loses with a crash comes back from Postgres, and costs seconds.
pub(super) async fn redis_persistence(ctx: &Context) -> anyhow::Result<Check> {
    let info = ctx.stores.redis_info().await?;
    let policy = fact(&info, "maxmemory_policy");
    let (evicted, limited) = (fact(&info, "evicted_keys"), fact(&info, "maxmemory") != "0");
    let mut faults = Vec::new();
    if fact(&info, "aof_enabled") != "1" {
        let evidence = "the append-only file is off: after a restart dialing pauses until the gate is rebuilt";
        faults.push(Fault::warn(evidence, "redis-cli CONFIG SET appendonly yes, and in its configuration"));
    } else if fact(&info, "aof_last_write_status") != "ok" {
        faults.push(Fault::fail("the append-only file cannot be written", "look at the disk of Redis"));
    }
    if policy != "noeviction" {
        let evidence = format!("maxmemory-policy is {policy}: under pressure Redis would drop holders of the gate");
        let advice = "redis-cli CONFIG SET maxmemory-policy noeviction, and in its configuration";
        faults.push(if limited { Fault::fail(evidence, advice) } else { Fault::warn(evidence, advice) });
    }
    if evicted != "0" {
        let evidence = format!("{evicted} keys were evicted since it started");
        faults.push(Fault::fail(evidence, "set noeviction, give Redis more memory, then: rollcall-ops cleanup"));
    }
    let bytes = |name| fact(&info, name).parse().unwrap_or(0);
    faults.extend(of_memory(bytes("used_memory"), bytes("maxmemory")));
    let memory = format!("{} used, limit {}", fact(&info, "used_memory_human"), fact(&info, "maxmemory_human"));
    Ok(Check::of("redis_persistence", format!("append-only file on, {policy}, 0 keys evicted, {memory}"), faults))
}

/// How full Redis is. Full, it takes no key more: nobody gets a slot, and nobody is dialed.
fn of_memory(used: u64, limit: u64) -> Option<Fault> {
    let percent = used.saturating_mul(100).checked_div(limit)?;
    let evidence = format!("{percent} % of its memory limit of {} MiB is used", limit >> 20);
    let advice = "give Redis more memory and raise maxmemory; RUNBOOK, RollcallRedisFull, says what fills it";
    match percent {
        ..MEMORY_WARN => None,
        MEMORY_WARN..MEMORY_FAIL => Some(Fault::warn(evidence, advice)),
        MEMORY_FAIL.. => Some(Fault::fail(format!("{evidence}: when it is full nobody is dialed"), advice)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Verdict;

    #[test]
    fn a_redis_that_is_nearly_full_is_warned_of_and_one_that_is_all_but_full_is_a_failure() {
        let verdict = |used, limit| of_memory(used, limit).map(|fault| fault.verdict);
        let judged = [84, 85, 94, 95, 100].map(|percent| verdict(percent << 20, 100 << 20));
        assert_eq!(judged, [None, Some(Verdict::Warn), Some(Verdict::Warn), Some(Verdict::Fail), Some(Verdict::Fail)]);
        assert_eq!(verdict(1 << 40, 0), None, "without a limit it is full when its machine is");
    }

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(["15.18 (Debian 15.18-0+deb12u1)", "17beta1", "7.0.15", ""].map(major), [15, 17, 7, 0]);
    }
}
