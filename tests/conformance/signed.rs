//! Our verifiers judge what the carriers' official packages sign (tests/conformance/signed.py) as those packages do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use rollcall::carriers::{
    telnyx,
    twilio::{
        form::Form,
        signature::{self, Body, Keys},
    },
};
use secrecy::SecretString;
use serde_json::Value;
use url::form_urlencoded;

/// The list that the package of this carrier made, each item with its verdict; at least one of each.
fn signed() -> Vec<(Value, bool)> {
    #[expect(clippy::disallowed_methods, reason = "run.sh says where the list is")]
    let path = std::env::var("SIGNED").expect("SIGNED is unset: run this by `make conformance`");
    let list: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let list: Vec<_> = list.into_iter().map(|item| (item.clone(), item["valid"].as_bool().unwrap())).collect();
    assert!(list.iter().any(|item| item.1) && list.iter().any(|item| !item.1));
    list
}

fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name].as_str().unwrap()
}

#[test]
fn twilio() {
    for (item, valid) in signed() {
        let params = item["params"].as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap()));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let tokens = [SecretString::from(text(&item, "token"))];
        let keys = Keys { auth_tokens: &tokens, shared_keys: &[] };
        let form = Form::parse(body.as_bytes()).unwrap();
        let verdict = signature::verify(keys, text(&item, "signature"), None, text(&item, "url"), Body::Form(&form));
        assert_eq!(verdict.is_ok(), valid, "{item}");
    }
}

#[test]
fn telnyx() {
    for (item, valid) in signed() {
        let keys = [SecretString::from(text(&item, "key"))];
        let (body, now) = (text(&item, "body").as_bytes(), item["now"].as_u64().unwrap());
        let verdict = telnyx::signature::verify(&keys, text(&item, "signature"), text(&item, "timestamp"), body, now);
        assert_eq!(verdict.is_ok(), valid, "{item}");
    }
}
