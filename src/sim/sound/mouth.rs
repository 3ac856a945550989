//! Saying a sentence: its text as sound, in pieces of any length.
use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{CELL_BITS, Cell, MOST_BYTES, PER_MS, voice};

/// Samples of one byte at speed 1: 60 ms.
const SAMPLES_PER_BYTE: f64 = 480.0;
/// Samples of the shortest cell: 20 ms. Where a byte takes less, a cell carries more of them.
const SHORTEST: usize = 160;

/// How fast speech is, as a multiple of human speech (16.7 characters a second).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Speed(f64);

impl Speed {
    /// As people speak.
    pub const HUMAN: Self = Self(1.0);
    /// 200 characters a second, the most that the sound can carry.
    pub const FASTEST: Self = Self(12.0);

    /// This speed times a factor, as near as the sound can carry it.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self((self.0 * factor).clamp(0.25, 12.0))
    }

    /// Bytes in a cell, and its samples.
    fn cell(self) -> (u8, usize) {
        let per_byte = SAMPLES_PER_BYTE / self.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 4, and 40 to 7,680")]
        let (bytes, samples) =
            ((SHORTEST as f64 / per_byte).ceil().clamp(1.0, MOST_BYTES as f64) as u8, per_byte.round() as usize);
        (bytes, samples * usize::from(bytes))
    }
}

impl TryFrom<f64> for Speed {
    type Error = String;

    fn try_from(factor: f64) -> Result<Self, String> {
        if (0.25..=12.0).contains(&factor) { Ok(Self(factor)) } else { Err("a speed is 0.25 to 12".to_owned()) }
    }
}

impl From<Speed> for f64 {
    fn from(speed: Speed) -> Self {
        speed.0
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>().map_err(|error| error.to_string())?.try_into()
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sentence on its way out: [`Utterance::speak`] gives its sound piece by piece, without an allocation.
#[derive(Debug, Clone)]
pub struct Utterance {
    number: u32,
    text: Arc<str>,
    bytes_per_cell: u8,
    samples_per_cell: usize,
    /// The next sample.
    at: usize,
    samples: usize,
}

impl Utterance {
    /// A sentence with its number, which a listener tells sentences apart by. What is longer than 65,535 bytes is cut.
    #[must_use]
    pub fn new(number: u32, text: &str, speed: Speed) -> Self {
        let mut end = text.len().min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (bytes_per_cell, samples_per_cell) = speed.cell();
        let samples = end.div_ceil(usize::from(bytes_per_cell)) * samples_per_cell;
        Self { number, text: text[..end].into(), bytes_per_cell, samples_per_cell, at: 0, samples }
    }

    /// Writes the next samples and returns how many there were: fewer than there is room for at the end only.
    pub fn speak(&mut self, room: &mut [u8]) -> usize {
        let wanted = room.len().min(self.samples - self.at);
        let voice = &*voice::VOICE;
        let mut done = 0;
        while done < wanted {
            let from = self.at % voice::PERIOD;
            let (cell, within) = (self.at / self.samples_per_cell, self.at % self.samples_per_cell);
            let length = (wanted - done).min(self.samples_per_cell - within).min(voice::PERIOD - from);
            let piece = &mut room[done..done + length];
            piece.copy_from_slice(&voice[from..from + length]);
            if within < CELL_BITS {
                let bits = self.cell(cell).bits();
                for (bit, sample) in (within..CELL_BITS).zip(piece) {
                    *sample &= 0xFE | (bits >> (CELL_BITS - 1 - bit)) as u8 & 1;
                }
            }
            done += length;
            self.at += length;
        }
        wanted
    }

    /// All of what is left, at once.
    #[must_use]
    pub fn sound(&mut self) -> Vec<u8> {
        let mut sound = vec![0; self.samples - self.at];
        self.speak(&mut sound);
        sound
    }

    /// How long the whole sentence is, ms.
    #[must_use]
    pub const fn length_ms(&self) -> usize {
        self.samples / PER_MS
    }

    /// True when everything has been said.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.at == self.samples
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What of it has been said so far; a character that was begun counts.
    #[must_use]
    pub fn said(&self) -> &str {
        let cells = self.at.div_ceil(self.samples_per_cell);
        let mut end = (cells * usize::from(self.bytes_per_cell)).min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        &self.text[..end]
    }

    /// Where a byte of the text begins, ms from the beginning.
    #[must_use]
    pub const fn begins_ms(&self, byte: usize) -> usize {
        byte * self.samples_per_cell / self.bytes_per_cell as usize / PER_MS
    }

    fn cell(&self, index: usize) -> Cell {
        let place = index * usize::from(self.bytes_per_cell);
        let rest = &self.text.as_bytes()[place..];
        let words = &rest[..rest.len().min(usize::from(self.bytes_per_cell))];
        let mut text = [0; MOST_BYTES];
        text[..words.len()].copy_from_slice(words);
        #[expect(clippy::cast_possible_truncation, reason = "at most 65,535 bytes, and 4 in a cell")]
        let (place, length) = (place as u16, words.len() as u8);
        Cell { utterance: self.number, place, text, length, last: words.len() == rest.len() }
    }
}
