//! One of everything that a process needs, built once and lent everywhere.
//!
//! Invariant: all stores and keys of a process come from here; there is no global.
//! Not here: what a process does with them (the flows and doors), and when it starts and stops (`bin/`).

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{
    businesses::{keys::KnownKeys, vault::Vault},
    config::Settings,
    ids::BusinessId,
    stores::Stores,
};

/// One of everything, cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The settings of this process.
    pub settings: Arc<Settings>,
    /// Postgres and Redis.
    pub stores: Stores,
    /// What seals secrets and derives keys.
    pub vault: Arc<Vault>,
    /// The API keys that this process has seen lately.
    pub known_keys: Arc<KnownKeys>,
    /// Cancelled when the process stops; streams without an end watch it.
    pub stopping: CancellationToken,
}

impl Context {
    /// Opens the stores (waiting for one that is down) and the vault.
    ///
    /// # Errors
    /// Where a setting cannot be used; never because a store is down.
    pub async fn open(settings: Settings, application_name: &str) -> anyhow::Result<Self> {
        let key = settings.rollcall_sealing_key.as_ref().context("ROLLCALL_SEALING_KEY is missing")?;
        let vault = Arc::new(Vault::from_setting(key)?);
        let stores = Stores::open(&settings, application_name).await?;
        Ok(Self {
            settings: Arc::new(settings),
            stores,
            vault,
            known_keys: Arc::default(),
            stopping: CancellationToken::new(),
        })
    }

    /// Rings for a business: there may be work for it now. A bell that is lost costs seconds (the sweep rings again).
    #[expect(clippy::unused_async, reason = "the bell is a write to Redis as soon as the queue is here")]
    pub async fn ring(&self, business: BusinessId) {
        tracing::debug!(business.id = %business, "a bell would ring");
    }
}
