//! A business's accounts at carriers. The secret goes in sealed and is never read back by a door.
//!
//! Not here: what is done with an account, and who writes its health (`dialing`).

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, PgExecutor, PgPool, PgTransaction};

use crate::{
    businesses::{
        store::{self, Health},
        vault::Vault,
    },
    ids::{BusinessId, Carrier},
};

/// An account as it may be shown.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented there and in the API's schema")]
pub struct Account {
    pub carrier: Carrier,
    pub reference: String,
    pub caller_ids: Vec<String>,
    pub calls_per_second: f64,
    pub api_base_url: Option<String>,
    pub public_key: Option<String>,
    pub secret_updated_at: DateTime<Utc>,
    pub health: Health,
}

/// A secret that is to be kept.
#[derive(Debug)]
pub struct NewSecret<'a> {
    vault: &'a Vault,
    secret: SecretString,
    /// The envelope, and the id of the key that opens it.
    sealed: (Vec<u8>, String),
}

impl<'a> NewSecret<'a> {
    /// Seals the secret of a business's account at a carrier.
    ///
    /// # Errors
    /// Where the operating system gives no random bytes.
    pub fn seal(
        vault: &'a Vault,
        (business, carrier): (BusinessId, Carrier),
        secret: &SecretString,
    ) -> anyhow::Result<Self> {
        Ok(Self { vault, secret: secret.clone(), sealed: vault.seal(business, carrier, secret)? })
    }

    /// True where the account has this very secret: two envelopes never look the same. One that cannot be opened has another.
    async fn is_kept(&self, db: impl PgExecutor<'_>, business: BusinessId, carrier: Carrier) -> sqlx::Result<bool> {
        let kept = sqlx::query!(
            "SELECT secret, sealing_key FROM carrier_account WHERE business_id = $1 AND carrier = $2",
            business.0,
            carrier as Carrier
        );
        let kept = kept.fetch_optional(db).await?;
        let kept = kept.and_then(|kept| self.vault.open(business, carrier, &kept.secret, &kept.sealing_key).ok());
        Ok(kept.is_some_and(|kept| kept.expose_secret() == self.secret.expose_secret()))
    }
}

/// The account at a carrier.
///
/// # Errors
/// Where Postgres does.
pub async fn get(db: impl PgExecutor<'_>, business: BusinessId, carrier: Carrier) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(
        Account,
        r#"SELECT carrier AS "carrier: Carrier", reference, caller_ids, calls_per_second, api_base_url, public_key, secret_updated_at,
                  health AS "health: Health"
           FROM carrier_account WHERE business_id = $1 AND carrier = $2"#,
        business.0,
        carrier as Carrier
    )
    .fetch_optional(db)
    .await
}

/// What may be set of an account besides its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The carrier's own name of the account.
    pub reference: String,
    /// Numbers to call from, E.164.
    pub caller_ids: Vec<String>,
    /// Calls created per second.
    pub calls_per_second: f64,
    /// Another base URL than the carrier's own.
    pub api_base_url: Option<String>,
    /// The key that signs the carrier's webhooks, where the secret does not.
    pub public_key: Option<String>,
}

/// What became of a change.
#[derive(Debug)]
pub enum Outcome {
    /// It is done; so the account is now. A deleted one: so it was.
    Done(Account),
    /// There is no such business.
    NoBusiness,
    /// The business has no account at this carrier.
    NoAccount,
    /// So many calls are open, and can only be asked about with the account that made them. Nothing was changed.
    CallsOpen(i64),
}

/// Sets the account at a carrier, new or not; what is known of its health starts anew. What signed until now counts for a day
/// more: a carrier signs with the new key at a time of its own choice, and repeats webhooks.
///
/// # Errors
/// Where Postgres does.
pub async fn put(
    pg: &PgPool,
    business: BusinessId,
    carrier: Carrier,
    terms: &Terms,
    secret: &NewSecret<'_>,
) -> sqlx::Result<Outcome> {
    let mut tx = pg.begin().await?;
    if !store::lock(&mut *tx, business).await? {
        return Ok(Outcome::NoBusiness);
    }
    let old = get(&mut *tx, business, carrier).await?;
    if old.is_some_and(|old| old.reference != terms.reference) {
        let open = open_attempts(&mut *tx, business, carrier).await?;
        if open > 0 {
            return Ok(Outcome::CallsOpen(open));
        }
    }
    write(&mut tx, business, carrier, terms, secret).await?;
    done(tx, business, carrier).await
}

/// Changes the account at a carrier. Without a new secret the old one stays; what is known of the account's health starts
/// anew where secret, account or address become others.
///
/// # Errors
/// Where Postgres does.
pub async fn change(
    pg: &PgPool,
    business: BusinessId,
    carrier: Carrier,
    edit: impl FnOnce(&mut Terms),
    secret: Option<&NewSecret<'_>>,
) -> sqlx::Result<Outcome> {
    let mut tx = pg.begin().await?;
    if !store::lock(&mut *tx, business).await? {
        return Ok(Outcome::NoBusiness);
    }
    let Some(old) = get(&mut *tx, business, carrier).await? else { return Ok(Outcome::NoAccount) };
    let was = old.reference.clone();
    let mut terms = Terms {
        reference: old.reference,
        caller_ids: old.caller_ids,
        calls_per_second: old.calls_per_second,
        api_base_url: old.api_base_url,
        public_key: old.public_key,
    };
    edit(&mut terms);
    if terms.reference != was {
        let open = open_attempts(&mut *tx, business, carrier).await?;
        if open > 0 {
            return Ok(Outcome::CallsOpen(open));
        }
    }
    match secret {
        Some(secret) => write(&mut tx, business, carrier, &terms, secret).await?,
        None => write_without_secret(&mut *tx, business, carrier, &terms).await?,
    }
    done(tx, business, carrier).await
}

