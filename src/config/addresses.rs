//! The addresses of the stores, as far as they can be judged without asking anybody.

use std::str::FromStr;

use redis::IntoConnectionInfo;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;

use super::exposed;

/// What is wrong with them, each in one sentence that shows no password.
pub(super) fn wrong(database_url: &SecretString, redis_url: &SecretString) -> Vec<String> {
    let mut wrong = Vec::new();
    let text = exposed(database_url);
    let is_of_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    let read = PgConnectOptions::from_str(text);
    if let Some(why) = read.err().map(|error| error.to_string()).or((!is_of_postgres).then(|| "another scheme".into()))
    {
        wrong.push(format!("DATABASE_URL cannot be read ({why}): it is like postgres://user:password@host:5432/name."));
    }
    if let Err(error) = exposed(redis_url).into_connection_info() {
        wrong.push(format!("REDIS_URL cannot be read ({error}): it is like redis://:password@host:6379/0."));
    }
    wrong
}
