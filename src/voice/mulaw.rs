//! G.711 mu-law (ITU-T G.711): to and from 16-bit samples, silence, and the tones of telephone keys (ITU-T Q.23).

use std::f64::consts::TAU;

/// Bytes per second: one per sample.
pub(super) const RATE: usize = 8_000;
/// Bytes of 20 ms, what carriers send at once.
pub(super) const FRAME: usize = 160;
/// Bytes per millisecond.
pub(super) const PER_MS: usize = RATE / 1_000;
/// A tone of a key and the pause after it, ms.
const TONE_MS: usize = 120;
const PAUSE_MS: usize = 80;

/// Every byte as a sample.
static SAMPLES: [i16; 256] = samples();

const fn samples() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let flipped = !(byte as u8);
        let magnitude = (((flipped & 0x0f) as i32) << 3) + 0x84;
        let shifted = (magnitude << ((flipped & 0x70) >> 4)) - 0x84;
        table[byte] = if flipped & 0x80 == 0 { shifted as i16 } else { -shifted as i16 };
        byte += 1;
    }
    table
}

/// A byte as a sample.
pub(super) fn decode(byte: u8) -> i16 {
    SAMPLES[usize::from(byte)]
}

/// The byte nearest to a sample.
pub(super) fn encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    // The position of the highest bit above bit 7 is the exponent.
    let exponent = (24 - magnitude.leading_zeros() as i32).clamp(0, 7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | u8::try_from(exponent << 4).unwrap_or(0) | u8::try_from(mantissa).unwrap_or(0))
}

/// The sound of these keys, `0-9*#`; any other character is a pause.
pub(super) fn tones(keys: &str) -> Vec<u8> {
    const LOW: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
    const HIGH: [f64; 3] = [1_209.0, 1_336.0, 1_477.0];
    let mut sound = Vec::new();
    for key in keys.chars() {
        let place = "123456789*0#".find(key);
        for at in 0..TONE_MS * PER_MS {
            let sample = place.map_or(0.0, |place| {
                let wave = |hertz: f64| (TAU * hertz * at as f64 / RATE as f64).sin();
                (wave(LOW[place / 3]) + wave(HIGH[place % 3])) * 7_000.0
            });
            sound.push(encode(sample as i16));
        }
        sound.extend(std::iter::repeat_n(encode(0), PAUSE_MS * PER_MS));
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_and_silence_is_ff() {
        for byte in 0..=255_u8 {
            let again = encode(decode(byte));
            assert!(again == byte || decode(again) == decode(byte), "{byte:#x} became {again:#x}");
        }
        assert_eq!((encode(0), decode(0xff), decode(0x80), decode(0x00)), (0xff, 0, 32_124, -32_124));
    }

    #[test]
    fn a_sample_moves_by_no_more_than_its_step() {
        for sample in (-32_768..=32_767).step_by(7) {
            let sample = i16::try_from(sample).unwrap();
            let error = (i32::from(decode(encode(sample))) - i32::from(sample)).abs();
            assert!(error <= 16 + i32::from(sample).abs() / 16, "{sample}: {error}");
        }
    }

    #[test]
    fn a_key_is_a_tone_and_a_pause() {
        let sound = tones("5#");
        assert_eq!(sound.len(), 2 * 200 * PER_MS);
        let loud = |part: &[u8]| part.iter().map(|byte| i32::from(decode(*byte)).abs()).max().unwrap();
        assert!(loud(&sound[..900]) > 10_000 && loud(&sound[960..1_600]) == 0);
    }
}
