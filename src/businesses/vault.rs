//! Seals what must be kept but not read: carrier credentials and stored answers; derives the keys of tokens.
//!
//! Invariant: an envelope opens only in the place that it was sealed for (business and carrier, or scope) and only with
//! the key that it names.
//! Not here: where envelopes are kept (`businesses::accounts`, `api::idempotency`), and what a token says.

use anyhow::Context as _;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use rand::{TryRng, rngs::SysRng};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    config::sealing::{KEY, KEYS_ALSO, is_set, sealing_key},
    ids::{BusinessId, Carrier},
};

/// Bytes of the random nonce in front of every envelope. 192 bits are enough to draw one without keeping count.
const NONCE_LEN: usize = 24;

/// Why an envelope stays shut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed under another ROLLCALL_SEALING_KEY.
    #[error("sealed under the key {sealed}, but ROLLCALL_SEALING_KEY is {ours}")]
    OtherKey {
        /// The id that the envelope names.
        sealed: String,
        /// The id of the key in force.
        ours: String,
    },
    /// It was changed, or belongs to another business or carrier.
    #[error("the envelope does not belong here or was changed")]
    Damaged,
}

/// The sealing key in force, and those that still open, read once per process.
pub struct Vault {
    key: Key,
    also: Vec<Key>,
}

/// One sealing key.
struct Key {
    master: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
    id: String,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("key_id", &self.key.id).finish_non_exhaustive()
    }
}

impl Key {
    fn read(name: &str, setting: &SecretString) -> anyhow::Result<Self> {
        let master = sealing_key(name, setting)?;
        let id = hex::encode(&Sha256::digest(master.as_slice())[..4]);
        // The cipher has a key of its own, so that no token can ever be computed from what seals.
        let cipher = XChaCha20Poly1305::new((&*Zeroizing::new(derive_from(&master, "seal"))).into());
        Ok(Self { master, cipher, id })
    }

    /// Associated data: the place, then the key's id of fixed length, so that no two places read the same.
    fn bound(&self, place: &[u8]) -> Vec<u8> {
        [place, self.id.as_bytes()].concat()
    }

    fn open(&self, place: &[u8], envelope: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (nonce, sealed) = envelope.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Damaged)?;
        let bound = self.bound(place);
        self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &bound }).map_err(|_| OpenError::Damaged)
    }
}

impl Vault {
    /// Opens the vault with ROLLCALL_SEALING_KEY.
    ///
    /// # Errors
    /// Where the setting is not 32 bytes in base64. The text never shows the setting.
    pub fn from_setting(setting: &SecretString) -> anyhow::Result<Self> {
        Self::from_settings(setting, &[])
    }

