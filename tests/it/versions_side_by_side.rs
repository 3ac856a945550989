//! An upgrade replaces programs while others run: each knows what to do on a schema that is newer or older than itself.

use rollcall::stores::MIGRATOR;
use sqlx::{AssertSqlSafe, PgPool};

use crate::{
    house::{House, Options, numbers},
    processes::{Process, Program},
};

async fn done(pg: &PgPool, statements: String) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(pg).await.unwrap();
}

#[tokio::test]
async fn programs_start_and_dial_on_a_schema_that_is_one_version_newer() {
    let house = House::open(Options::default()).await;
    // As the next version's migration would leave it: it only adds.
    let next = "ALTER TABLE run ADD COLUMN of_the_next_version text;
        INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (99991231235959, 'next', true, '\\x00', 0)";
    done(&house.ctx.stores.pg, next.to_owned()).await;
    let (api, worker) = (house.api(None).await, house.worker().await);
    api.said("the schema is newer than this program").await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(6)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.figures().total.created, 6);
    house.close_with([api, worker]).await;
}

#[tokio::test]
async fn a_worker_waits_for_the_schema_of_its_version_and_then_goes_on() {
    let house = House::open(Options::default()).await;
    let last = MIGRATOR.iter().map(|one| one.version).max().unwrap();
    let moved = |from: i64, to: i64| format!("UPDATE _sqlx_migrations SET version = {to} WHERE version = {from}");
    done(&house.ctx.stores.pg, moved(last, -last)).await;
    let worker = Process::spawn(Program::Worker, &house.args[1..], None);
    worker.said("the schema of this version is not there yet").await;
    assert!(!worker.log().contains("takes bells"), "it works on a schema that is older than itself");
    done(&house.ctx.stores.pg, moved(-last, last)).await;
    worker.said("takes bells").await;
    house.close_with([worker]).await;
}
