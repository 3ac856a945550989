//! Calls without a session: how many wait for one, and which have waited too long.

use redis::RedisResult;

use crate::calls::store::{Calls, LOOKED_FOR, millis};

/// Calls handed out per look.
const MOST: usize = 100;

impl Calls {
    /// Answered calls that wait for their session.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn waiting(&self) -> RedisResult<u64> {
        redis::cmd("LLEN").arg(self.waiting_key()).query_async(&mut self.redis.clone()).await
    }

    /// Calls whose session has gone silent, or never came. Each is given to one who asks, who ends it and says so by
    /// [`Calls::forget`]; else it is given again.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn orphans(&self) -> RedisResult<Vec<String>> {
        self.orphans
            .key(self.watched_key())
            .key(self.waiting_key())
            .arg(MOST)
            .arg(millis(LOOKED_FOR))
            .invoke_async(&mut self.redis.clone())
            .await
    }

    /// Forgets a call that is over: nobody looks for it any more.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn forget(&self, call_id: &str) -> RedisResult<()> {
        redis::pipe()
            .zrem(self.watched_key(), call_id)
            .ignore()
            .lrem(self.waiting_key(), 0, call_id)
            .ignore()
            .query_async(&mut self.redis.clone())
            .await
    }
}
