//! The accounts at voice providers and the detectors of voices, of all calls programs together.
//!
//! Invariant: the figures speak for all processes together, whichever is asked. They are as old as the beats that told them.
//! Not here: what a calls program counts (`models::permits`), and the route (`api::admin`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    context::Context,
    error::ApiError,
    heartbeats::{self, Seen, State},
    models::{ModelStatus, Provider},
};

/// `/status/models`.
#[derive(Debug, Serialize)]
pub struct Models {
    data: Vec<Account>,
    replicas: Vec<Replica>,
}

/// An account, by all calls programs together: sums, the limit that they share, and of the times the longest.
#[derive(Debug, Serialize)]
struct Account {
    #[serde(flatten)]
    all: ModelStatus,
    /// Calls programs that have used it.
    replicas: usize,
}

/// A calls program that beats.
#[derive(Debug, Serialize)]
struct Replica {
    name: String,
    host: String,
    state: State,
    age_ms: u64,
    #[serde(flatten)]
    said: Said,
}

/// What a calls program says in its beats.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    data: Vec<ModelStatus>,
    /// In the words of that program: one that was built otherwise has another detector.
    voice_activity: Value,
}

/// Reads what every calls program said last.
///
/// # Errors
/// 503 where Redis is away.
pub async fn models(ctx: &Context) -> Result<Models, ApiError> {
    let replicas: Vec<Replica> = heartbeats::processes(&ctx.stores).await?.into_iter().filter_map(replica).collect();
    let mut accounts: BTreeMap<(Provider, String), Account> = BTreeMap::new();
    for status in replicas.iter().flat_map(|replica| &replica.said.data) {
        let key = (status.provider, status.account.clone());
        match accounts.get_mut(&key) {
            Some(account) => account.add(status),
            None => drop(accounts.insert(key, Account { all: status.clone(), replicas: 1 })),
        }
    }
    Ok(Models { data: accounts.into_values().collect(), replicas })
}

/// A process that is alive and says something of models.
fn replica(seen: Seen) -> Option<Replica> {
    let (state, age_ms, alive) = (seen.state, seen.age_ms, seen.alive());
    let said = seen.beat.models.filter(|_| alive).and_then(|said| serde_json::from_value(said).ok())?;
    Some(Replica { name: seen.beat.name, host: seen.beat.host, state, age_ms, said })
}

impl Account {
    fn add(&mut self, other: &ModelStatus) {
        let all = &mut self.all;
        all.in_flight += other.in_flight;
        // One limit for all of them; while settings are being changed, the higher of two.
        all.permits = all.permits.max(other.permits);
        all.answers += other.answers;
        all.refused += other.refused;
        all.failed += other.failed;
        all.p50_ms = all.p50_ms.max(other.p50_ms);
        all.p99_ms = all.p99_ms.max(other.p99_ms);
        self.replicas += 1;
    }
}
