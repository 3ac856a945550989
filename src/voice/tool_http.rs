//! Asks a business's own service over HTTPS, and never anything inside our own network.
//!
//! The name is resolved by us, each address is judged, and the connection is made to the addresses that were judged: a name that
//! leads elsewhere a moment later changes nothing. No redirect is followed, no proxy of the environment is asked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::{Value, json};

use crate::agents::rules::tool_url;

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
        let url = tool_url(url, self.private)?;
        // An address in place of a name is never resolved.
        let literal = match url.host() {
            Some(url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        if !self.private && literal.is_some_and(|ip| !is_public(ip)) {
            return Err("the address is not public".to_owned());
        }
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

/// True for addresses of the open internet (IANA special-purpose registries).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(inner) = ip.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let parts = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // NAT64 and 6to4 lead to the address that is inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0xdb8, ..] | [0x2001, 0..0x200, ..] => false,
        // Only 2000::/3 is global unicast.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_inside_our_own_network_is_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "::127.0.0.1",
            "fec0::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[tokio::test]
    async fn an_address_or_a_name_inside_is_not_asked() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ToolClient::new(false).unwrap();
        let limit = Duration::from_secs(5);
        for url in ["https://127.0.0.1:1/", "https://[::1]:1/", "http://1.1.1.1/", "https://169.254.169.254/latest/"] {
            let answer = client.ask(url, &json!({}), limit).await;
            assert!(answer["error"].is_string(), "{url}: {answer}");
        }
        assert_eq!(
            client.ask("https://localhost:1/", &json!({}), limit).await["error"],
            "the service could not be asked"
        );
    }
}
