//! Calls without a session: how many wait for one, and which have waited too long.

use std::time::Duration;

use redis::RedisResult;

use crate::calls::store::{AFTERWARDS, Calls, LOOKED_FOR, millis};

/// Calls handed out per look.
const MOST: usize = 100;
/// Somebody looks each second: where nobody has for so long, Redis could not be asked, and no lease could be renewed.
const LONG_AGO: Duration = Duration::from_secs(3);
/// No call is taken so often. Lua still counts to it.
const LAST_EPOCH: u64 = 1 << 53;

impl Calls {
    /// Answered calls that wait for their session.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn waiting(&self) -> RedisResult<u64> {
        redis::cmd("LLEN").arg(self.waiting_key()).query_async(&mut self.redis.clone()).await
    }

    /// Calls whose session has gone silent, or never came. Each is given to one who asks, who ends it and says so by
    /// [`Calls::forget`]; else it is given again. The first look after a time without one finds none: all of them get the
    /// time that their sessions need to renew.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn orphans(&self) -> RedisResult<Vec<String>> {
        self.orphans
            .key(self.watched_key())
            .key(self.waiting_key())
            .key(self.keys.key("calls:looked"))
            .arg(MOST)
            .arg(millis(LOOKED_FOR))
            .arg(millis(LONG_AGO))
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

    /// Forgets a call that is over and everything that was said in it. Nothing of it comes back: what a session of it still writes is
    /// refused, by an epoch that is later than any.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn erase(&self, call_id: &str) -> RedisResult<()> {
        redis::pipe()
            .atomic()
            .del(&[self.state_key(call_id), self.opened_key(call_id), self.lease_key(call_id)])
            .ignore()
            .pset_ex(self.epoch_key(call_id), LAST_EPOCH, millis(AFTERWARDS))
            .ignore()
            .zrem(self.watched_key(), call_id)
            .ignore()
            .lrem(self.waiting_key(), 0, call_id)
            .ignore()
            .query_async(&mut self.redis.clone())
            .await
    }
}
