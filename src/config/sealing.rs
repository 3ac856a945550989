//! The sealing keys as they are set.

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// The key in force, as a sentence names it.
pub const KEY: &str = "ROLLCALL_SEALING_KEY";
/// One of those besides.
pub const KEYS_ALSO: &str = "a key of ROLLCALL_SEALING_KEYS_ALSO";

/// False where a list of keys is set to nothing, as an empty variable does.
pub fn is_set(setting: &SecretString) -> bool {
    !setting.expose_secret().trim().is_empty()
}

/// The 32 bytes of a key that is set as base64.
///
/// # Errors
/// Where it is something else. The text names the setting and never shows it.
pub fn sealing_key(name: &str, setting: &SecretString) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let bytes = STANDARD.decode(setting.expose_secret().trim()).ok();
    let bytes = Zeroizing::new(bytes.with_context(|| format!("{name} is not base64"))?);
    let key = <[u8; 32]>::try_from(bytes.as_slice()).ok();
    let key =
        key.with_context(|| format!("{name} has {} bytes; it needs 32: `openssl rand -base64 32`", bytes.len()))?;
    Ok(Zeroizing::new(key))
}
