//! Keys of the gate that somebody else wrote: what is of another kind than the gate's own would stop its scripts for ever.

use redis::{RedisResult, aio::ConnectionManager};

/// Removes those of these keys that are not of the kind beside them. What was in them comes back from Postgres, or, where it does
/// not, the ledger refuses what the gate lets through too much.
///
/// # Errors
/// Where Redis cannot be asked.
pub(super) async fn remove(redis: &mut ConnectionManager, keys: &[(String, &str)]) -> RedisResult<()> {
    for (key, kind) in keys {
        let found: String = redis::cmd("TYPE").arg(key).query_async(redis).await?;
        if found != "none" && found != *kind {
            tracing::error!(
                key,
                found,
                kind,
                "a key of the gate was of another kind; somebody else writes into this Redis"
            );
            redis::cmd("DEL").arg(key).query_async::<()>(redis).await?;
        }
    }
    Ok(())
}

/// True where a script met a key of another kind.
pub(super) fn is_met(error: &redis::RedisError) -> bool {
    error.to_string().contains("WRONGTYPE")
}
