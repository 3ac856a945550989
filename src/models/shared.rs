//! The permits of an account over all processes, in Redis.
//!
//! Invariant: never more calls than permits, while Redis answers. Where it does not, each process keeps to the limit by itself and
//! no call fails for it; a process that died frees its permits by saying nothing.
//! Not here: the permits of one process, and what is counted (`permits`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{RedisResult, Script, aio::ConnectionManager};
use uuid::Uuid;

use crate::stores::{Keys, Stores};

/// A permit that is not renewed is free after this.
const LIFE: Duration = Duration::from_secs(15);
/// How often permits are renewed.
pub const RENEW: Duration = Duration::from_secs(5);
/// A caller waits for no longer than this.
const PATIENCE: Duration = Duration::from_millis(250);

/// What this process holds: by account, the calls by holder.
type Held = HashMap<String, HashMap<Uuid, String>>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    redis: ConnectionManager,
    keys: Keys,
    take: Arc<Script>,
    free: Arc<Script>,
    renew: Arc<Script>,
    held: Arc<Mutex<Held>>,
}

/// A permit of a call; it ends with this.
pub(super) struct Token {
    shared: Shared,
    account: String,
    call: String,
    holder: Uuid,
}

impl Shared {
    pub(super) fn new(stores: &Stores) -> Self {
        Self {
            redis: stores.redis.clone(),
            keys: stores.keys.clone(),
            take: Arc::new(Script::new(include_str!("take.lua"))),
            free: Arc::new(Script::new(include_str!("free.lua"))),
            renew: Arc::new(Script::new(include_str!("renew.lua"))),
            held: Arc::default(),
        }
    }

    /// A permit of `account` for `call`, of `most`; `None` where all are taken.
    pub(super) async fn take(&self, account: &str, most: usize, call: &str) -> Option<Token> {
        // Held before it is asked for: whatever becomes of the answer, dropping it frees it.
        let token = self.token(account, call);
        let [permits, holders] = self.keys_of(account);
        let mut script = self.take.key(permits);
        script.key(holders).arg(most).arg(call).arg(token.holder.simple().to_string()).arg(millis(LIFE));
        let mut redis = self.redis.clone();
        match tokio::time::timeout(PATIENCE, script.invoke_async::<bool>(&mut redis)).await {
            Ok(Ok(false)) => None,
            Ok(Ok(true)) => Some(token),
            // What is renewed is known there when it is back.
            Ok(Err(error)) => {
                tracing::debug!(%error, "permits are counted by this process alone");
                Some(token)
            }
            Err(_) => Some(token),
        }
    }

    /// Says that what this process holds is held.
    pub(super) async fn renew(&self) {
        let held: Vec<(String, Vec<(String, String)>)> = {
            let pairs = |calls: &HashMap<Uuid, String>| {
                calls.iter().map(|(holder, call)| (call.clone(), holder.simple().to_string())).collect()
            };
            self.lock().iter().map(|(account, calls)| (account.clone(), pairs(calls))).collect()
        };
        for (account, calls) in held {
            let [permits, holders] = self.keys_of(&account);
            let mut script = self.renew.key(permits);
            script.key(holders).arg(millis(LIFE));
            for (call, holder) in &calls {
                script.arg(call).arg(holder);
            }
            let renewed: RedisResult<()> = script.invoke_async(&mut self.redis.clone()).await;
            if let Err(error) = renewed {
                tracing::debug!(%error, "permits were not renewed");
            }
        }
    }

    fn token(&self, account: &str, call: &str) -> Token {
        let holder = Uuid::new_v4();
        self.lock().entry(account.to_owned()).or_default().insert(holder, call.to_owned());
        Token { shared: self.clone(), account: account.to_owned(), call: call.to_owned(), holder }
    }

    fn keys_of(&self, account: &str) -> [String; 2] {
        ["calls:permits", "calls:permits:holders"].map(|key| self.keys.key(format_args!("{key}:{account}")))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let shared = &self.shared;
        {
            let mut held = shared.lock();
            let left = held.get_mut(&self.account).is_some_and(|calls| {
                calls.remove(&self.holder);
                !calls.is_empty()
            });
            if !left {
                held.remove(&self.account);
            }
        }
        // Without a runtime the process is ending, and its permits end by themselves.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (free, mut redis, [permits, holders]) =
            (shared.free.clone(), shared.redis.clone(), shared.keys_of(&self.account));
        let (call, holder) = (self.call.clone(), self.holder.simple().to_string());
        // Whoever drops a permit does not wait.
        runtime.spawn(async move {
            let mut script = free.key(permits);
            let freed: RedisResult<()> = script.key(holders).arg(call).arg(holder).invoke_async(&mut redis).await;
            if let Err(error) = freed {
                tracing::debug!(%error, "a permit ends by itself");
            }
        });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
