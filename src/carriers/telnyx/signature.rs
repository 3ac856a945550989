//! `Telnyx-Signature-Ed25519`: whether a request was written by Telnyx, and lately.
//!
//! Source: Telnyx, "Receiving webhooks", and the verifier of its SDKs. Signed is `timestamp|body`, the raw bytes. The URL is not
//! signed, so that our own token in it must fit, too; a captured request stays valid for five minutes.
//!
//! Invariant: a request that no given key signed, or that is older than it may be, is never believed, and none makes this panic.
//! Not here: whose keys to try, what time it is, and what the request says.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::{ExposeSecret as _, SecretString};

/// Name of the header that holds the signature.
pub const SIGNATURE_HEADER: &str = "telnyx-signature-ed25519";
/// Name of the header that holds when it was made, Unix seconds.
pub const TIMESTAMP_HEADER: &str = "telnyx-timestamp";
/// How far the time of a signature may be from ours, in both directions, seconds: that of Telnyx's SDKs.
const TOLERANCE_SECS: u64 = 300;
/// Bytes of a public key.
const KEY_BYTES: usize = 32;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// Why a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The timestamp is no number of seconds.
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    /// It was signed too long ago, or in the future.
    #[error("the timestamp is more than {TOLERANCE_SECS} s away")]
    Stale,
    /// No key made this signature for this request.
    #[error("the signature does not fit")]
    Mismatch,
}

/// The bytes of a public key as Telnyx's portal shows it: base64 of 32 bytes. `None` where it is not one.
#[must_use]
pub fn public_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    BASE64_STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

/// Whether one of `keys` (as [`public_key`] reads them) signed `body` at `timestamp`, not long before or after `now_secs`.
///
/// # Errors
/// When none did. Nothing of the request may then be believed.
pub fn verify(
    keys: &[SecretString],
    signature: &str,
    timestamp: &str,
    body: &[u8],
    now_secs: u64,
) -> Result<(), SignatureError> {
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    let signed_at: u64 = timestamp.parse().ok().filter(|_| digits).ok_or(SignatureError::Timestamp)?;
    if signed_at.abs_diff(now_secs) > TOLERANCE_SECS {
        return Err(SignatureError::Stale);
    }
    let given = BASE64_STANDARD.decode(signature).map_err(|_| SignatureError::Mismatch)?;
    if given.len() != SIGNATURE_BYTES {
        return Err(SignatureError::Mismatch);
    }
    let signed = [timestamp.as_bytes(), b"|", body].concat();
    let fits = keys
        .iter()
        .filter_map(|key| public_key(key.expose_secret()))
        .any(|key| UnparsedPublicKey::new(&ED25519, key).verify(&signed, &given).is_ok());
    fits.then_some(()).ok_or(SignatureError::Mismatch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::Value;

    const VECTORS: &str = include_str!("../../../tests/data/telnyx_signature_vectors.json");

    fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
        vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"))
    }

    fn keys(texts: &[&str]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(*text)).collect()
    }

    #[test]
    fn every_published_vector_gets_its_verdict() {
        let file: Value = serde_json::from_str(VECTORS).expect("vectors");
        let vectors = file["vectors"].as_array().expect("a list");
        assert_eq!(vectors.len(), 13);
        for vector in vectors {
            let headers = &vector["headers"];
            // A missing header reads as an empty one, which no signature fits.
            let header = |name: &str| headers[name].as_str().unwrap_or_default();
            let verdict = verify(
                &keys(&[text(vector, "public_key")]),
                header("Telnyx-Signature-Ed25519"),
                header("Telnyx-Timestamp"),
                text(vector, "raw_body").as_bytes(),
                vector["now_unix"].as_u64().expect("a time"),
            );
            assert_eq!(verdict.is_ok(), vector["expect_valid"].as_bool().expect("a verdict"), "{}", vector["name"]);
        }
    }

    fn pair(seed: u8) -> (Ed25519KeyPair, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
        let public = BASE64_STANDARD.encode(pair.public_key().as_ref());
        (pair, public)
    }

    #[test]
    fn while_a_key_is_replaced_the_old_and_the_new_one_count_and_no_other() {
        let ((old, old_key), (new, new_key), (stranger, _)) = (pair(1), pair(2), pair(3));
        let both = keys(&[&new_key, &old_key]);
        let signed = |pair: &Ed25519KeyPair| BASE64_STANDARD.encode(pair.sign(b"100|{}").as_ref());
        assert_eq!(verify(&both, &signed(&old), "100", b"{}", 100), Ok(()));
        assert_eq!(verify(&both, &signed(&new), "100", b"{}", 100), Ok(()));
        assert_eq!(verify(&both, &signed(&stranger), "100", b"{}", 100), Err(SignatureError::Mismatch));
        assert_eq!(verify(&[], &signed(&new), "100", b"{}", 100), Err(SignatureError::Mismatch));
        // The same number, spelled in another way, is another text.
        for spelling in ["+100", " 100", "0100", "100 ", "1e2", ""] {
            assert!(verify(&both, &signed(&new), spelling, b"{}", 100).is_err(), "{spelling:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_what_was_signed_verifies(
            body in ".{0,80}", other in ".{0,80}", signature in "[A-Za-z0-9+/=]{0,100}", stamp in "[0-9]{0,22}"
        ) {
            let (pair, key) = pair(7);
            let signed = BASE64_STANDARD.encode(pair.sign(format!("100|{body}").as_bytes()).as_ref());
            let keys = keys(&[&key]);
            prop_assert_eq!(verify(&keys, &signed, "100", body.as_bytes(), 100), Ok(()));
            prop_assert_eq!(verify(&keys, &signed, "100", other.as_bytes(), 100).is_ok(), other == body);
            prop_assert!(verify(&keys, &signature, &stamp, body.as_bytes(), 100).is_err());
        }
    }
}
