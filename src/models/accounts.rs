//! Accounts at voice providers: a business's own, sealed, or the installation's from the settings.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use url::Url;
use utoipa::ToSchema;

use crate::{clock::Time, ids::BusinessId};

/// A voice provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Turns speech into text.
    Deepgram,
    /// Chat, and speech to speech. So is every service with the same API.
    Openai,
    /// Turns text into speech.
    Elevenlabs,
}

impl Provider {
    /// The word in routes, rows and figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deepgram => "deepgram",
            Self::Openai => "openai",
            Self::Elevenlabs => "elevenlabs",
        }
    }
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An account, opened. `Debug` hides the key.
#[derive(Debug, Clone)]
pub struct Login {
    /// Whose account.
    pub provider: Provider,
    /// Where it is.
    pub base_url: Url,
    /// What requests are sent with.
    pub key: SecretString,
    /// Requests and sockets at once, over all processes.
    pub most_at_once: usize,
}

impl Login {
    /// An account, opened.
    #[must_use]
    pub fn new(provider: Provider, base_url: Url, key: SecretString, most_at_once: usize) -> Self {
        Self { provider, base_url, key, most_at_once }
    }

    /// A name for the account that does not tell its key.
    #[must_use]
    pub fn account(&self) -> String {
        let text = format!("{} {}", self.base_url, self.key.expose_secret());
        hex::encode(&Sha256::digest(text)[..4])
    }
}

/// A business's own account with its key still sealed.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Another address than the settings name.
    pub base_url: Option<String>,
    /// Requests and sockets at once, over all processes.
    pub most_at_once: i32,
    /// The envelope.
    pub secret: Vec<u8>,
    /// The id of the key that opens it.
    pub sealing_key: String,
    /// When it was set.
    pub secret_updated_at: Time,
}

/// A business's own account at a provider.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn get(pg: &PgPool, business: BusinessId, provider: Provider) -> sqlx::Result<Option<Sealed>> {
    sqlx::query_as!(
        Sealed,
        r#"SELECT base_url, most_at_once, secret, sealing_key, secret_updated_at AS "secret_updated_at: Time"
           FROM voice_account WHERE business_id = $1 AND provider = $2"#,
        business.0,
        provider.as_str()
    )
    .fetch_optional(pg)
    .await
}

/// Sets a business's account; false where there is no such business.
///
/// # Errors
/// Where Postgres cannot store it.
pub async fn put(
    pg: &PgPool,
    business: BusinessId,
    provider: Provider,
    (base_url, most_at_once): (Option<&str>, i32),
    (secret, sealing_key): (&[u8], &str),
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO voice_account (business_id, provider, base_url, most_at_once, secret, sealing_key)
         SELECT business_id, $2, $3, $4, $5, $6 FROM business WHERE business_id = $1
         ON CONFLICT (business_id, provider) DO UPDATE SET base_url = excluded.base_url, most_at_once = excluded.most_at_once,
             secret = excluded.secret, sealing_key = excluded.sealing_key, secret_updated_at = clock_timestamp()",
        business.0,
        provider.as_str(),
        base_url,
        most_at_once,
        secret,
        sealing_key
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes a business's account; false where there is none.
///
/// # Errors
/// Where Postgres cannot answer.
pub async fn delete(pg: &PgPool, business: BusinessId, provider: Provider) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "DELETE FROM voice_account WHERE business_id = $1 AND provider = $2",
        business.0,
        provider.as_str()
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected() == 1)
}
