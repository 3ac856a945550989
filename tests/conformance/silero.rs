//! Silero's own model, one for the process, tells the voices of many calls apart (run.sh says where it is).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::path::PathBuf;

use rollcall::{
    config::SileroSettings,
    models::silero::{Ear, Silero},
    sim::{Speed, Utterance},
};

/// Samples of a piece.
const PIECE: usize = 256;
/// Calls at once: more than are heard together.
const CALLS: usize = 65;
const PIECES: usize = 60;

/// Library and model.
fn files() -> (PathBuf, PathBuf) {
    let of = |name| PathBuf::from(std::env::var_os(name).expect("run this by `make conformance`"));
    (of("ORT_DYLIB_PATH"), of("SILERO_MODEL"))
}

fn load(sha256: Option<&str>) -> anyhow::Result<Silero> {
    let (library, model) = files();
    Silero::load(&SileroSettings { library: &library, model: &model, sha256 })
}

/// A byte of mu-law as a 16-bit sample (ITU-T G.711).
fn sample(byte: u8) -> i16 {
    let code = !byte;
    let magnitude = (((i16::from(code & 0x0F) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Samples of a voice, or of noise as loud.
fn sound(voice: bool) -> Vec<i16> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i16::try_from(state >> 20).unwrap() - 2_048
    };
    let spoken = Utterance::new(1, &"a ".repeat(40), Speed::HUMAN).sound();
    spoken.into_iter().take(PIECES * PIECE).map(|byte| if voice { sample(byte) } else { noise() }).collect()
}

/// Has every call hear its next piece, and waits until all of them were heard.
fn hear(silero: &Silero, calls: &mut [(Ear, Vec<f32>)], piece: usize, sounds: [&[i16]; 2]) {
    let before = silero.status().answers;
    for (call, (ear, words)) in calls.iter_mut().enumerate() {
        let samples = &sounds[call % 2][piece * PIECE..][..PIECE];
        words.extend(samples.iter().filter_map(|sample| ear.hear(*sample, true)).map(|word| word.voice));
    }
    while silero.status().answers < before + u64::try_from(calls.len()).unwrap() {
        std::thread::yield_now();
    }
}

#[test]
fn the_model_of_the_process_hears_many_calls_together_and_each_as_if_it_were_alone() {
    let silero = load(None).unwrap();
    let (voice, noise) = (sound(true), sound(false));
    let mut calls: Vec<_> = (0..CALLS).map(|_| (silero.ear(), Vec::new())).collect();
    for piece in 0..PIECES {
        hear(&silero, &mut calls, piece, [&voice, &noise]);
    }
    for (call, (_, words)) in calls.iter().enumerate() {
        assert_eq!(words.len(), PIECES - 1, "the word on a piece comes within the next");
        let heard = words.iter().filter(|voice| **voice >= 0.5).count();
        assert!(if call % 2 == 0 { heard > PIECES * 3 / 4 } else { heard == 0 }, "call {call}: {words:?}");
        let twin = &calls[call % 2].1;
        let differ = words.iter().zip(twin).any(|(one, other)| (one - other).abs() > 0.001);
        assert!(!differ, "call {call} heard something of another");
    }
    let status = silero.status();
    assert_eq!((status.in_flight, status.refused, status.late, status.failed), (0, 0, 0, 0));
    assert!(status.p50_ms.unwrap() > 0.0 && status.p99_ms >= status.p50_ms);
    assert_eq!(status.bytes, files().1.metadata().unwrap().len());
}

#[test]
fn a_piece_that_the_gate_was_shut_for_is_no_voice_and_is_not_heard_at_all() {
    let silero = load(None).unwrap();
    let mut ear = silero.ear();
    let words: Vec<_> = sound(true).into_iter().filter_map(|sample| ear.hear(sample, false)).collect();
    assert_eq!(words.len(), PIECES - 1);
    assert!(words.iter().all(|word| word.voice == 0.0));
    assert_eq!(silero.status().answers, 0);
}

#[test]
fn another_file_than_asked_for_is_refused_by_name() {
    let (library, _) = files();
    let known = load(None).unwrap().status().sha256;
    assert!(load(Some(&known.to_uppercase())).is_ok());
    let error = load(Some(&"0".repeat(64))).err().unwrap().to_string();
    assert!(error.contains("SILERO_MODEL has the SHA-256") && error.contains(&known), "{error}");
    let error =
        |library, model| format!("{:#}", Silero::load(&SileroSettings { library, model, sha256: None }).err().unwrap());
    assert!(error(&library, &library).contains("SILERO_MODEL"));
    assert!(error(&library, &PathBuf::from("/no/model.onnx")).contains("SILERO_MODEL /no/model.onnx"));
}
