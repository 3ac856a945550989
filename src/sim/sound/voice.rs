//! The voice that carries the words: two seconds of vowels in mu-law (G.711), made once and repeated.
//!
//! It is a pulse train through the formants of four vowels, a syllable every 240 ms, so that a detector of voices
//! takes it for one.
use std::{f32::consts::TAU, sync::LazyLock};

/// Samples per second of a telephone line.
const RATE: f32 = 8000.0;
/// Samples of one syllable: 240 ms.
const SYLLABLE: usize = 1920;
/// Frequencies of the formants of a, i, u and e, Hz (Peterson and Barney, 1952).
const VOWELS: [[f32; 3]; 4] =
    [[730.0, 1090.0, 2440.0], [270.0, 2290.0, 3010.0], [300.0, 870.0, 2240.0], [530.0, 1840.0, 2480.0]];
/// How loud each formant is, and how wide, Hz.
const FORMANTS: [(f32, f32); 3] = [(1.0, 90.0), (0.5, 110.0), (0.25, 170.0)];
/// Samples before the voice repeats itself: each vowel twice.
pub(super) const PERIOD: usize = SYLLABLE * 8;

/// The voice, one byte a sample, with the lowest bit of each byte set: nothing is said yet.
pub(super) static VOICE: LazyLock<[u8; PERIOD]> = LazyLock::new(sing);

fn sing() -> [u8; PERIOD] {
    let mut voice = [0; PERIOD];
    let mut phase = 0.0_f32;
    for (at, sample) in (0_u16..).zip(voice.iter_mut()) {
        let (syllable, within) = (usize::from(at) / SYLLABLE, usize::from(at) % SYLLABLE);
        #[expect(clippy::cast_precision_loss, reason = "below 1920")]
        let part = within as f32 / 1920.0;
        // The melody falls within each syllable, as in a statement.
        let pitch = 138.0 - 26.0 * part;
        phase = (phase + pitch / RATE) % 1.0;
        let loud = 0.3 + 0.7 * (TAU / 2.0 * part).sin();
        *sample = mu_law(7000.0 * loud * pulse(phase, pitch, VOWELS[syllable % VOWELS.len()])) | 1;
    }
    voice
}

/// One moment of the pulse train: every harmonic below 3,400 Hz, as loud as the formants let it be.
fn pulse(phase: f32, pitch: f32, vowel: [f32; 3]) -> f32 {
    let mut sum = 0.0;
    let mut harmonic = 1.0;
    while harmonic * pitch < 3400.0 {
        let frequency = harmonic * pitch;
        let gain: f32 = vowel
            .iter()
            .zip(FORMANTS)
            .map(|(centre, (gain, width))| gain / (1.0 + ((frequency - centre) / width).powi(2)))
            .sum();
        sum += gain * (TAU * harmonic * phase).sin();
        harmonic += 1.0;
    }
    sum
}

/// A 16-bit sample as mu-law (ITU-T G.711, 14-bit magnitude with a bias of 33).
fn mu_law(sample: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=8158")]
    let magnitude = (sample.abs() / 4.0).min(8158.0) as u16 + 33;
    let segment = 10 - magnitude.leading_zeros().min(10);
    let step = (magnitude >> (segment + 1)) & 0xF;
    #[expect(clippy::cast_possible_truncation, reason = "3 bits of segment and 4 of step")]
    let code = (segment as u8) << 4 | step as u8;
    !(code | if sample < 0.0 { 0x80 } else { 0 })
}
