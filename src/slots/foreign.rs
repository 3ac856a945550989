//! What somebody else wrote into the gate's keys: a key of another kind would stop its scripts for ever, and an entry that no holder has
//! a slot or a line.

use redis::{RedisResult, aio::ConnectionManager};

use crate::{ids::BusinessId, slots::Gate};

/// Businesses whose slots are read by one script, so that it does not block Redis for long.
const AT_ONCE: usize = 50;

/// Entries that no holder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The key that they stand in; of `gate:holders`, holders without a line, or without a slot of a business that was asked for.
    pub key: String,
    /// How many.
    pub entries: u64,
}

impl Gate {
    /// The entries that no holder has in the keys of the whole installation, and in the slots of these businesses. Nothing is between two
    /// states here: each of the gate's own steps writes all of its keys.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn foreign(&self, businesses: &[BusinessId]) -> RedisResult<Vec<Foreign>> {
        self.foreign_in(businesses, false).await
    }

    /// The same, and removes them. An open attempt that held something by them is given its holder again by the next comparison with the
    /// ledger.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn forget_foreign(&self, businesses: &[BusinessId]) -> RedisResult<Vec<Foreign>> {
        self.foreign_in(businesses, true).await
    }

    async fn foreign_in(&self, businesses: &[BusinessId], forget: bool) -> RedisResult<Vec<Foreign>> {
        // Those of the whole installation also where there is no business.
        let mut found = self.foreign_of(businesses.get(..AT_ONCE).unwrap_or(businesses), forget).await?;
        for some in businesses.get(AT_ONCE..).unwrap_or_default().chunks(AT_ONCE) {
            let others = self.foreign_of(some, forget).await?;
            found.extend(others.into_iter().filter(|foreign| foreign.key.starts_with("slots:")));
        }
        Ok(found)
    }

    async fn foreign_of(&self, businesses: &[BusinessId], forget: bool) -> RedisResult<Vec<Foreign>> {
        let shared = ["gate:holders", "calls:active_count", "lines:held", "lines:talking"];
        let mut script = self.foreign.prepare_invoke();
        for key in shared {
            script.key(self.keys.key(key));
        }
        for business in businesses {
            script.key(self.slots_key(*business));
        }
        script.arg(u8::from(forget));
        let mut redis = self.redis.clone();
        let entries: Vec<u64> = match script.invoke_async(&mut redis).await {
            // The taking of slots removes the key.
            Err(error) if is_met(&error) => return Ok(Vec::new()),
            answer => answer?,
        };
        let names = [shared[0], shared[2], shared[3]].map(str::to_owned).into_iter();
        let names = names.chain(businesses.iter().map(|business| format!("slots:{{{business}}}:held")));
        let found = names.zip(entries).map(|(key, entries)| Foreign { key, entries });
        Ok(found.filter(|foreign| foreign.entries > 0).collect())
    }
}

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