/// Deletes the account at a carrier, secret and all.
///
/// # Errors
/// Where Postgres does.
pub async fn delete(pg: &PgPool, business: BusinessId, carrier: Carrier) -> sqlx::Result<Outcome> {
    let mut tx = pg.begin().await?;
    if !store::lock(&mut *tx, business).await? {
        return Ok(Outcome::NoBusiness);
    }
    let Some(old) = get(&mut *tx, business, carrier).await? else { return Ok(Outcome::NoAccount) };
    let open = open_attempts(&mut *tx, business, carrier).await?;
    if open > 0 {
        return Ok(Outcome::CallsOpen(open));
    }
    sqlx::query!("DELETE FROM carrier_account WHERE business_id = $1 AND carrier = $2", business.0, carrier as Carrier)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Outcome::Done(old))
}

async fn done(mut tx: PgTransaction<'_>, business: BusinessId, carrier: Carrier) -> sqlx::Result<Outcome> {
    let account = get(&mut *tx, business, carrier).await?;
    tx.commit().await?;
    Ok(account.map_or(Outcome::NoAccount, Outcome::Done))
}

/// What signs and did not change ends the time of what signed before it neither sooner nor later.
async fn write(
    db: &mut PgConnection,
    business: BusinessId,
    carrier: Carrier,
    terms: &Terms,
    secret: &NewSecret<'_>,
) -> sqlx::Result<()> {
    let other_secret = !secret.is_kept(&mut *db, business, carrier).await?;
    let (secret, sealing_key) = &secret.sealed;
    sqlx::query!(
        "INSERT INTO carrier_account (business_id, carrier, reference, caller_ids, calls_per_second, api_base_url, secret, sealing_key,
             public_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (business_id, carrier) DO UPDATE SET
             former_secret = CASE WHEN carrier_account.reference <> excluded.reference THEN NULL
                 WHEN $10 OR (carrier_account.former_until > clock_timestamp()) IS NOT TRUE THEN carrier_account.secret
                 ELSE carrier_account.former_secret END,
             former_sealing_key = CASE WHEN carrier_account.reference <> excluded.reference THEN NULL
                 WHEN $10 OR (carrier_account.former_until > clock_timestamp()) IS NOT TRUE THEN carrier_account.sealing_key
                 ELSE carrier_account.former_sealing_key END,
             former_public_key = CASE WHEN carrier_account.reference <> excluded.reference THEN NULL
                 WHEN carrier_account.public_key IS DISTINCT FROM excluded.public_key
                     OR (carrier_account.former_until > clock_timestamp()) IS NOT TRUE THEN carrier_account.public_key
                 ELSE carrier_account.former_public_key END,
             former_until = CASE WHEN carrier_account.reference <> excluded.reference THEN NULL
                 -- Where there is a public key, the secret signs nothing.
                 WHEN carrier_account.public_key IS DISTINCT FROM excluded.public_key OR (excluded.public_key IS NULL AND $10)
                     THEN clock_timestamp() + interval '1 day'
                 ELSE carrier_account.former_until END,
             public_key = excluded.public_key, reference = excluded.reference, caller_ids = excluded.caller_ids,
             calls_per_second = excluded.calls_per_second, api_base_url = excluded.api_base_url, secret = excluded.secret,
             sealing_key = excluded.sealing_key, secret_updated_at = clock_timestamp(), updated_at = clock_timestamp(),
             health = 'unchecked', health_detail = NULL, hold_until = NULL, live_look_at = clock_timestamp()",
        business.0,
        carrier as Carrier,
        terms.reference,
        &terms.caller_ids,
        terms.calls_per_second,
        terms.api_base_url.as_deref(),
        secret,
        sealing_key,
        terms.public_key.as_deref(),
        other_secret
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn write_without_secret(
    db: impl PgExecutor<'_>,
    business: BusinessId,
    carrier: Carrier,
    terms: &Terms,
) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH old AS (SELECT (reference, api_base_url) IS DISTINCT FROM ($3::text, $6::text) AS other,
                          reference = $3 AND public_key IS DISTINCT FROM $7 AS rekeyed
                      FROM carrier_account WHERE business_id = $1 AND carrier = $2)
         UPDATE carrier_account SET
             former_secret = CASE WHEN rekeyed THEN secret ELSE former_secret END,
             former_sealing_key = CASE WHEN rekeyed THEN sealing_key ELSE former_sealing_key END,
             former_public_key = CASE WHEN rekeyed THEN public_key ELSE former_public_key END,
             former_until = CASE WHEN rekeyed THEN clock_timestamp() + interval '1 day' ELSE former_until END,
             public_key = $7, reference = $3, caller_ids = $4, calls_per_second = $5, api_base_url = $6,
             updated_at = clock_timestamp(),
             health = CASE WHEN other THEN 'unchecked' ELSE health END,
             health_detail = CASE WHEN other THEN NULL ELSE health_detail END,
             hold_until = CASE WHEN other THEN NULL ELSE hold_until END
         FROM old WHERE business_id = $1 AND carrier = $2",
        business.0,
        carrier as Carrier,
        terms.reference,
        &terms.caller_ids,
        terms.calls_per_second,
        terms.api_base_url.as_deref(),
        terms.public_key.as_deref()
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn open_attempts(db: impl PgExecutor<'_>, business: BusinessId, carrier: Carrier) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "open!" FROM attempt WHERE business_id = $1 AND carrier = $2 AND open"#,
        business.0,
        carrier as Carrier
    )
    .fetch_one(db)
    .await
}
