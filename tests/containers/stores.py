"""What happens to the stores: Redis emptied, Postgres restored from a dump, both replaced by a replica, a newer schema."""

import time

from installation import (IN_PLACE, PROJECT, REPLICATED, Business, compose, containers, expect, health, numbers, redis, run,
                          sql, until, up)

NETWORK = f"{PROJECT}_stores"
STANDBY, REPLICA = f"{PROJECT}-standby", f"{PROJECT}-replica"


def pause_of(business, change):
    """Seconds from the begin of `change` until the carrier gets the next call that was not on its way already."""
    begun = time.monotonic()
    change()
    changed, created = time.monotonic() - begun, business.of_carrier()["created"]
    until("calls go on", lambda: business.of_carrier()["created"] > created + 5)
    return changed, time.monotonic() - begun


def redis_is_emptied_in_mid_run():
    business = Business(slots=20)
    run_id = business.started(numbers("151496", 300))
    business.until_created(60)
    _, pause = pause_of(business, lambda: redis("flushall"))
    expect(redis("exists", "gate:ready") == "1", "the gate is not ready")
    return f"FLUSHALL; five more calls {pause:.1f} s later, gate:ready is back; {business.called_once(run_id, 300)}"


def a_dump_is_restored_into_empty_stores_and_the_run_goes_on():
    business = Business(slots=20)
    run_id = business.started(numbers("113496", 300))
    business.until_created(100)
    compose("stop", *REPLICATED)
    created = business.of_carrier()["created"]
    old = containers("postgres")[0]
    run("docker", "exec", old, "pg_dump", "-U", "rollcall", "--format=custom", "--file=/tmp/dump", "rollcall")
    keeper = run("docker", "create", "--name", f"{PROJECT}-dump", "postgres:17")
    run("sh", "-c", f"docker cp {old}:/tmp/dump - | docker cp - {keeper}:/tmp/")
    compose("down", "--volumes", check=False)
    compose("up", "--detach", "postgres")
    until("an empty Postgres is healthy", lambda: health("postgres") == ["healthy"])
    new = containers("postgres")[0]
    expect(sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0", "the new database is not empty")
    run("sh", "-c", f"docker cp {keeper}:/tmp/dump - | docker cp - {new}:/tmp/")
    run("docker", "rm", keeper)
    begun = time.monotonic()
    # As docs/operations.md says: a dump knows no roles.
    sql("CREATE ROLE rollcall_tenant NOLOGIN")
    run("docker", "exec", new, "pg_restore", "-U", "rollcall", "-d", "rollcall", "--exit-on-error", "/tmp/dump")
    took = time.monotonic() - begun
    size = run("docker", "exec", new, "stat", "--format=%s", "/tmp/dump")
    up(2)
    return f"dumped after {created} calls, {int(size) / 1024:.0f} KiB, restored in {took:.1f} s; {business.called_once(run_id, 300)}"


def take_the_name(container, name):
    """What a DNS name, a virtual address or a managed endpoint does: the old name leads to another server."""
    run("docker", "network", "disconnect", NETWORK, container)
    run("docker", "network", "connect", "--alias", name, NETWORK, container)
    IN_PLACE[name] = container


def a_synchronous_standby_of_postgres_is_promoted_in_mid_run():
    business = Business(slots=20)
    primary = containers("postgres")[0]
    run("docker", "exec", primary, "sh", "-c", 'echo "host replication all all scram-sha-256" >> "$PGDATA/pg_hba.conf"')
    sql("SELECT pg_reload_conf()")
    data = f"{STANDBY}:/var/lib/postgresql/data"
    run("docker", "run", "--rm", "--user", "postgres", "--network", NETWORK, "--volume", data, "--env", "PGPASSWORD=rollcall",
        "--entrypoint", "pg_basebackup", "postgres:17", "-h", "postgres", "-U", "rollcall", "-D", "/var/lib/postgresql/data",
        "-R", "-X", "stream", "-c", "fast")
    run("docker", "run", "--detach", "--name", STANDBY, "--network", NETWORK, "--volume", data, "--env", "POSTGRES_PASSWORD=rollcall",
        "postgres:17", "-c", "max_connections=300")
    until("the standby streams", lambda: sql("SELECT state FROM pg_stat_replication") == "streaming")
    sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    sql("SELECT pg_reload_conf()")
    until("it is synchronous", lambda: sql("SELECT sync_state FROM pg_stat_replication") == "sync")
    run_id = business.started(numbers("141496", 300))
    business.until_created(100)

    def fail_over():
        run("docker", "kill", primary)
        take_the_name(STANDBY, "postgres")
        sql("ALTER SYSTEM RESET synchronous_standby_names")
        sql("SELECT pg_promote()")

    created = business.of_carrier()["created"]
    changed, pause = pause_of(business, fail_over)
    return (f"primary killed -9 after {created} calls; promoted under its name after {changed:.1f} s, five more calls after "
            f"{pause:.1f} s; {business.called_once(run_id, 300)}")


def a_replica_of_redis_is_promoted_in_mid_run():
    business = Business(slots=20)
    run("docker", "run", "--detach", "--name", REPLICA, "--network", NETWORK, "redis:7", "redis-server", "--appendonly", "yes",
        "--maxmemory-policy", "noeviction", "--replicaof", "redis", "6379")
    until("the replica is in step", lambda: "master_link_status:up" in run("docker", "exec", REPLICA, "redis-cli", "info", "replication"))
    run_id = business.started(numbers("114496", 300))
    business.until_created(100)

    def fail_over():
        run("docker", "kill", containers("redis")[0])
        take_the_name(REPLICA, "redis")
        redis("replicaof", "no", "one")

    changed, pause = pause_of(business, fail_over)
    expect(redis("exists", "gate:ready") == "1", "the gate is not ready")
    return f"promoted under its name after {changed:.1f} s, five more calls after {pause:.1f} s; {business.called_once(run_id, 300)}"


def programs_are_replaced_on_a_schema_one_version_newer():
    business = Business(slots=20)
    sql("ALTER TABLE run ADD COLUMN of_the_next_version text; INSERT INTO _sqlx_migrations (version, description, success, "
        "checksum, execution_time) VALUES (99991231235959, 'next', true, '\\\\x00', 0)")
    run_id = business.started(numbers("116496", 700))
    business.until_created(20)
    run("deploy/roll", *REPLICATED)
    said = run("docker", "logs", containers("api")[0], both=True)
    expect("the schema is newer than this program" in said, "the api says nothing of the newer schema")
    return f"six replicas started on it and said so; {business.called_once(run_id, 700)}"


def take_away():
    IN_PLACE.clear()
    run("docker", "rm", "--force", "--volumes", STANDBY, REPLICA, f"{PROJECT}-dump", check=False)
    run("docker", "volume", "rm", "--force", STANDBY, check=False)


TRIALS = [
    redis_is_emptied_in_mid_run,
    a_dump_is_restored_into_empty_stores_and_the_run_goes_on,
    programs_are_replaced_on_a_schema_one_version_newer,
    a_replica_of_redis_is_promoted_in_mid_run,
    a_synchronous_standby_of_postgres_is_promoted_in_mid_run,
]
