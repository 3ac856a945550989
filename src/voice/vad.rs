//! Whether the caller is speaking: an energy gate, and earshot's detector where it lets something through.
//!
//! The detector hears 16 kHz; each sample of the telephone's 8 kHz is followed by the mean of itself and the next. A better
//! filter made it worse in noise.

use std::time::Duration;

use earshot::Detector;

use crate::voice::mulaw;

/// Samples that the detector takes at once: 16 ms at 16 kHz.
const SAMPLES: usize = 256;
const SAMPLES_MS: u32 = 16;
/// Mean of the magnitudes below which a frame is silence: about -54 dB of full scale.
const GATE: i32 = 64;
/// Speech with shorter holes than this is one piece.
const HOLE_MS: u32 = 200;

/// The ear of one call.
pub(super) struct Vad {
    detector: Box<Detector>,
    threshold: f32,
    samples: Vec<i16>,
    last: i16,
    speech_ms: u32,
    silence_ms: u32,
}

impl Vad {
    pub(super) fn new(threshold: f32) -> Self {
        Self {
            detector: Detector::default_boxed(),
            threshold,
            samples: Vec::with_capacity(SAMPLES * 2),
            last: 0,
            speech_ms: 0,
            silence_ms: HOLE_MS,
        }
    }

    /// Hears sound; for how long the caller has now been speaking, ms; 0 where they are not.
    pub(super) fn hear(&mut self, sound: &[u8]) -> u32 {
        for byte in sound {
            let sample = mulaw::decode(*byte);
            let between = (i32::from(self.last) + i32::from(sample)) / 2;
            self.samples.push(i16::try_from(between).unwrap_or(0));
            self.samples.push(sample);
            self.last = sample;
            if self.samples.len() >= SAMPLES {
                let voice = self.is_voice();
                self.samples.clear();
                self.count(voice);
            }
        }
        self.speaking()
    }

    /// For how long the caller has been speaking, ms; 0 where they are not.
    pub(super) fn speaking(&self) -> u32 {
        if self.silence_ms < HOLE_MS { self.speech_ms } else { 0 }
    }

    /// Since when no voice was heard.
    pub(super) fn silent(&self) -> Duration {
        Duration::from_millis(self.silence_ms.into())
    }

    fn is_voice(&mut self) -> bool {
        let all: i32 = self.samples.iter().map(|sample| i32::from(*sample).abs()).sum();
        let count = i32::try_from(self.samples.len()).unwrap_or(1);
        all / count >= GATE && self.detector.predict_i16(&self.samples[..SAMPLES]) >= self.threshold
    }

    fn count(&mut self, voice: bool) {
        if voice {
            if self.silence_ms >= HOLE_MS {
                self.speech_ms = 0;
            }
            self.speech_ms += SAMPLES_MS;
            self.silence_ms = 0;
        } else {
            self.silence_ms = self.silence_ms.saturating_add(SAMPLES_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_a_hum_are_no_speech() {
        let mut vad = Vad::new(0.6);
        assert_eq!(vad.hear(&[0xff; 16_000]), 0);
        let hum: Vec<u8> = (0..16_000_i32).map(|at| mulaw::encode(i16::try_from(at % 160).unwrap() * 4)).collect();
        assert!(vad.hear(&hum) < 200);
    }

    #[test]
    fn speech_with_short_holes_is_one_piece_and_ends_after_a_long_one() {
        let mut vad = Vad::new(0.6);
        for voice in [true, true, false, true] {
            vad.count(voice);
        }
        assert_eq!(vad.speaking(), 48);
        for _ in 0..13 {
            vad.count(false);
        }
        assert_eq!(vad.speaking(), 0);
        vad.count(true);
        assert_eq!(vad.speaking(), 16);
    }
}
