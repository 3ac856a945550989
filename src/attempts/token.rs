//! Callback tokens: which attempt of which business a carrier's request is about, provably made by us.
//!
//! A token is `version ‖ business ‖ attempt ‖ MAC` in base64url: 66 characters, no look-up table, unguessable (128 bits of
//! HMAC-SHA256). It stands in every callback URL, besides the carrier's own signature.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use uuid::Uuid;

use crate::ids::{AttemptId, BusinessId};

const VERSION: u8 = 1;
/// Of a token that names a business and no attempt: people ring it.
const INBOUND: u8 = 2;
const MAC_BYTES: usize = 16;

/// Makes tokens under one key and reads them under several, while a key is being replaced.
pub struct Tokens {
    keys: Vec<SecretBox<[u8; 32]>>,
}

impl Tokens {
    /// Tokens under these keys (derived from the sealing keys), the one in force first.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self { keys: keys.into_iter().map(|key| SecretBox::new(Box::new(key))).collect() }
    }

    /// The token of an attempt.
    #[must_use]
    pub fn make(&self, business: BusinessId, attempt: AttemptId) -> String {
        self.made(VERSION, business, attempt)
    }

    /// The token of a business at which people ring its numbers.
    #[must_use]
    pub fn inbound(&self, business: BusinessId) -> String {
        self.made(INBOUND, business, AttemptId(Uuid::nil()))
    }

    fn made(&self, version: u8, business: BusinessId, attempt: AttemptId) -> String {
        let mut token = Vec::with_capacity(33 + MAC_BYTES);
        token.push(version);
        token.extend_from_slice(business.0.as_bytes());
        token.extend_from_slice(attempt.0.as_bytes());
        if let Some(key) = self.keys.first() {
            token.extend_from_slice(&mac(key, &token)[..MAC_BYTES]);
        }
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whose attempt a token names; nothing where it is not one that this key made.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<(BusinessId, AttemptId)> {
        self.proven(VERSION, token)
    }

    /// Whose numbers are rung at this token.
    #[must_use]
    pub fn read_inbound(&self, token: &str) -> Option<BusinessId> {
        self.proven(INBOUND, token).map(|(business, _)| business)
    }

    fn proven(&self, version: u8, token: &str) -> Option<(BusinessId, AttemptId)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (named, mac) = bytes.split_at_checked(33)?;
        if named[0] != version || mac.len() != MAC_BYTES {
            return None;
        }
        let fits = |key| bool::from(subtle::ConstantTimeEq::ct_eq(&self::mac(key, named)[..MAC_BYTES], mac));
        if !self.keys.iter().any(fits) {
            return None;
        }
        let business = Uuid::from_slice(&named[1..17]).ok()?;
        let attempt = Uuid::from_slice(&named[17..33]).ok()?;
        Some((BusinessId(business), AttemptId(attempt)))
    }
}

fn mac(key: &SecretBox<[u8; 32]>, named: &[u8]) -> [u8; 32] {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key.expose_secret()) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes a key of any length"),
    };
    mac.update(named);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_names_its_attempt_and_no_changed_token_names_any() {
        let tokens = Tokens::new([[7; 32]]);
        let (business, attempt) = (BusinessId::new(), AttemptId::new());
        let token = tokens.make(business, attempt);
        assert_eq!(token.len(), 66);
        let inbound = tokens.inbound(business);
        assert_eq!((tokens.read_inbound(&inbound), tokens.read(&inbound)), (Some(business), None));
        assert_eq!(tokens.read_inbound(&token), None);
        assert_eq!(tokens.read(&token), Some((business, attempt)));
        assert_eq!(Tokens::new([[8; 32]]).read(&token), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.read(&changed), None, "byte {at}");
        }
    }

    #[test]
    fn while_a_key_is_replaced_tokens_of_both_are_read() {
        let (business, attempt) = (BusinessId::new(), AttemptId::new());
        let (old, new) = (Tokens::new([[7; 32]]), Tokens::new([[8; 32], [7; 32]]));
        assert_eq!(new.read(&old.make(business, attempt)), Some((business, attempt)));
        assert_eq!(new.read(&new.make(business, attempt)), Some((business, attempt)));
        assert_eq!(old.read(&new.make(business, attempt)), None, "a new one is of the new key");
        assert_eq!(Tokens::new([]).read(&old.make(business, attempt)), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in ".{0,200}") {
            prop_assert_eq!(Tokens::new([[7; 32]]).read(&text), None);
        }
    }
}
