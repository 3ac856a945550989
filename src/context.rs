//! One of everything that a process needs, built once and lent everywhere.
//!
//! Invariant: all stores and keys of a process come from here; there is no global.
//! Not here: what a process does with them (the flows and doors), and when it starts and stops (`bin/`).

use std::{ops::Deref, sync::Arc};

use anyhow::Context as _;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{
    attempts::{batch::Batches, token::Tokens},
    businesses::{
        keys::KnownKeys,
        profile::{Opened, Profile, SealedAccount},
        profiles::Profiles,
        vault::Vault,
    },
    calls::Calls,
    carriers::{Account, Client, HttpLimits},
    config::Settings,
    heartbeats::{Heartbeats, Replicas},
    ids::{BusinessId, Carrier},
    jobs::{
        claims::Claims,
        queue::{Bells, Why},
    },
    models::{Hearing, Login, Permits, Provider, accounts},
    runs::machine::Machines,
    slots::Gate,
    stores::Stores,
};

/// One of everything, cheap to clone: it is, several times for each request.
#[derive(Clone)]
pub struct Context(Arc<Parts>);

/// What a process is made of.
#[derive(Clone)]
pub struct Parts {
    /// The settings of this process.
    pub settings: Arc<Settings>,
    /// Postgres and Redis.
    pub stores: Stores,
    /// What seals secrets and derives keys.
    pub vault: Arc<Vault>,
    /// Who may be on the line.
    pub gate: Gate,
    /// What asks a worker to look.
    pub bells: Bells,
    /// What writes events of calls together.
    pub batches: Batches,
    /// The claims of this process on their way into the ledger.
    pub claims: Claims,
    /// What this process says of itself.
    pub heartbeats: Heartbeats,
    /// The calls programs, as this process last read them.
    pub replicas: Replicas,
    /// What names an attempt in a callback URL.
    pub tokens: Arc<Tokens>,
    /// Live conversations, as every replica may know them.
    pub calls: Calls,
    /// How much of the voice providers this process may use at once.
    pub permits: Permits,
    /// What tells voices from other sounds.
    pub hearing: Hearing,
    /// Talks to the carriers.
    pub carriers: Client,
    /// Businesses as they dial.
    pub profiles: Arc<Profiles>,
    /// What runs do with machines, as they dial.
    pub machines: Arc<Machines>,
    /// The API keys that this process has seen lately.
    pub known_keys: Arc<KnownKeys>,
    /// Cancelled when the process stops; streams without an end watch it.
    pub stopping: CancellationToken,
}

impl Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl From<Parts> for Context {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Context {
    /// The same with another sign to stop.
    #[must_use]
    pub fn stopped_by(&self, stopping: CancellationToken) -> Self {
        Parts { stopping, ..Parts::clone(self) }.into()
    }

    /// Opens the stores (waiting for one that is down), the vault and the carrier client.
    ///
    /// # Errors
    /// Where a setting cannot be used; never because a store is down.
    pub async fn open(settings: Settings, application_name: &str) -> anyhow::Result<Self> {
        let vault = vault(&settings)?;
        let stores = Stores::open(&settings, application_name).await?;
        Self::over(settings, vault, stores)
    }

    /// The same without waiting: a store that is down shows at its first use. For the command line.
    ///
    /// # Errors
    /// Where a setting cannot be used.
    pub fn lazily(settings: Settings, application_name: &str) -> anyhow::Result<Self> {
        let vault = vault(&settings)?;
        let stores = Stores::lazily(&settings, application_name)?;
        Self::over(settings, vault, stores)
    }

    fn over(settings: Settings, vault: Arc<Vault>, stores: Stores) -> anyhow::Result<Self> {
        let parts = Parts {
            gate: Gate::new(&stores),
            batches: Batches::new(&stores.pg),
            claims: Claims::new(&stores.pg),
            bells: Bells::new(&stores),
            heartbeats: Heartbeats::new(&stores),
            replicas: Replicas::default(),
            calls: Calls::new(&stores),
            permits: Permits::new(&stores),
            hearing: Hearing::default(),
            tokens: Arc::new(Tokens::new(vault.derive("callback tokens"))),
            carriers: Client::new(HttpLimits::default())?,
            profiles: Arc::default(),
            machines: Arc::default(),
            known_keys: Arc::default(),
            stopping: CancellationToken::new(),
            settings: Arc::new(settings),
            stores,
            vault,
        };
        Ok(parts.into())
    }

    /// Has Postgres make the plans of what is written most, before the first call waits for them.
    pub async fn warm(&self) {
        futures::future::join(self.batches.warm(), self.claims.warm()).await;
    }

