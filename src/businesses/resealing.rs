//! Sealing every credential anew under the key in force, while calls run.
//!
//! An account that somebody changes meanwhile is left as it is then: it was sealed under the key of whoever changed it.

use sqlx::PgPool;

use crate::{
    businesses::vault::Vault,
    ids::{BusinessId, Carrier},
};

/// What became of the envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Resealed {
    /// Accounts whose secrets were sealed anew.
    pub sealed_anew: u64,
    /// Accounts that were under the key in force.
    pub as_they_were: u64,
    /// Accounts that no key of this process opens.
    pub shut: u64,
}

/// Seals every account's secret, and the one before it, under the key in force. Safe to repeat, and to stop at any moment.
/// `told` hears before each account how many are done, and of how many.
///
/// # Errors
/// Where Postgres does not answer, or the operating system gives no random bytes.
pub async fn reseal(pg: &PgPool, vault: &Vault, told: impl Fn(usize, usize)) -> anyhow::Result<Resealed> {
    let rows = sqlx::query!(
        r#"SELECT business_id AS "business: BusinessId", carrier AS "carrier: Carrier", secret, sealing_key, former_secret,
                  former_sealing_key
           FROM carrier_account ORDER BY business_id, carrier"#
    )
    .fetch_all(pg)
    .await?;
    let mut done = Resealed::default();
    let all = rows.len();
    for (n, row) in rows.into_iter().enumerate() {
        told(n, all);
        let former = row.former_secret.as_deref().zip(row.former_sealing_key.as_deref());
        if row.sealing_key == vault.key_id() && former.is_none_or(|(_, key)| key == vault.key_id()) {
            done.as_they_were += 1;
            continue;
        }
        let anew = |secret: &[u8], key: &str| -> anyhow::Result<Option<Vec<u8>>> {
            match vault.open(row.business, row.carrier, secret, key) {
                Ok(secret) => Ok(Some(vault.seal(row.business, row.carrier, &secret)?.0)),
                Err(_) => Ok(None),
            }
        };
        let Some(secret) = anew(&row.secret, &row.sealing_key)? else {
            done.shut += 1;
            continue;
        };
        // One that cannot be opened any more signs nothing, and is forgotten.
        let former = former.map(|(secret, key)| anew(secret, key)).transpose()?.flatten();
        let changed = sqlx::query!(
            "UPDATE carrier_account SET secret = $3, sealing_key = $5, former_secret = $4,
                 former_sealing_key = CASE WHEN $4::bytea IS NOT NULL THEN $5 END
             WHERE business_id = $1 AND carrier = $2 AND secret = $6",
            row.business.0,
            row.carrier as Carrier,
            secret,
            former,
            vault.key_id(),
            row.secret
        )
        .execute(pg)
        .await?;
        done.sealed_anew += changed.rows_affected();
    }
    Ok(done)
}
