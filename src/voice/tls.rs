//! TLS towards providers: one configuration for every WebSocket of this process.
//!
//! Left to itself the library makes one per connection: 150 root certificates in memory for each of them, compiled-in ones, and no
//! session of an earlier connection to resume.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_tungstenite::Connector;

/// What makes the handshakes, with the root certificates of the machine, as the HTTP clients have them (`SSL_CERT_FILE` names
/// others).
///
/// # Errors
/// On a machine without root certificates.
pub(super) fn connector() -> anyhow::Result<Connector> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()
        .context("TLS towards voice providers cannot be set up")?
        .with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}
