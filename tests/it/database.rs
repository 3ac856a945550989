//! A database per test, copied from a template that the first test makes, on the stores that the test runner started.

use rollcall::stores::MIGRATOR;
use sqlx::{Connection, PgConnection};

#[expect(clippy::disallowed_methods, reason = "the test runner says where the private stores are")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is unset: run the tests by `make test`"))
}

/// Redis as the test runner gives it.
pub(crate) fn redis_url() -> String {
    variable("REDIS_URL")
}

/// The database server as the test runner gives it, with another database.
pub(crate) fn database_url(database: &str) -> String {
    let mut url: url::Url = variable("DATABASE_URL").parse().unwrap();
    url.set_path(database);
    url.to_string()
}

/// A new database with the schema, copied from a template that the first test makes.
pub(crate) async fn new_database() -> String {
    let version: i64 = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    let hash = MIGRATOR
        .iter()
        .flat_map(|m| m.checksum.iter())
        .fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)));
    let template = format!("template_{version}_{hash:x}");
    let mut admin = PgConnection::connect(&database_url("postgres")).await.unwrap();
    sqlx::query!("SELECT pg_advisory_lock(42) IS NULL AS locked").fetch_one(&mut admin).await.unwrap();
    let there = sqlx::query_scalar!("SELECT 1 AS there FROM pg_database WHERE datname = $1", template)
        .fetch_optional(&mut admin)
        .await
        .unwrap();
    if there.is_none() {
        run(&mut admin, &format!("CREATE DATABASE {template}_new")).await;
        let mut fresh = PgConnection::connect(&database_url(&format!("{template}_new"))).await.unwrap();
        MIGRATOR.run(&mut fresh).await.unwrap();
        fresh.close().await.unwrap();
        run(&mut admin, &format!("ALTER DATABASE {template}_new RENAME TO {template}")).await;
    }
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    sqlx::query!("SELECT pg_advisory_unlock(42) AS unlocked").fetch_one(&mut admin).await.unwrap();
    name
}

pub(crate) async fn run(admin: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(admin).await.unwrap();
}
