//! Asks a business's own service over HTTPS, and never anything inside our own network.
//!
//! The name is resolved by us, each address is judged, and the connection is made to the addresses that were judged: a name that
//! leads elsewhere a moment later changes nothing. No redirect is followed, no proxy of the environment is asked.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::{Value, json};

use crate::agents::{addresses::is_public, rules::tool_url};

/// Largest answer that is read, bytes: a model has to read it.
const MOST_BYTES: usize = 32 * 1024;

/// Asks business's services. Cheap to clone.
#[derive(Clone)]
pub(super) struct ToolClient {
    http: reqwest::Client,
    private: bool,
}

struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|addr| is_public(addr.ip())).collect();
            if public.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

impl ToolClient {
    /// A client; `private` lets it ask anybody, for development.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(private: bool) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .https_only(!private)
            .connect_timeout(Duration::from_secs(3))
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")));
        let builder = if private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
        Ok(Self { http: builder.build()?, private })
    }

    /// What the service answers, as a model is told of it. It never fails: what went wrong is told, too.
    pub(super) async fn ask(&self, url: &str, arguments: &Value, limit: Duration) -> Value {
        match tokio::time::timeout(limit, self.asked(url, arguments)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => json!({"error": why}),
            Err(_) => json!({"error": "the service did not answer in time"}),
        }
    }

    async fn asked(&self, url: &str, arguments: &Value) -> Result<Value, String> {
        // An address in place of a name is never resolved: it is judged here.
        let url = tool_url(url, self.private)?;
        let failed = |error: reqwest::Error| {
            tracing::info!(
                error = format!("{:#}", anyhow::Error::from(error.without_url())),
                "a tool could not be asked"
            );
            "the service could not be asked".to_owned()
        };
        let mut response = self.http.post(url).json(arguments).send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > MOST_BYTES {
                return Err(format!("the service answered with more than {MOST_BYTES} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        if !status.is_success() {
            return Err(format!("the service answered with HTTP {}", status.as_u16()));
        }
        Ok(serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_or_a_name_inside_is_not_asked() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ToolClient::new(false).unwrap();
        let limit = Duration::from_secs(5);
        for url in ["https://127.0.0.1:1/", "https://[::1]:1/", "http://1.1.1.1/", "https://localhost:1/"] {
            let answer = client.ask(url, &json!({}), limit).await;
            assert!(answer["error"].is_string(), "{url}: {answer}");
        }
        assert!(PublicOnly.resolve("localhost".parse().unwrap()).await.is_err(), "wherever a name leads");
    }
}
