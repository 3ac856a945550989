//! `Telnyx-Signature-Ed25519`: what is signed, and with what (Telnyx, Receiving webhooks).
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Base64 of the Ed25519 signature over `timestamp|body`, under the key of a seed.
#[must_use]
pub fn sign(seed: &[u8; 32], timestamp: &str, body: &[u8]) -> String {
    let signed = [timestamp.as_bytes(), b"|", body].concat();
    pair(seed).map(|pair| STANDARD.encode(pair.sign(&signed).as_ref())).unwrap_or_default()
}

/// Base64 of the public key of a seed.
pub(crate) fn public_key(seed: &[u8; 32]) -> String {
    pair(seed).map(|pair| STANDARD.encode(pair.public_key().as_ref())).unwrap_or_default()
}

/// Every seed of 32 bytes makes a key.
fn pair(seed: &[u8; 32]) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}
