//! The sandbox signs as the official vectors say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use rollcall::sim::{sign, signed_url};
use serde_json::Value;

const VECTORS: &str = include_str!("../data/twilio_signature_vectors.json");

/// The URLs that a verifier tries: as given, and with and without the default port.
fn candidates(vector: &Value) -> Vec<String> {
    let given = vector["url"].as_str().unwrap();
    let url = url::Url::parse(given).unwrap();
    let (host, port) = (url.host_str().unwrap(), url.port_or_known_default().unwrap());
    let with_port = given.replacen(host, &format!("{host}:{port}"), 1);
    let mut urls = vec![given.to_owned(), signed_url(given), with_port];
    urls.extend(vector["signed_url"].as_str().map(str::to_owned));
    urls
}

/// Form pairs; a JSON body is covered by `bodySHA256` in the URL and adds none.
fn pairs(vector: &Value) -> Vec<(&str, &str)> {
    let Some(params) = vector["params"].as_object().filter(|_| vector["kind"] != "json") else { return Vec::new() };
    params
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Array(values) => values.iter().map(|value| (name.as_str(), value.as_str().unwrap())).collect(),
            value => vec![(name.as_str(), value.as_str().unwrap())],
        })
        .collect()
}

#[test]
fn the_signer_makes_every_official_hmac_sha1_signature_and_no_wrong_one() {
    let data: Value = serde_json::from_str(VECTORS).unwrap();
    let mut made = 0;
    for vector in data["vectors"].as_array().unwrap() {
        if vector["algorithm"].is_string() {
            continue;
        }
        let token = vector["auth_token"].as_str().unwrap();
        let signature = vector["signature"].as_str().unwrap();
        let found = candidates(vector).iter().any(|url| sign(token, url, &pairs(vector)) == signature);
        // A tampered body has a right signature over its URL: the hash in the URL gives it away.
        let wrong = vector["name"] == "wrong_signature";
        assert_eq!(found, !wrong, "{}", vector["name"]);
        made += usize::from(found);
    }
    assert_eq!(made, 18);
}

#[test]
fn the_url_is_signed_without_fragment_and_user_and_without_the_port_of_https_only() {
    for (given, signed) in [
        ("https://a.example:8443/x?y=1#rc=5&rp=all", "https://a.example/x?y=1"),
        ("http://a.example:8080/x", "http://a.example:8080/x"),
        ("http://127.0.0.1:8080/x#rc=5", "http://127.0.0.1:8080/x"),
        ("https://user:pass@a.example/x", "https://a.example/x"),
        ("http://user@a.example:81?y=@", "http://a.example:81?y=@"),
        ("wss://a.example:443/media", "wss://a.example/media"),
        ("https://[::1]/x", "https://[::1]/x"),
        ("https://[::1]:8443/x", "https://[::1]/x"),
    ] {
        assert_eq!(signed_url(given), signed);
    }
}
