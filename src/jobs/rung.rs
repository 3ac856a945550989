//! When businesses were last rung for, as the bells remember it.

use std::time::Duration;

use crate::{ids::BusinessId, stores::Stores};

/// Since when each of these businesses was not rung for, by Redis' clock; `None` where no bell is remembered.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn last(stores: &Stores, businesses: &[BusinessId]) -> redis::RedisResult<Vec<Option<Duration>>> {
    let now_ms = stores.redis_clock().await? / 1_000;
    if businesses.is_empty() {
        return Ok(Vec::new());
    }
    // One ZSCORE each, because Redis 6.0 has no ZMSCORE.
    let mut ask = redis::pipe();
    for business in businesses {
        ask.zscore(stores.keys.key("bells:rung"), business.to_string());
    }
    let rung: Vec<Option<f64>> = ask.query_async(&mut stores.redis.clone()).await?;
    #[expect(clippy::cast_possible_truncation, reason = "a score is a time in ms that bell.lua wrote as an integer")]
    let since = |at: f64| Duration::from_millis(u64::try_from(now_ms - at as i64).unwrap_or(0));
    Ok(rung.into_iter().map(|at| at.map(since)).collect())
}
