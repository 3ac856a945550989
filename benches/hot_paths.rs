//! What is done for each callback, answered call and row of a list, without any store: `cargo bench --bench hot_paths`.
//!
//! The crate says by how much each has changed since it was last run on this machine.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use rollcall::{
    attempts::state::AttemptState,
    carriers::twilio::{
        callback::call_event,
        form::Form,
        signature::{Body, Keys, verify},
        twiml::say_and_hang_up,
    },
    dialing::translate,
    leads::{CsvLeads, NumberRules, Template},
};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use sha1::Sha1;

const URL: &str = "https://calls.example.com/webhooks/twilio/status/AZ3f0c9f3f7Qm0aWl6ZSBvZiBhIHRva2Vu";
const AUTH_TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// A status callback as Twilio sends one.
const FORM: &[(&str, &str)] = &[
    ("AccountSid", "AC0123456789abcdef0123456789abcdef"),
    ("ApiVersion", "2010-04-01"),
    ("CallDuration", "37"),
    ("CallSid", "CA0123456789abcdef0123456789abcdef"),
    ("CallStatus", "completed"),
    ("CallbackSource", "call-progress-events"),
    ("Called", "+12025550143"),
    ("CalledCountry", "US"),
    ("Caller", "+12025550100"),
    ("Direction", "outbound-api"),
    ("From", "+12025550100"),
    ("SequenceNumber", "3"),
    ("SipResponseCode", "200"),
    ("Timestamp", "Fri, 20 Nov 2026 17:30:13 +0000"),
    ("To", "+12025550143"),
];
/// Rows of the list.
const ROWS: usize = 1_000;

fn form(body: &[u8]) -> Form {
    Form::parse(body).expect("a form")
}

/// The signature of a callback, compared with the one that it came with.
fn signature(criterion: &mut Criterion) {
    let body = serde_html_form::to_string(FORM).expect("a form");
    let mut signed = URL.to_owned();
    FORM.iter().for_each(|(name, value)| signed.extend([*name, *value]));
    let mut mac = Hmac::<Sha1>::new_from_slice(AUTH_TOKEN.as_bytes()).expect("any length will do");
    mac.update(signed.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let tokens = [SecretString::from(AUTH_TOKEN)];
    let keys = Keys { auth_tokens: &tokens, shared_keys: &[] };
    let check = |signature: &str| verify(keys, signature, None, URL, Body::Form(&form(body.as_bytes())));
    assert!(check(&signature).is_ok() && check("AAAA").is_err(), "what is measured tells right from wrong");
    criterion.bench_function("signature of a callback", |bench| bench.iter(|| check(black_box(&signature))));
}

/// From the body of a callback to whether it moves an attempt.
fn state_step(criterion: &mut Criterion) {
    let body = serde_html_form::to_string(FORM).expect("a form");
    let moves = |body: &[u8], now: AttemptState| {
        let event = call_event(&form(body)).expect("an event");
        let (state, disposition) = translate::state(event.state);
        (state.rank() > now.rank() && now.is_open()).then_some((state, disposition))
    };
    assert!(moves(body.as_bytes(), AttemptState::Ringing).is_some(), "an end moves what rings");
    criterion.bench_function("state step of a callback", |bench| {
        bench.iter(|| moves(black_box(body.as_bytes()), black_box(AttemptState::Ringing)))
    });
}

/// One row of a list, of a thousand: divide by that.
fn csv_rows(criterion: &mut Criterion) {
    let mut file = String::from("phone,first_name,external_id,priority\n");
    (0..ROWS).for_each(|n| file.push_str(&format!("(202) 555-01{:02},Ada,crm-{n},0\n", n % 100)));
    let rules = || NumberRules::new("US".parse().expect("a country"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let read = async || {
        let mut list = CsvLeads::open(file.as_bytes(), rules()).await.expect("a list");
        list.next_batch(ROWS).await.expect("rows").expect("a batch")
    };
    assert_eq!(runtime.block_on(read()).leads.len(), ROWS, "each row is a lead");
    let mut group = criterion.benchmark_group("csv");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("1,000 rows", |bench| bench.to_async(&runtime).iter(&read));
    group.finish();
}

/// What an answered call hears: the message with the callee's variables, as TwiML.
fn speech(criterion: &mut Criterion) {
    let text = "Hello {{first_name}}, this is a reminder of your appointment on {{day}} at {{time}}. Press nothing, just come.";
    let Value::Object(variables) = json!({"first_name": "Zoë & Ada", "day": "Friday", "time": "10:30"}) else {
        unreachable!("an object was written")
    };
    let speak = |variables: &Map<String, Value>| {
        let template = Template::parse(text).expect("a template");
        say_and_hang_up(&template.render(variables).expect("all variables are there"), "en-US", None)
    };
    assert!(speak(&variables).contains("Zoë &amp; Ada"), "the text is in it, and escaped");
    criterion.bench_function("message as TwiML", |bench| bench.iter(|| speak(black_box(&variables))));
}

criterion_group!(hot_paths, signature, state_step, csv_rows, speech);
criterion_main!(hot_paths);
