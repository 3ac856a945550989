//! Whether the caller is speaking: two gates, each cheaper than what it saves, and a detector where both let something through.
//!
//! Not here: the detectors (`models::hearing`).

use std::time::Duration;

use webrtc_vad::{VoiceActivityDetector, VoiceActivityProfile};

use crate::{models::Ear, voice::mulaw};

/// Samples that the gates take at once: 10 ms at 8 kHz.
const SAMPLES: usize = 80;
/// Sum of the magnitudes of so many samples below which they are silence: about -54 dB of full scale.
const QUIET: i32 = 64 * 80;
/// Speech with shorter holes than this is one piece.
const HOLE_MS: u32 = 200;

/// Whether the caller speaks.
pub(super) struct Vad {
    gate: Gate,
    ear: Ear,
    threshold: f32,
    speech_ms: u32,
    silence_ms: u32,
}

/// Lets through what may be a voice: what is loud enough, and then what WebRTC's detector lets pass at its least strict.
struct Gate {
    detector: VoiceActivityDetector,
    samples: [i16; SAMPLES],
    /// So many of them are heard.
    heard: usize,
    open: bool,
}

impl Vad {
    pub(super) fn new(ear: Ear, threshold: f32) -> Self {
        Self { gate: Gate::new(), ear, threshold, speech_ms: 0, silence_ms: HOLE_MS }
    }

    /// Hears sound; for how long the caller has now been speaking, ms; 0 where they are not.
    pub(super) fn hear(&mut self, sound: &[u8]) -> u32 {
        let mut rest = sound;
        while !rest.is_empty() {
            // Up to where the gate has heard enough to say something.
            let (piece, after) = rest.split_at(rest.len().min(SAMPLES - self.gate.heard));
            rest = after;
            let (samples, open) = self.gate.hear(piece);
            if let Some(word) = self.ear.hear(samples, open) {
                self.count(word.voice >= self.threshold, word.ms);
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

    fn count(&mut self, voice: bool, ms: u32) {
        if voice {
            if self.silence_ms >= HOLE_MS {
                self.speech_ms = 0;
            }
            self.speech_ms += ms;
            self.silence_ms = 0;
        } else {
            self.silence_ms = self.silence_ms.saturating_add(ms);
        }
    }
}

impl Gate {
    fn new() -> Self {
        let detector = VoiceActivityDetector::new(VoiceActivityProfile::QUALITY);
        Self { detector, samples: [0; SAMPLES], heard: 0, open: false }
    }

    /// Hears no more than it waits for: its samples, and whether they may be part of a voice, by the last 10 ms that were heard whole.
    fn hear(&mut self, sound: &[u8]) -> (&[i16], bool) {
        let (from, to) = (self.heard, self.heard + sound.len());
        for (sample, byte) in self.samples[from..to].iter_mut().zip(sound) {
            *sample = mulaw::decode(*byte);
        }
        self.heard = to;
        if to == SAMPLES {
            self.heard = 0;
            let loud: i32 = self.samples.iter().map(|sample| i32::from(*sample).abs()).sum();
            // A length that it does not take is none of ours.
            self.open = loud >= QUIET && self.detector.predict_8khz(&self.samples).unwrap_or(true);
        }
        (&self.samples[from..to], self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Hearing;

    fn vad() -> Vad {
        Vad::new(Hearing::default().ear(), 0.6)
    }

    #[test]
    fn silence_and_a_hum_are_no_speech() {
        let mut vad = vad();
        assert_eq!(vad.hear(&[0xff; 16_000]), 0);
        let hum: Vec<u8> = (0..16_000_i32).map(|at| mulaw::encode(i16::try_from(at % 160).unwrap() * 4)).collect();
        assert!(vad.hear(&hum) < 200);
    }

    #[test]
    fn speech_with_short_holes_is_one_piece_and_ends_after_a_long_one() {
        let mut vad = vad();
        for voice in [true, true, false, true] {
            vad.count(voice, 16);
        }
        assert_eq!(vad.speaking(), 48);
        for _ in 0..13 {
            vad.count(false, 16);
        }
        assert_eq!(vad.speaking(), 0);
        vad.count(true, 16);
        assert_eq!(vad.speaking(), 16);
    }
}
