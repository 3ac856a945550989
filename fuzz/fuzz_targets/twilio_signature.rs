//! Signature header, its settings, URL and body, by whoever likes: nobody without the key is let in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::carriers::twilio::{
    form::Form,
    signature::{Body, Keys, verify},
};
use secrecy::SecretString;

fuzz_target!(|given: (&str, Option<&str>, &str, &[u8])| {
    let (signed, settings, url, body) = given;
    let tokens = [SecretString::from("the token that nobody else has")];
    let keys = Keys { auth_tokens: &tokens, shared_keys: &[] };
    let Ok(form) = Form::parse(body) else { return };
    assert!(verify(keys, signed, settings, url, Body::Form(&form)).is_err(), "a forged signature was taken");
});
