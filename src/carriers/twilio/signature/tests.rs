//! The published vectors, and what no vector can show: that nothing else verifies.

use proptest::prelude::*;
use serde_json::Value;
use url::form_urlencoded;

use super::*;

const VECTORS: &str = include_str!("../../../../tests/data/twilio_signature_vectors.json");
const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

fn secrets(texts: &[&str]) -> Vec<SecretString> {
    texts.iter().map(|text| SecretString::from(*text)).collect()
}

fn sign(token: &str, url: &str, form: &[(String, String)]) -> String {
    let raw = encode(form);
    let fields = signed_fields(&decoded(&raw));
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(token.as_bytes()).expect("a key");
    mac.update(url.as_bytes());
    mac.update(fields.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

fn encode(form: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

fn decoded(raw: &str) -> Form {
    Form::parse(raw.as_bytes()).expect("a form")
}

fn with_token(token: &str, signature: &str, url: &str, body: Body<'_>) -> Result<(), SignatureError> {
    let auth_tokens = secrets(&[token]);
    verify(Keys { auth_tokens: &auth_tokens, shared_keys: &[] }, signature, None, url, body)
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"))
}

/// The form of a vector; a list is a repeated key.
fn form_of(vector: &Value) -> Vec<(String, String)> {
    let params = vector["params"].as_object().into_iter().flatten();
    params
        .flat_map(|(key, value)| {
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            values.into_iter().map(move |value| (key.clone(), value.as_str().expect("text").to_owned()))
        })
        .collect()
}

#[test]
fn every_published_vector_gets_its_verdict() {
    let file: Value = serde_json::from_str(VECTORS).expect("vectors");
    let vectors = file["vectors"].as_array().expect("a list");
    assert_eq!(vectors.len(), 20);
    for vector in vectors {
        let settings = vector["headers"]["X-Twilio-Webhooks-Signature-Settings"].as_str();
        let token = secrets(&[text(vector, "auth_token")]);
        let keys = match settings {
            Some(_) => Keys { auth_tokens: &[], shared_keys: &token },
            None => Keys { auth_tokens: &token, shared_keys: &[] },
        };
        let form = decoded(&encode(&form_of(vector)));
        let body = match text(vector, "kind") {
            "form" => Body::Form(&form),
            "json" => Body::Json(text(vector, "raw_body").as_bytes()),
            "websocket" => Body::None,
            other => panic!("{other}"),
        };
        let verdict = verify(keys, text(vector, "signature"), settings, text(vector, "url"), body);
        // The one vector with a condition is met: an apostrophe is also tried as %27.
        let expected = vector["expect_valid"].as_bool().unwrap_or(true);
        assert_eq!(verdict.is_ok(), expected, "{}: {verdict:?}", text(vector, "name"));
    }
}

#[test]
fn either_token_verifies_while_one_replaces_the_other() {
    let form = vec![("A".to_owned(), "1".to_owned())];
    let (raw, tokens) = (encode(&form), secrets(&["old", "new"]));
    let keys = Keys { auth_tokens: &tokens, shared_keys: &[] };
    for (token, good) in [("old", true), ("new", true), ("other", false)] {
        let verdict = verify(keys, &sign(token, URL, &form), None, URL, Body::Form(&decoded(&raw)));
        assert_eq!(verdict.is_ok(), good, "{token}");
    }
}

#[test]
fn an_empty_key_verifies_nothing() {
    let signature = sign("", URL, &[]);
    assert_eq!(with_token("", &signature, URL, Body::None), Err(SignatureError::Mismatch));
    let nobody = verify(Keys::default(), &signature, None, URL, Body::None);
    assert_eq!(nobody, Err(SignatureError::Mismatch));
}

#[test]
fn the_sender_cannot_choose_an_algorithm_for_another_key() {
    let token = secrets(&["12345"]);
    let keys = Keys { auth_tokens: &token, shared_keys: &[] };
    let signature = sign("12345", URL, &[]);
    let check = |settings| verify(keys, &signature, settings, URL, Body::None);
    assert_eq!(check(None), Ok(()));
    assert_eq!(check(Some("key=x")), Ok(()));
    assert_eq!(check(Some("key=x, algorithm=HMAC_SHA1")), Ok(()));
    assert_eq!(check(Some("algorithm=HMAC_SHA256")), Err(SignatureError::Mismatch));
    for settings in ["algorithm=NONE", "algorithm=", "algorithm=HMAC_SHA1,algorithm=HMAC_SHA1"] {
        assert_eq!(check(Some(settings)), Err(SignatureError::Algorithm), "{settings}");
    }
}

#[test]
fn the_fragment_and_the_user_are_not_part_of_what_is_signed() {
    let signature = sign("t", "https://h.example/p?q=1", &[]);
    for url in ["https://h.example/p?q=1#rc=5&rp=all", "https://h.example:8443/p?q=1", "https://u:p@h.example/p?q=1"] {
        assert_eq!(with_token("t", &signature, url, Body::None), Ok(()), "{url}");
    }
    for url in ["https://h.example/p", "https://h.example/p?q=1&", "http://h.example/p?q=1", "h.example/p?q=1"] {
        assert!(with_token("t", &signature, url, Body::None).is_err(), "{url}");
    }
}

#[test]
fn json_needs_its_hash_in_the_url_exactly_once() {
    let hash = hex::encode(Sha256::digest(b"{}"));
    let check = |url: &str| with_token("t", &sign("t", url, &[]), url, Body::Json(b"{}"));
    assert_eq!(check(&format!("https://h/p?bodySHA256={hash}")), Ok(()));
    for url in [
        "https://h/p".to_owned(),
        "https://h/p?bodySHA256=".to_owned(),
        format!("https://h/p?bodySHA256={}", &hash[2..]),
        format!("https://h/p?bodySHA256={hash}&bodySHA256={hash}"),
        format!("https://h/p?a=bodySHA256={hash}"),
    ] {
        assert_eq!(check(&url), Err(SignatureError::BodyHash), "{url}");
    }
}

fn forms() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[A-Z][a-zA-Z]{0,8}", "\\PC{0,12}"), 1..8)
        .prop_map(|pairs| pairs.into_iter().filter(|(key, _)| key != "CallSid" && key != "AccountSid").collect())
}

proptest! {
    #[test]
    fn nothing_that_can_be_sent_makes_it_panic(
        signature in "\\PC*", settings in proptest::option::of("\\PC*"), url in "\\PC*",
        raw in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3
    ) {
        let form = Form::parse(&raw).ok();
        let body = match (kind, &form) { (0, Some(form)) => Body::Form(form), (1, _) => Body::Json(&raw), _ => Body::None };
        let tokens = secrets(&["12345"]);
        let keys = Keys { auth_tokens: &tokens, shared_keys: &tokens };
        for url in [url.as_str(), &format!("https://{url}")] {
            prop_assert!(verify(keys, &signature, settings.as_deref(), url, body).is_err());
        }
    }

    #[test]
    fn what_was_signed_verifies_in_any_order(form in forms()) {
        let signature = sign("t", URL, &form);
        let turned: Vec<_> = form.iter().rev().cloned().collect();
        prop_assert_eq!(with_token("t", &signature, URL, Body::Form(&decoded(&encode(&turned)))), Ok(()));
    }

    #[test]
    fn nothing_verifies_with_one_thing_changed(form in forms(), at in any::<prop::sample::Index>(), other in "\\PC") {
        prop_assume!(!form.is_empty());
        let raw = encode(&form);
        let signature = sign("t", URL, &form);
        prop_assert_eq!(with_token("t", &signature, URL, Body::Form(&decoded(&raw))), Ok(()));

        // A longer value makes a longer text, unless the pair came twice and the new one is there already.
        let mut changed = form.clone();
        let at = at.index(form.len());
        changed[at].1.push_str(&other);
        prop_assume!(!form.contains(&changed[at]));
        prop_assume!(form.iter().filter(|pair| **pair == form[at]).count() == 1);
        prop_assert!(with_token("t", &signature, URL, Body::Form(&decoded(&encode(&changed)))).is_err());

        let mut letters: Vec<char> = signature.chars().collect();
        let letter = at % 27;
        letters[letter] = if letters[letter] == 'A' { 'B' } else { 'A' };
        let forged: String = letters.into_iter().collect();
        prop_assert!(with_token("t", &forged, URL, Body::Form(&decoded(&raw))).is_err());

        let elsewhere = format!("{URL}{}", other.replace('#', "x"));
        prop_assert!(with_token("t", &signature, &elsewhere, Body::Form(&decoded(&raw))).is_err());
        prop_assert!(with_token("u", &signature, URL, Body::Form(&decoded(&raw))).is_err());
    }
}
