//! What dialing and webhooks need to know of a business, read in one statement.
//!
//! Not here: for how long that is believed (`businesses::profiles`).

use std::{collections::HashMap, sync::OnceLock};

use secrecy::SecretString;
use sqlx::{PgPool, types::Json};
use url::Url;
use uuid::Uuid;

use crate::{
    businesses::vault::Vault,
    ids::{BusinessId, Carrier},
};

/// A business as it dials.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its limit.
    pub slots: i32,
    /// The installation's limit.
    pub lines: i32,
    /// True where it may dial.
    pub active: bool,
    /// The pipelines of the agents that talk in its running runs: there must be room for a conversation before a number is dialed.
    pub talks: Vec<String>,
    /// How many conversations its own accounts at voice providers allow at once, by provider.
    pub voices: HashMap<String, i32>,
    /// Its accounts: first those that it dials with, in the order in which it wants them tried.
    pub accounts: Vec<SealedAccount>,
}

impl Profile {
    /// The accounts to dial with now: those in use that are not left alone, in the business's order.
    pub fn to_dial(&self) -> impl Iterator<Item = &SealedAccount> {
        self.accounts.iter().filter(|account| account.dialed && !account.held)
    }
}

/// A carrier account with its secret still sealed.
#[derive(Debug, Clone)]
pub struct SealedAccount {
    /// Which carrier.
    pub carrier: Carrier,
    /// The carrier's own name of it.
    pub reference: String,
    /// The pace it allows, calls per second.
    pub calls_per_second: f64,
    /// Where its API is, if not where the settings say.
    pub api_base_url: Option<String>,
    /// The envelope, and the id of the key that opens it.
    pub secret: Vec<u8>,
    /// The id of the sealing key.
    pub sealing_key: String,
    /// The key that signs the carrier's webhooks, where the secret does not.
    pub public_key: Option<String>,
    /// What was replaced a while ago: its signatures still count.
    pub former: Option<Former>,
    /// True where the business dials with it; of another one only calls that are open are asked about.
    pub dialed: bool,
    /// True while nothing is to be sent with it.
    pub held: bool,
    /// False where the last that was heard of it was bad.
    pub healthy: bool,
    /// True where the carrier refuses it: one call now and then tries whether it still does.
    pub refused: bool,
    /// What is in the envelopes, once somebody has opened them.
    opened: OnceLock<Opened>,
}

/// What the envelopes of an account hold. `Debug` hides the secrets.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What requests are sent with.
    pub secret: SecretString,
    /// What the carrier may sign with, the one in force first.
    pub signers: Vec<SecretString>,
    /// Where its API is, if not where the settings say.
    pub api_base_url: Option<Url>,
}

impl SealedAccount {
    /// Opens the envelopes of an account of this business, once for as long as the profile is remembered.
    ///
    /// # Errors
    /// Where the envelope in force cannot be opened, or the base URL is none.
    pub fn open(&self, vault: &Vault, business: BusinessId) -> anyhow::Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let open = |secret: &[u8], key: &str| vault.open(business, self.carrier, secret, key);
        let secret = open(&self.secret, &self.sealing_key)?;
        let former = self.former.as_ref();
        let mut signers = Vec::with_capacity(2);
        match &self.public_key {
            Some(key) => {
                signers.push(SecretString::from(key.as_str()));
                signers.extend(former.and_then(|former| former.public_key.as_deref()).map(SecretString::from));
            }
            None => {
                signers.push(secret.clone());
                // One that cannot be opened any more signs nothing.
                signers.extend(former.and_then(|former| open(&former.secret, &former.sealing_key).ok()));
            }
        }
        let api_base_url = self.api_base_url.as_deref().map(str::parse).transpose()?;
        Ok(self.opened.get_or_init(|| Opened { secret, signers, api_base_url }))
    }
}

/// Keys that were replaced.
#[derive(Debug, Clone)]
pub struct Former {
    /// The envelope, and the id of the key that opens it.
    pub secret: Vec<u8>,
    /// The id of the sealing key.
    pub sealing_key: String,
    /// The key that signed the carrier's webhooks.
    pub public_key: Option<String>,
}

/// The profile of a business as it is now; `None` where there is no such business.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn read(pg: &PgPool, business: BusinessId) -> sqlx::Result<Option<Profile>> {
    Ok(read_all(pg, &[business]).await?.remove(&business))
}

/// The profiles of some businesses as they are now, without those that do not exist.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn read_all(pg: &PgPool, businesses: &[BusinessId]) -> sqlx::Result<HashMap<BusinessId, Profile>> {
    let businesses: Vec<Uuid> = businesses.iter().map(|business| business.0).collect();
    let rows = sqlx::query!(
        r#"SELECT b.business_id AS "business_id: BusinessId", b.max_concurrent_calls, b.state = 'active' AS "active!", i.max_lines,
               ARRAY (SELECT DISTINCT coalesce(v.pipeline, 'cascade') FROM run r
                          LEFT JOIN agent_version v ON v.agent_id = r.agent_id AND v.version = r.agent_version
                      WHERE r.business_id = b.business_id AND r.state = 'running' AND r.agent_id IS NOT NULL) AS "talks!",
               (SELECT coalesce(jsonb_object_agg(o.provider, o.most_at_once), '{}') FROM voice_account o WHERE o.business_id = b.business_id)
                   AS "voices!: Json<HashMap<String, i32>>",
               a.carrier AS "carrier?: Carrier", a.reference AS "reference?", a.calls_per_second AS "calls_per_second?",
               a.api_base_url, a.secret AS "secret?", a.sealing_key AS "sealing_key?", a.health AS "health?", a.public_key,
               CASE WHEN a.former_until > clock_timestamp() THEN a.former_secret END AS former_secret, a.former_sealing_key,
               a.former_public_key, a.carrier = ANY (b.carriers) AS "dialed?", a.hold_until > clock_timestamp() AS "held?"
           FROM business b CROSS JOIN installation i
           LEFT JOIN carrier_account a ON a.business_id = b.business_id
           WHERE b.business_id = ANY ($1) ORDER BY b.business_id, array_position(b.carriers, a.carrier)"#,
        &businesses
    )
    .fetch_all(pg)
    .await?;
    let mut profiles = HashMap::<BusinessId, Profile>::with_capacity(businesses.len());
    for row in rows {
        let profile = profiles.entry(row.business_id).or_insert_with(|| Profile {
            slots: row.max_concurrent_calls,
            lines: row.max_lines,
            active: row.active,
            talks: row.talks,
            voices: row.voices.0,
            accounts: Vec::new(),
        });
        let (Some(carrier), Some(reference), Some(calls_per_second), Some(secret), Some(sealing_key)) =
            (row.carrier, row.reference, row.calls_per_second, row.secret, row.sealing_key)
        else {
            continue;
        };
        profile.accounts.push(SealedAccount {
            carrier,
            reference,
            calls_per_second,
            api_base_url: row.api_base_url,
            secret,
            sealing_key,
            public_key: row.public_key,
            former: row.former_secret.zip(row.former_sealing_key).map(|(secret, sealing_key)| Former {
                secret,
                sealing_key,
                public_key: row.former_public_key,
            }),
            dialed: row.dialed == Some(true),
            held: row.held == Some(true),
            healthy: row.health.as_deref() == Some("ok"),
            refused: row.health.as_deref() == Some("refused"),
            opened: OnceLock::new(),
        });
    }
    Ok(profiles)
}
