//! The doctor: what is well is called well, what is wrong is named with its id, and the exit code says the worst.

use std::time::Duration;

use rollcall::{
    dialing::gate,
    slots::{Ask, Taken},
};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::{
    database::{self, database_url},
    house::{House, Options, numbers},
    ops_harness::run,
    the_gate_heals::written_by_somebody_else,
};

const ENDLESS: &str = "+12125550194";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_installation_with_calls_on_the_line_is_called_well() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let worker = house.worker().await;
    let run = house.started(business, &[&[ENDLESS.to_owned()], &numbers(20)[..]].concat()).await;
    house.until("a person listens", || async { house.attempts_in("answered").await >= 1 }).await;

    let told = house.ops(&["doctor", "--json"]).await;
    for name in [
        "postgres",
        "redis",
        "migrations",
        "clocks",
        "gate",
        "jobs_and_attempts",
        "attempts_in_doubt",
        "stray_calls",
        "accounts",
        "workers",
        "work",
        "tallies",
    ] {
        let check = told.check(name);
        assert_eq!((&check["verdict"], &check["do"]), (&json!("ok"), &json!(null)), "{check:#}");
    }
    // The stores of a test run are told not to flush.
    let durability = told.check("postgres_durability");
    assert_eq!((&durability["verdict"], told.code), (&json!("fail"), 4), "{durability:#}");
    assert!(durability["evidence"].as_str().unwrap().contains("fsync is off"));
    assert_eq!(told.json()["verdict"], "fail");
    let table = house.ops(&["doctor", "--quick"]).await;
    assert!(table.out.contains("postgres_durability") && table.out.contains("FAIL"), "{}", table.out);

    house.sim.end(&house.only_call(ENDLESS).sid, rollcall::sim::Status::Completed).unwrap();
    house.until_run_is(run, "completed").await;
    house.close_with([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tally_that_does_not_equal_its_count_is_named() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let (well, wrong) = (house.run(business, &numbers(2)).await, house.run(business, &numbers(5)[2..]).await);
    let pg = &house.ctx.stores.pg;
    let moved = |by: i64| {
        sqlx::query!(
            "UPDATE tally_shard t SET queued = queued + $2 WHERE run_id = $1 AND shard = (SELECT min(shard) FROM tally_shard m WHERE m.run_id = t.run_id)",
            wrong.0,
            by
        )
    };
    moved(1).execute(pg).await.unwrap();

    let told = house.ops(&["doctor", "--json", "--quick"]).await;
    let evidence = told.check("tallies")["evidence"].as_str().unwrap().to_owned();
    assert!(evidence.contains(&format!("{wrong}: queued 4 tallied, 3 counted")), "{evidence}");
    assert!(!evidence.contains(&well.to_string()), "{evidence}");
    assert_eq!((&told.check("tallies")["verdict"], told.code), (&json!("fail"), 4));

    moved(-1).execute(pg).await.unwrap();
    assert_eq!(house.ops(&["doctor", "--json"]).await.check("tallies")["verdict"], "ok");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_without_a_row_an_attempt_without_a_holder_and_a_counter_set_by_hand_are_named() {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    let business = house.business(3).await;
    house.run(business, &numbers(1)).await;
    let ask = Ask { business, slot_limit: 3, lines: 50, talks: None, account: "AC", calls_per_second: 100.0, most: 1 };
    let Taken::Some { held, .. } = house.ctx.gate.take(&ask).await.unwrap() else { panic!("the gate is open") };
    let (ghost, missing) = (held[0].attempt, house.claim_at(business, 2, 2).await);
    let mut redis = house.ctx.stores.redis.clone();
    let counter = house.ctx.stores.keys.key("calls:active_count");
    redis::cmd("SET").arg(&counter).arg(17).query_async::<()>(&mut redis).await.unwrap();

    house
        .until("both have lasted", || async {
            house.ctx.gate.holders().await.unwrap().iter().all(|holder| holder.age >= gate::SETTLED)
                && gate::drift(&house.ctx).await.unwrap().size() == 2
        })
        .await;
    let told = house.ops(&["doctor", "--json"]).await;
    let check = told.check("gate");
    let evidence = check["evidence"].as_str().unwrap();
    assert_eq!((&check["verdict"], told.code), (&json!("fail"), 4));
    assert!(evidence.contains("1 holders at the gate have no open attempt"), "{evidence}");
    assert!(evidence.contains(&format!("{ghost}: it holds slot 1 and line 1")), "{evidence}");
    assert!(evidence.contains("1 open attempts have no holder"), "{evidence}");
    assert!(evidence.contains(&format!("{missing}: the attempt is open with slot 2")), "{evidence}");
    assert!(evidence.contains("calls:active_count 17"), "{evidence}");

    rollcall::dialing::send::not_sent(&house.ctx, missing, "the test is over").await;
    gate::correct(&house.ctx).await.unwrap();
    assert_eq!(house.ops(&["doctor", "--json"]).await.check("gate")["verdict"], "ok");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_the_gate_that_no_holder_has_are_named_and_removed_by_apply() {
    let house = House::open(Options::default()).await;
    house.ctx.gate.open().await.unwrap();
    let business = house.business(3).await;
    written_by_somebody_else(&house, business).await;
    assert_eq!(gate::drift(&house.ctx).await.unwrap().size(), 50, "the metric tells of the lines");
    let told = house.ops(&["doctor", "--json"]).await;
    let evidence = told.check("gate")["evidence"].as_str().unwrap().to_owned();
    assert_eq!((&told.check("gate")["verdict"], told.code), (&json!("fail"), 4));
    assert!(evidence.contains(&format!("slots:{{{business}}}:held: 3 entries")), "{evidence}");
    assert!(evidence.contains("lines:held: 50 entries"), "{evidence}");
    assert_eq!(house.ops(&["cleanup", "--json"]).await.code, 3, "a dry run would act");
    let applied = house.ops(&["cleanup", "--json", "--apply"]).await;
    assert_eq!(applied.code, 0, "{}", applied.out);
    assert_eq!(house.ops(&["doctor", "--json"]).await.check("gate")["verdict"], "ok");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_over_with_a_job_that_is_not_is_named() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.run(business, &numbers(2)).await;
    let mut by_hand = house.ctx.stores.pg.begin().await.unwrap();
    for change in [
        "SET LOCAL session_replication_role = replica",
        "UPDATE run SET state = 'completed', ended_at = clock_timestamp()",
        "UPDATE job SET state = 'dialing' WHERE job_id = (SELECT min(job_id::text)::uuid FROM job)",
        "SELECT tally_recount((SELECT run_id FROM run))",
    ] {
        sqlx::raw_sql(change).execute(&mut *by_hand).await.unwrap();
    }
    by_hand.commit().await.unwrap();
    let told = house.ops(&["doctor", "--json"]).await;
    let check = told.check("jobs_and_attempts");
    let evidence = check["evidence"].as_str().unwrap();
    assert_eq!((&check["verdict"], told.code), (&json!("fail"), 4), "{evidence}");
    assert!(evidence.contains("1 jobs are being dialed without") && evidence.contains("1 runs are over"), "{evidence}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_works_an_old_version_and_an_account_that_is_refused_are_named() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.ctx.gate.open().await.unwrap();
    house.run(business, &numbers(4)).await;
    let beat = json!({"name": "w-old", "host": "h", "pid": 1, "version": "0.0.9", "started_at": 1, "beat_at": 2, "in_flight": 0});
    let key = house.ctx.stores.keys.key("workers:w-old");
    let mut redis = house.ctx.stores.redis.clone();

    let told = house.ops(&["doctor", "--json"]).await;
    assert!(told.check("workers")["evidence"].as_str().unwrap().contains("no worker is alive"));
    assert!(told.check("apis")["evidence"].as_str().unwrap().contains("no api is alive"));
    assert_eq!(
        (&told.check("apis")["verdict"], &told.check("calls_programs")["verdict"]),
        (&json!("fail"), &json!("ok"))
    );
    let work = told.check("work");
    assert_eq!(work["verdict"], "fail");
    assert!(work["evidence"].as_str().unwrap().contains("4 jobs of 1 runs could be dialed"), "{work:#}");

    redis::cmd("SET").arg(&key).arg(beat.to_string()).query_async::<()>(&mut redis).await.unwrap();
    sqlx::query!("UPDATE carrier_account SET health = 'refused', health_detail = 'HTTP 401', sealing_key = 'another'")
        .execute(&house.ctx.stores.pg)
        .await
        .unwrap();
    let told = house.ops(&["doctor", "--json"]).await;
    assert!(told.check("workers")["evidence"].as_str().unwrap().contains(r#"{"0.0.9"}"#));
    let accounts = told.check("accounts");
    let evidence = accounts["evidence"].as_str().unwrap();
    assert_eq!(accounts["verdict"], "fail");
    assert!(evidence.contains(&business.to_string()) && evidence.contains("HTTP 401"), "{evidence}");
    assert!(evidence.contains("sealed under the key another"), "{evidence}");
    redis::cmd("DEL").arg(&key).query_async::<()>(&mut redis).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_named_at_once_and_what_needs_it_is_not_called_well() {
    let house = House::open(Options::default()).await;
    let begun = std::time::Instant::now();
    let mut args: Vec<&str> = house.args[1..].iter().map(String::as_str).collect();
    let at = args.iter().position(|arg| *arg == "--redis-url").unwrap() + 1;
    args[at] = "redis://127.0.0.1:1/0";
    let told = run(&[&["doctor", "--json"], &args[..]].concat(), None).await;
    let verdict = |name: &str| told.check(name)["verdict"].clone();
    assert_eq!((verdict("postgres"), verdict("redis"), told.code), (json!("ok"), json!("fail"), 4), "{}", told.out);
    assert_eq!((verdict("gate"), verdict("tallies")), (json!("warn"), json!("ok")));
    assert!(told.check("gate")["evidence"].as_str().unwrap().contains("not checked"));
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited for a store that is down");
    let slots = run(&[&["slots"], &args[..]].concat(), None).await;
    assert_eq!(slots.code, 1);
    assert!(slots.err.contains("rollcall-ops doctor"), "{}", slots.err);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_nobody_has_migrated_is_named_and_can_be_migrated() {
    let house = House::open(Options::default()).await;
    let name = format!("e_{}", uuid::Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&database_url("postgres")).await.unwrap();
    database::run(&mut admin, &format!("CREATE DATABASE {name}")).await;
    let url = database_url(&name);
    let mut args: Vec<&str> = house.args[1..].iter().map(String::as_str).collect();
    let at = args.iter().position(|arg| *arg == "--database-url").unwrap() + 1;
    args[at] = &url;
    let ops = async |command: &str| run(&[&[command, "--json"], &args[..]].concat(), None).await;
    let told = ops("doctor").await;
    let (migrations, tallies) = (told.check("migrations"), told.check("tallies"));
    assert_eq!((&migrations["verdict"], &migrations["do"]), (&json!("fail"), &json!("rollcall-ops migrate")));
    assert!(tallies["evidence"].as_str().unwrap().contains("not checked"), "{tallies:#}");
    let slots = ops("slots").await;
    assert_eq!(slots.code, 1);
    assert!(slots.err.contains("`rollcall-ops migrate`") && !slots.err.contains("exist: relation"), "{}", slots.err);
    assert_eq!(ops("migrate").await.code, 0);
    assert_eq!(ops("doctor").await.check("migrations")["verdict"], "ok");
    // The version before works on a schema that is newer: everything else is checked.
    let mut newer = PgConnection::connect(&url).await.unwrap();
    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99990101000000, 'x', true, '', 0)";
    database::run(&mut newer, insert).await;
    newer.close().await.unwrap();
    let told = ops("doctor").await;
    assert_eq!(
        (&told.check("migrations")["verdict"], &told.check("tallies")["verdict"]),
        (&json!("warn"), &json!("ok"))
    );
    assert_eq!(ops("migrate").await.json()["version"], json!(99_990_101_000_000_i64), "the version of the database");
    // A program of the day before finds a migration that it does not know, and lacks one of its own.
    let mut old = PgConnection::connect(&url).await.unwrap();
    database::run(
        &mut old,
        "UPDATE _sqlx_migrations SET version = version + 1 WHERE version = (SELECT max(version) FROM _sqlx_migrations WHERE version < 9999e10)",
    )
    .await;
    old.close().await.unwrap();
    let newer = ops("doctor").await.check("migrations")["evidence"].as_str().unwrap().to_owned();
    assert!(newer.contains("which this program does not know") && newer.contains("are not applied"), "{newer}");
    database::run(&mut admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    house.close().await;
}

#[tokio::test]
async fn settings_that_contradict_each_other_and_a_wrong_command_line_have_exit_codes_of_their_own() {
    for command in ["doctor", "cleanup", "reconcile"] {
        let refused = run(&[command], None).await;
        assert_eq!(refused.code, 64, "{command}: {}", refused.err);
        assert!(refused.err.contains("ROLLCALL_SEALING_KEY is missing"), "{}", refused.err);
    }
    for command in ["doctor", "cleanup", "reconcile"] {
        for key in ["", "abc"] {
            let refused = run(&[command, "--rollcall-sealing-key", key], None).await;
            assert_eq!(refused.code, 64, "{command} with {key:?}: {}", refused.err);
            assert!(refused.err.contains("ROLLCALL_SEALING_KEY") && !refused.err.contains("abc"), "{}", refused.err);
        }
    }
    let unreadable = run(&["slots", "--database-url", "xx"], None).await;
    assert_eq!(unreadable.code, 2, "{}", unreadable.err);
    for wrong in
        [&["jobs"][..], &["runs", "--state", "asleep"], &["cleanup", "--force"], &["reconcile", "--as", "placed"]]
    {
        assert_eq!(run(wrong, None).await.code, 2, "{wrong:?}");
    }
}
