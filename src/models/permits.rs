//! So many at once per account of a provider, over all processes; what is under way, and how long it takes to answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    ids::AttemptId,
    models::{
        accounts::{Login, Provider},
        shared::{Shared, Token},
    },
    stores::Stores,
};

/// Longest answer that is told apart, ms.
const LONGEST_MS: u64 = 60_000;

/// Between two looks of who waits for a permit.
const LOOK: Duration = Duration::from_millis(50);

/// By provider and account.
type Pools = HashMap<(Provider, String), Arc<Pool>>;

/// The permits that this process takes. Cheap to clone.
#[derive(Clone)]
pub struct Permits {
    pools: Arc<Mutex<Pools>>,
    shared: Shared,
}

struct Pool {
    semaphore: Arc<Semaphore>,
    most: usize,
    seen: Mutex<Seen>,
}

struct Seen {
    answers: Histogram<u32>,
    refused: u64,
    failed: u64,
}

/// One request or socket at a provider; it ends with this.
pub struct Permit {
    pool: Arc<Pool>,
    _one: OwnedSemaphorePermit,
    _everywhere: Token,
}

/// No permit is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the account at {0} has as many connections as it may")]
pub struct Full(pub Provider);

/// A model account as `/status/models` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Which provider.
    pub provider: Provider,
    /// The account, by a hash of its key.
    pub account: String,
    /// Under way now in this process.
    pub in_flight: usize,
    /// At most.
    pub permits: usize,
    /// Answers that were measured.
    pub answers: u64,
    /// Half began within this, ms; null before the first.
    pub p50_ms: Option<u64>,
    /// 99 of 100 began within this, ms.
    pub p99_ms: Option<u64>,
    /// Times that no permit was free.
    pub refused: u64,
    /// Connections and answers that failed.
    pub failed: u64,
}

impl Permits {
    /// No permits yet, in these stores.
    #[must_use]
    pub fn new(stores: &Stores) -> Self {
        Self { pools: Arc::default(), shared: Shared::new(stores) }
    }

    /// A permit of an account for a call, now. A call that is taken over by another process keeps its own.
    ///
    /// # Errors
    /// Where all are taken, by whichever process.
    pub async fn take(&self, login: &Login, call: AttemptId) -> Result<Permit, Full> {
        self.take_within(login, call, Duration::ZERO).await
    }

    /// The same, and waits so long for one: where others hold theirs for a moment only, or one that is over holds its own still.
    ///
    /// # Errors
    /// Where all are taken until then, by whichever process.
    pub async fn take_within(&self, login: &Login, call: AttemptId, patience: Duration) -> Result<Permit, Full> {
        let (pool, begin) = (self.pool(login), Instant::now());
        let account = format!("{}:{}", login.provider.as_str(), login.account());
        loop {
            if let Ok(one) = Arc::clone(&pool.semaphore).try_acquire_owned()
                && let Some(everywhere) = self.shared.take(&account, pool.most, &call.to_string()).await
            {
                return Ok(Permit { pool, _one: one, _everywhere: everywhere });
            }
            if begin.elapsed() >= patience {
                pool.seen().refused += 1;
                return Err(Full(login.provider));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Says that the permits of this process are held; to be done every [`RENEW`](super::RENEW).
    pub async fn renew(&self) {
        self.shared.renew().await;
    }

    /// Every account that this process has used.
    #[must_use]
    pub fn status(&self) -> Vec<ModelStatus> {
        let mut all: Vec<_> = self
            .lock()
            .iter()
            .map(|((provider, account), pool)| {
                let seen = pool.seen();
                let at = |quantile| (!seen.answers.is_empty()).then(|| seen.answers.value_at_quantile(quantile));
                ModelStatus {
                    provider: *provider,
                    account: account.clone(),
                    in_flight: pool.most.saturating_sub(pool.semaphore.available_permits()),
                    permits: pool.most,
                    answers: seen.answers.len(),
                    p50_ms: at(0.5),
                    p99_ms: at(0.99),
                    refused: seen.refused,
                    failed: seen.failed,
                }
            })
            .collect();
        all.sort_by(|a, b| (a.provider, &a.account).cmp(&(b.provider, &b.account)));
        all
    }

    fn pool(&self, login: &Login) -> Arc<Pool> {
        let mut pools = self.lock();
        let key = (login.provider, login.account());
        let known = pools.get(&key).filter(|pool| pool.most == login.most_at_once).cloned();
        known.unwrap_or_else(|| {
            // A limit that was changed begins a new pool; what is under way in the old one ends there.
            let most = login.most_at_once;
            let answers = Histogram::new_with_bounds(1, LONGEST_MS, 2).unwrap_or_else(|_| unreachable!("1 < 60,000"));
            let seen = Mutex::new(Seen { answers, refused: 0, failed: 0 });
            let pool = Arc::new(Pool { semaphore: Arc::new(Semaphore::new(most)), most, seen });
            pools.insert(key, Arc::clone(&pool));
            pool
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The provider began its answer after so long.
    pub fn answered(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(LONGEST_MS).clamp(1, LONGEST_MS);
        self.pool.seen().answers.saturating_record(ms);
    }

    /// The provider could not be reached, refused, or broke off.
    pub fn failed(&self) {
        self.pool.seen().failed += 1;
    }
}