    /// Takes leave of Postgres: nothing can be read or written from now on.
    pub async fn close(&self) {
        futures::future::join3(self.batches.close(), self.claims.close(), self.stores.pg.close()).await;
    }

    /// Rings for a business: there may be work for it now. A bell that is lost costs seconds (the sweep rings again).
    pub async fn ring(&self, business: BusinessId) {
        self.ring_why(business, Why::Work).await;
    }

    /// The same because a slot of the business came free.
    pub async fn ring_freed(&self, business: BusinessId) {
        self.ring_why(business, Why::Freed).await;
    }

    /// Rings for those whose turn at the lines it is.
    pub async fn ring_turns(&self, turns: &[BusinessId]) {
        for business in turns {
            self.ring_why(*business, Why::Freed).await;
        }
    }

    async fn ring_why(&self, business: BusinessId, why: Why) {
        if let Err(error) = self.bells.ring(business, why).await {
            tracing::warn!(business.id = %business, error = format!("{error:#}"), "the bell could not be rung; the sweep will");
        }
    }

    /// The profile of a business, at most a second old.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn profile(&self, business: BusinessId) -> sqlx::Result<Option<Arc<Profile>>> {
        self.profiles.get(&self.stores.pg, business).await
    }

    /// The account of a business by the carrier's own name of it, opened; `None` where the business has it no longer.
    ///
    /// # Errors
    /// Where Postgres does not answer or the envelope cannot be opened.
    pub async fn account(&self, business: BusinessId, reference: &str) -> anyhow::Result<Option<Account>> {
        let Some(mut profile) = self.profile(business).await? else { return Ok(None) };
        let of = |profile: &Profile| profile.accounts.iter().position(|a| a.reference == reference);
        let mut place = of(&profile);
        if place.is_none() {
            // It may be younger than what is remembered.
            self.profiles.forget(business);
            let Some(now) = self.profile(business).await? else { return Ok(None) };
            profile = now;
            place = of(&profile);
        }
        place.map(|place| self.opened(business, &profile.accounts[place])).transpose()
    }

    /// The account at a voice provider that a business's calls use: its own, or the installation's; `None` without either.
    ///
    /// # Errors
    /// Where Postgres does not answer or the envelope cannot be opened.
    pub async fn login(&self, business: BusinessId, provider: Provider) -> anyhow::Result<Option<Login>> {
        let settings = self.settings.voice.provider(provider.as_str());
        let Some(sealed) = accounts::get(&self.stores.pg, business, provider).await? else {
            let key = settings.key.cloned();
            return Ok(key.map(|key| Login::new(provider, settings.base_url.clone(), key, settings.most_at_once)));
        };
        let place = format!("voice account {business} {provider}");
        let key = self.vault.open_bytes(place.as_bytes(), &sealed.secret)?;
        let base_url = sealed.base_url.map_or_else(|| Ok(settings.base_url.clone()), |url| url.parse())?;
        let key = SecretString::from(String::from_utf8(key)?);
        Ok(Some(Login::new(provider, base_url, key, usize::try_from(sealed.most_at_once)?)))
    }

    /// The account of a business at a carrier, opened; `None` where it has none.
    ///
    /// # Errors
    /// Where Postgres does not answer or the envelope cannot be opened.
    pub async fn account_at(&self, business: BusinessId, carrier: Carrier) -> anyhow::Result<Option<Account>> {
        let Some(profile) = self.profile(business).await? else { return Ok(None) };
        let Some(sealed) = profile.accounts.iter().find(|a| a.carrier == carrier) else { return Ok(None) };
        self.opened(business, sealed).map(Some)
    }

    fn opened(&self, business: BusinessId, sealed: &SealedAccount) -> anyhow::Result<Account> {
        let Opened { secret, signers, api_base_url } = sealed.open(&self.vault, business)?.clone();
        let base_url = api_base_url.unwrap_or_else(|| match sealed.carrier {
            Carrier::Twilio => self.settings.twilio_api_base_url.clone(),
            Carrier::Telnyx => self.settings.telnyx_api_base_url.clone(),
        });
        Ok(Account { carrier: sealed.carrier, reference: sealed.reference.clone(), secret, signers, base_url })
    }
}

fn vault(settings: &Settings) -> anyhow::Result<Arc<Vault>> {
    let key = settings.rollcall_sealing_key.as_ref().context("ROLLCALL_SEALING_KEY is missing")?;
    Ok(Arc::new(Vault::from_settings(key, &settings.rollcall_sealing_keys_also)?))
}