    /// The same with ROLLCALL_SEALING_KEYS_ALSO: keys that open and verify, and seal nothing. While a key is being replaced one of
    /// the two is there.
    ///
    /// # Errors
    /// Where a setting is not 32 bytes in base64. The text never shows it.
    pub fn from_settings(setting: &SecretString, also: &[SecretString]) -> anyhow::Result<Self> {
        let also: anyhow::Result<_> =
            also.iter().filter(|key| is_set(key)).map(|key| Key::read(KEYS_ALSO, key)).collect();
        Ok(Self { key: Key::read(KEY, setting)?, also: also? })
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.key).chain(&self.also)
    }

    /// The id of the key in force: the first 8 hex digits of its SHA-256.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key.id
    }

    /// Seals a business's secret at a carrier: the envelope and the id of the key that opens it.
    ///
    /// # Errors
    /// Where the operating system gives no random bytes.
    pub fn seal(
        &self,
        business: BusinessId,
        carrier: Carrier,
        secret: &SecretString,
    ) -> anyhow::Result<(Vec<u8>, String)> {
        let envelope = self.seal_bytes(&place(business, carrier), secret.expose_secret().as_bytes())?;
        Ok((envelope, self.key.id.clone()))
    }

    /// Opens what [`Vault::seal`] made for the same business and carrier.
    ///
    /// # Errors
    /// Where another key sealed it, or it belongs to another business or carrier, or was changed.
    pub fn open(
        &self,
        business: BusinessId,
        carrier: Carrier,
        envelope: &[u8],
        key_id: &str,
    ) -> Result<SecretString, OpenError> {
        let Some(key) = self.keys().find(|key| key.id == key_id) else {
            return Err(OpenError::OtherKey { sealed: key_id.to_owned(), ours: self.key.id.clone() });
        };
        let bytes = Zeroizing::new(key.open(&place(business, carrier), envelope)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| OpenError::Damaged)?;
        Ok(SecretString::from(text))
    }

    /// Seals bytes for the place that `place` names; what opens them must name the same.
    ///
    /// # Errors
    /// Where the operating system gives no random bytes.
    pub fn seal_bytes(&self, place: &[u8], bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SysRng.try_fill_bytes(&mut nonce).context("no random bytes")?;
        let bound = self.key.bound(place);
        let sealed = self
            .key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: bytes, aad: &bound })
            .map_err(|_| anyhow::anyhow!("this is too large to seal"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Vault::seal_bytes`] made for the same place.
    ///
    /// # Errors
    /// Where another key sealed it, or it belongs elsewhere, or was changed: not told apart.
    pub fn open_bytes(&self, place: &[u8], envelope: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.keys().find_map(|key| key.open(place, envelope).ok()).ok_or(OpenError::Damaged)
    }

    /// Keys for one use, named by `label`: HMAC-SHA256 of the label, under the key in force and then under each that still counts.
    /// The same label gives the same keys in every process.
    #[must_use]
    pub fn derive(&self, label: &str) -> Vec<[u8; 32]> {
        self.keys().map(|key| derive_from(&key.master, label)).collect()
    }
}

/// The business's id has a fixed length, so business and carrier cannot run into each other.
fn place(business: BusinessId, carrier: Carrier) -> Vec<u8> {
    [business.0.as_bytes().as_slice(), carrier.as_str().as_bytes()].concat()
}

fn derive_from(master: &[u8; 32], label: &str) -> [u8; 32] {
    // The label of each use is put behind one name, so that other software with the same key derives other keys.
    // HMAC pads its key with zeros to the block of the hash: doing so here leaves no length that could fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(master);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(b"rollcall/1/");
    mac.update(label.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn vault(byte: u8) -> Vault {
        Vault::from_setting(&SecretString::from(STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn what_is_sealed_for_one_business_and_carrier_opens_only_there() {
        let (vault, business, secret) = (vault(1), BusinessId::new(), SecretString::from("a token"));
        let (envelope, key_id) = vault.seal(business, Carrier::Twilio, &secret).unwrap();
        assert_eq!(vault.open(business, Carrier::Twilio, &envelope, &key_id).unwrap().expose_secret(), "a token");
        for (other, carrier) in [(BusinessId::new(), Carrier::Twilio), (business, Carrier::Telnyx)] {
            assert_eq!(vault.open(other, carrier, &envelope, &key_id).unwrap_err(), OpenError::Damaged);
        }
    }

    #[test]
    fn a_changed_or_short_envelope_stays_shut() {
        let (vault, business) = (vault(1), BusinessId::new());
        let (envelope, key_id) = vault.seal(business, Carrier::Twilio, &SecretString::from("x")).unwrap();
        for at in 0..envelope.len() {
            let mut changed = envelope.clone();
            changed[at] ^= 1;
            assert!(vault.open(business, Carrier::Twilio, &changed, &key_id).is_err());
            assert!(vault.open(business, Carrier::Twilio, &envelope[..at], &key_id).is_err());
        }
    }

    #[test]
    fn another_key_is_named_and_does_not_open() {
        let (ours, business) = (vault(1), BusinessId::new());
        let (envelope, key_id) = vault(2).seal(business, Carrier::Twilio, &SecretString::from("x")).unwrap();
        assert!(matches!(
            ours.open(business, Carrier::Twilio, &envelope, &key_id),
            Err(OpenError::OtherKey { sealed, .. }) if sealed == key_id
        ));
        assert!(ours.open(business, Carrier::Twilio, &envelope, ours.key_id()).is_err());
    }

    #[test]
    fn while_a_key_is_replaced_both_open_and_the_one_in_force_seals() {
        let setting = |byte: u8| SecretString::from(STANDARD.encode([byte; 32]));
        let (before, after) = (
            Vault::from_settings(&setting(1), &[setting(2)]).unwrap(),
            Vault::from_settings(&setting(2), &[setting(1)]).unwrap(),
        );
        let (business, secret) = (BusinessId::new(), SecretString::from("x"));
        for (sealing, opening) in [(&before, &after), (&after, &before)] {
            let (envelope, key_id) = sealing.seal(business, Carrier::Telnyx, &secret).unwrap();
            assert_eq!(key_id, sealing.key_id());
            assert_eq!(opening.open(business, Carrier::Telnyx, &envelope, &key_id).unwrap().expose_secret(), "x");
            let envelope = sealing.seal_bytes(b"p", b"y").unwrap();
            assert_eq!(opening.open_bytes(b"p", &envelope).unwrap(), b"y");
            assert!(opening.open_bytes(b"q", &envelope).is_err());
        }
        assert_eq!(before.derive("a")[0], after.derive("a")[1]);
    }

    #[test]
    fn derived_keys_differ_by_label_and_by_master_key() {
        assert_eq!(vault(1).derive("a"), vault(1).derive("a"));
        assert_ne!(vault(1).derive("a"), vault(1).derive("b"));
        assert_ne!(vault(1).derive("a"), vault(2).derive("a"));
    }

    #[test]
    fn a_sealing_key_of_the_wrong_size_is_refused_without_being_shown() {
        for text in ["not base64!", "c2hvcnQ="] {
            let error = Vault::from_setting(&SecretString::from(text)).unwrap_err().to_string();
            assert!(error.contains("ROLLCALL_SEALING_KEY") && !error.contains(text), "{error}");
        }
    }
}
