//! The token of a callback URL: what its key did not make names nobody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::{
    attempts::token::Tokens,
    ids::{AttemptId, BusinessId},
};

fuzz_target!(|given: (&str, u8, u8)| {
    let (text, at, to) = given;
    let tokens = Tokens::new([[7; 32]]);
    assert_eq!(tokens.read(text), None, "a guessed token names an attempt");
    // One that is real, with one byte changed.
    let (business, attempt) = (BusinessId::new(), AttemptId::new());
    let mut real = tokens.make(business, attempt).into_bytes();
    let at = usize::from(at) % real.len();
    let same = real[at] == to;
    real[at] = to;
    let read = std::str::from_utf8(&real).ok().and_then(|text| tokens.read(text));
    assert_eq!(read.is_some(), same, "a changed token names an attempt");
});
