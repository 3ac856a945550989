//! Hearing: sound in pieces of any length, back to sentences.
use serde::{Deserialize, Serialize};

use super::{CELL_BITS, Cell};

/// A sentence, or what was heard of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The number that its speaker gave it.
    pub utterance: u32,
    /// The words. What is not UTF-8, because a part is missing, is replaced.
    pub text: String,
    /// It was heard from its first cell to its last, and nothing is missing.
    pub whole: bool,
    /// How many bytes of text are missing before the last one that was heard.
    pub missing: u32,
    /// How many cells came a second time.
    pub again: u32,
}

/// Listens to one side of one line.
#[derive(Debug, Clone)]
pub struct Ear {
    /// The lowest bits of the last 128 samples.
    window: u128,
    sentence: Option<Sentence>,
}

#[derive(Debug, Clone, Default)]
struct Sentence {
    number: u32,
    words: Vec<u8>,
    next: u16,
    missing: u32,
    again: u32,
    over: bool,
}

impl Default for Ear {
    fn default() -> Self {
        Self { window: u128::MAX, sentence: None }
    }
}

impl Ear {
    /// Listens to a piece of sound. Returns the sentences that ended in it: with their last cell, or because another one
    /// began.
    pub fn listen(&mut self, sound: &[u8]) -> Vec<Heard> {
        let mut ended = Vec::new();
        let mut blocks = sound.chunks_exact(8);
        for block in &mut blocks {
            let mut eight = [0; 8];
            eight.copy_from_slice(block);
            // The lowest bit of each byte, the first one highest.
            let bits = (u64::from_le_bytes(eight) & 0x0101_0101_0101_0101).wrapping_mul(0x8040_2010_0804_0201) >> 56;
            if bits == 0xFF && self.window == u128::MAX {
                continue;
            }
            for bit in (0..8).rev() {
                self.shift((bits >> bit) as u8, &mut ended);
            }
        }
        for sample in blocks.remainder() {
            self.shift(*sample, &mut ended);
        }
        ended
    }

    /// The sentence that is being heard: its number and its words so far.
    #[must_use]
    pub fn present(&self) -> Option<(u32, &[u8])> {
        self.sentence.as_ref().filter(|sentence| !sentence.over).map(|sentence| (sentence.number, &*sentence.words))
    }

    /// Ends a sentence that breaks off here.
    pub fn cut(&mut self) -> Option<Heard> {
        self.window = u128::MAX;
        self.sentence.take().filter(|sentence| !sentence.over).map(Sentence::close)
    }

    fn shift(&mut self, sample: u8, ended: &mut Vec<Heard>) {
        self.window = self.window << 1 | u128::from(sample & 1);
        if let Some(cell) = Cell::read(self.window & ((1 << CELL_BITS) - 1)) {
            self.window = u128::MAX;
            self.take(cell, ended);
        }
    }

    fn take(&mut self, cell: Cell, ended: &mut Vec<Heard>) {
        if self.sentence.as_ref().is_none_or(|sentence| sentence.number != cell.utterance) {
            let before = self.sentence.replace(Sentence { number: cell.utterance, ..Sentence::default() });
            ended.extend(before.filter(|sentence| !sentence.over).map(Sentence::close));
        }
        let Some(sentence) = &mut self.sentence else { return };
        if sentence.over || cell.place < sentence.next {
            sentence.again += 1;
            return;
        }
        sentence.missing += u32::from(cell.place - sentence.next);
        sentence.words.extend_from_slice(cell.words());
        sentence.next = cell.place.saturating_add(u16::from(cell.length));
        if cell.last {
            sentence.over = true;
            ended.push(Sentence { words: std::mem::take(&mut sentence.words), ..sentence.clone() }.close());
        }
    }
}

impl Sentence {
    fn close(self) -> Heard {
        Heard {
            utterance: self.number,
            text: String::from_utf8_lossy(&self.words).into_owned(),
            whole: self.over && self.missing == 0,
            missing: self.missing,
            again: self.again,
        }
    }
}

/// True for a piece of sound that is loud enough for somebody to be speaking: one sample in eight above a sixteenth of
/// the full range. In mu-law the bits below the sign fall as the sound grows.
pub(crate) fn is_voice(sound: &[u8]) -> bool {
    let loud = sound.iter().filter(|sample| **sample & 0x7F < 0x40).count();
    loud * 8 > sound.len()
}
