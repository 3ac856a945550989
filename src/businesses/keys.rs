//! API keys of businesses: made once, shown once, kept as a hash, dead within seconds after their revocation.
//!
//! Not here: the operator key (a setting), and what a role may do (`api::auth`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use rand::{TryRng, rngs::SysRng};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, PgPool};

use crate::ids::{BusinessId, KeyId};

/// How long a key is believed without asking Postgres: a revoked key must be dead after 5 s, requests in flight included.
const BELIEVED_FOR: Duration = Duration::from_secs(3);
/// Keys remembered per process; more only cost a question to Postgres each.
const REMEMBERED: usize = 10_000;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and acts.
    Manager,
}

/// One key of one business, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub business: BusinessId,
    /// Its first characters, for people to tell keys apart.
    pub prefix: String,
    /// What it may do.
    pub role: Role,
    /// What people call it.
    pub name: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The keys that this process has seen in the last seconds.
#[derive(Debug, Default)]
pub struct KnownKeys {
    seen: Mutex<HashMap<[u8; 32], (Instant, Key)>>,
}

impl KnownKeys {
    fn get(&self, hash: &[u8; 32]) -> Option<Key> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(hash).filter(|(at, _)| at.elapsed() < BELIEVED_FOR).map(|(_, key)| key.clone())
    }

    fn put(&self, hash: [u8; 32], asked_at: Instant, key: Key) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, (at, _)| at.elapsed() < BELIEVED_FOR);
        }
        if seen.len() < REMEMBERED {
            seen.insert(hash, (asked_at, key));
        }
    }

    /// Forgets a key in this process at once; other processes forget it within seconds.
    pub fn forget(&self, id: KeyId) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (_, key)| key.id != id);
    }
}

/// The living key that this text is, if it is one.
///
/// # Errors
/// Where Postgres does.
pub async fn find(pg: &PgPool, known: &KnownKeys, text: &str) -> sqlx::Result<Option<Key>> {
    let hash: [u8; 32] = Sha256::digest(text).into();
    if let Some(key) = known.get(&hash) {
        return Ok(Some(key));
    }
    // Counted from before the question, so that a revocation in between is not believed longer.
    let asked_at = Instant::now();
    let found = sqlx::query_as!(
        Key,
        r#"SELECT key_id AS "id: KeyId", business_id AS "business: BusinessId", prefix, role AS "role: Role", name,
                  created_at, revoked_at
           FROM api_key WHERE key_hash = $1 AND revoked_at IS NULL"#,
        hash.as_slice()
    )
    .fetch_optional(pg)
    .await?;
    if let Some(key) = &found {
        known.put(hash, asked_at, key.clone());
    }
    Ok(found)
}

/// Makes a key. Its text is returned here and never again. None where there is no such business.
///
/// # Errors
/// Where Postgres does, or the operating system gives no random bytes.
pub async fn create(
    db: impl PgExecutor<'_>,
    business: BusinessId,
    name: Option<&str>,
    role: Role,
) -> anyhow::Result<Option<(Key, SecretString)>> {
    let mut bytes = [0_u8; 32];
    SysRng.try_fill_bytes(&mut bytes).context("no random bytes")?;
    let text = SecretString::from(format!("rk_{}", hex::encode(bytes)));
    let prefix: String = text.expose_secret().chars().take(7).collect();
    let hash: [u8; 32] = Sha256::digest(text.expose_secret()).into();
    let made = sqlx::query_as!(
        Key,
        r#"INSERT INTO api_key (key_id, business_id, prefix, key_hash, role, name)
           SELECT $1, business_id, $3, $4, $5, $6 FROM business WHERE business_id = $2
           RETURNING key_id AS "id: KeyId", business_id AS "business: BusinessId", prefix, role AS "role: Role", name,
                     created_at, revoked_at"#,
        KeyId::new().0,
        business.0,
        prefix,
        hash.as_slice(),
        role as Role,
        name
    )
    .fetch_optional(db)
    .await?;
    Ok(made.map(|key| (key, text)))
}

/// Up to `limit` keys of a business, revoked ones too, in the order they were made, after the key `after`.
///
/// # Errors
/// Where Postgres does.
pub async fn list(
    db: impl PgExecutor<'_>,
    business: BusinessId,
    after: Option<KeyId>,
    limit: i64,
) -> sqlx::Result<Vec<Key>> {
    sqlx::query_as!(
        Key,
        r#"SELECT key_id AS "id: KeyId", business_id AS "business: BusinessId", prefix, role AS "role: Role", name,
                  created_at, revoked_at
           FROM api_key WHERE business_id = $1 AND key_id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY key_id LIMIT $3"#,
        business.0,
        after.map(|id| id.0),
        limit
    )
    .fetch_all(db)
    .await
}

/// Revokes a key; once more is no error and keeps the first time. False where the business has no such key.
///
/// # Errors
/// Where Postgres does.
pub async fn revoke(db: impl PgExecutor<'_>, business: BusinessId, key: KeyId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE business_id = $1 AND key_id = $2",
        business.0,
        key.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
