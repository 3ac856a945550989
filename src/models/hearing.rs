//! What tells voices from other sounds: earshot's detector, one for each call, or Silero's, one for the process.
//!
//! Not here: the gate in front of it, and when sound is speech (`voice::vad`).

#[cfg(feature = "silero")]
use std::sync::{Arc, OnceLock};

use earshot::Detector;
use serde::Serialize;

use crate::config::VoiceSettings;
#[cfg(feature = "silero")]
use crate::models::silero::{self, Silero, SileroStatus};

/// Samples that earshot takes at once: 16 ms at 16 kHz.
const SAMPLES: usize = 256;
const SAMPLES_MS: u32 = 16;

/// The detector of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hearing {
    #[cfg(feature = "silero")]
    silero: Arc<OnceLock<Silero>>,
}

/// The detector as `/status/models` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum HearingStatus {
    /// One in each call.
    Earshot {
        /// Never.
        shared: bool,
    },
    /// One for all calls.
    #[cfg(feature = "silero")]
    Silero(SileroStatus),
}

/// The ear of one call.
pub enum Ear {
    /// With a detector of its own.
    Earshot(Box<Earshot>),
    /// With the one of the process.
    #[cfg(feature = "silero")]
    Silero(silero::Ear),
}

/// What is known of a piece of sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// How long the piece is.
    pub ms: u32,
    /// How likely it is a voice, 0 to 1.
    pub voice: f32,
}

/// earshot's detector hears 16 kHz; each sample of the telephone's 8 kHz is followed by the mean of itself and the next. A better
/// filter made it worse in noise.
pub struct Earshot {
    detector: Detector,
    samples: [i16; SAMPLES],
    /// So many of them are heard.
    heard: usize,
    last: i16,
    open: bool,
}

impl Hearing {
    /// Makes ready what the settings ask for.
    ///
    /// # Errors
    /// Where Silero's library or model cannot be loaded, or is another than asked for.
    pub fn open(&self, settings: &VoiceSettings) -> anyhow::Result<()> {
        #[cfg(feature = "silero")]
        if let Some(wanted) = settings.silero() {
            // Whoever was first has loaded the same.
            let _ = self.silero.set(Silero::load(&wanted)?);
        }
        #[cfg(not(feature = "silero"))]
        anyhow::ensure!(settings.contradictions().is_empty(), "{}", settings.contradictions().join(" "));
        Ok(())
    }

    /// An ear for a call.
    #[must_use]
    pub fn ear(&self) -> Ear {
        #[cfg(feature = "silero")]
        if let Some(silero) = self.silero.get() {
            return Ear::Silero(silero.ear());
        }
        Ear::Earshot(Box::new(Earshot {
            detector: Detector::default(),
            samples: [0; SAMPLES],
            heard: 0,
            last: 0,
            open: false,
        }))
    }

    /// Which detector it is, and how busy.
    #[must_use]
    pub fn status(&self) -> HearingStatus {
        #[cfg(feature = "silero")]
        if let Some(silero) = self.silero.get() {
            return HearingStatus::Silero(silero.status());
        }
        HearingStatus::Earshot { shared: false }
    }
}

impl Ear {
    /// Hears samples of 8 kHz, at most 10 ms of them, while the gate is `open` or not; what is now known of a piece. No piece is heard
    /// by a model that the gate was shut for.
    pub fn hear(&mut self, samples: &[i16], open: bool) -> Option<Word> {
        match self {
            Self::Earshot(ear) => ear.hear(samples, open),
            #[cfg(feature = "silero")]
            // A piece is longer than that: no more than one word comes of it.
            Self::Silero(ear) => samples.iter().fold(None, |word, sample| ear.hear(*sample, open).or(word)),
        }
    }
}

impl Earshot {
    fn hear(&mut self, samples: &[i16], open: bool) -> Option<Word> {
        self.open |= open;
        let (first, rest) = samples.split_at(samples.len().min((SAMPLES - self.heard) / 2));
        self.add(first);
        if self.heard < SAMPLES {
            return None;
        }
        let voice = if self.open { self.detector.predict_i16(&self.samples) } else { 0.0 };
        self.heard = 0;
        self.open = open;
        self.add(rest);
        Some(Word { ms: SAMPLES_MS, voice })
    }

    fn add(&mut self, samples: &[i16]) {
        let (places, _) = self.samples[self.heard..].as_chunks_mut::<2>();
        for ([between, place], sample) in places.iter_mut().zip(samples) {
            // The mean of two samples is one.
            *between = ((i32::from(self.last) + i32::from(*sample)) / 2) as i16;
            *place = *sample;
            self.last = *sample;
        }
        self.heard += 2 * samples.len();
    }
}
