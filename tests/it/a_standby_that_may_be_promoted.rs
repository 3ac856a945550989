//! The doctor tells a standby that has every acknowledged commit from one that has not.

use std::process::Command;

use rollcall::{
    ops::{
        children::Stop,
        private::{Durability, PrivateStores},
    },
    stores::MIGRATOR,
};
use serde_json::{Value, json};

use crate::{
    database::run,
    house::{House, Options, Urls},
};
use sqlx::{Connection, PgConnection};

/// Takes the log of Postgres as a standby does, and says at once what it has flushed.
async fn attach(stores: &mut PrivateStores, admin: &mut PgConnection) {
    let folder = sqlx::query_scalar!(r#"SELECT setting AS "folder!" FROM pg_config WHERE name = 'BINDIR'"#);
    let program = std::path::Path::new(&folder.fetch_one(admin).await.unwrap()).join("pg_receivewal");
    let log = stores.children().scratch().join("log");
    std::fs::create_dir(&log).unwrap();
    let mut command = Command::new(program);
    command.arg("--synchronous").arg("--directory").arg(log);
    command.arg("--dbname").arg(format!("{}?application_name=branch", stores.database_url()));
    stores.children().spawn("branch", command, Stop::Interrupt).unwrap();
}

async fn standbys(house: &House) -> Value {
    house.ops(&["doctor", "--json", "--quick"]).await.check("postgres_standbys")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_no_commit_waits_for_is_named() {
    let mut stores = PrivateStores::start(Durability::Scratch).await.unwrap();
    stores.migrate(&MIGRATOR).await.unwrap();
    let urls = Urls { database: stores.database_url(), redis: stores.redis_url() };
    let house = House::open(Options { stores: Some(urls), ..Options::default() }).await;
    assert_eq!(standbys(&house).await["verdict"], "ok");

    let mut admin = PgConnection::connect(&stores.database_url()).await.unwrap();
    attach(&mut stores, &mut admin).await;
    house.until("it streams", || async { house.ctx.stores.standbys().await.unwrap().len() == 1 }).await;
    let told = standbys(&house).await;
    assert_eq!(told["verdict"], "warn", "{told:#}");
    let evidence = told["evidence"].as_str().unwrap();
    assert!(evidence.starts_with("branch is async, ") && evidence.contains("called again"), "{evidence}");

    run(&mut admin, "ALTER SYSTEM SET synchronous_standby_names = 'branch'").await;
    run(&mut admin, "SELECT pg_reload_conf()").await;
    house
        .until("commits wait for it", || async {
            house.ctx.stores.standbys().await.unwrap().iter().all(|one| one.sync_state.as_deref() == Some("sync"))
        })
        .await;
    let told = standbys(&house).await;
    assert_eq!((&told["verdict"], &told["evidence"]), (&json!("ok"), &json!("branch: commits wait for it")));

    run(&mut admin, "ALTER SYSTEM RESET synchronous_standby_names").await;
    run(&mut admin, "SELECT pg_reload_conf()").await;
    house.close().await;
    admin.close().await.unwrap();
    stores.end().await.unwrap();
}
