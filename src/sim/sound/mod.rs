//! Speech without models: mu-law sound (8 kHz, 8,000 bytes/s) that carries the words it stands for.
//!
//! A sentence is a row of *cells*. A cell carries, in the lowest bits of 120 samples, one to four bytes of text, where in
//! the sentence they stand, and the number of the sentence; the upper bits are a voice ([`voice`]), so that detectors of
//! voices hear one. At speed 1 a cell carries one byte and lasts 60 ms: 16.7 characters a second, as people speak. At
//! speed 12, the highest, it carries four bytes and lasts 20 ms: 200 characters a second. A listener need not know the speed.
//!
//! What is left of a cell that was cut (a frame lost, a sentence broken off) is not heard; every whole cell is, wherever
//! frames begin and end and whatever silence lies between. G.711 and 16-bit PCM of the same rate keep the bits; a change
//! of volume or rate destroys them, which is heard as a voice without words.
//!
//! Invariant: what is heard was said: a cell carries a check over its text, its place and its sentence, and two sentences
//! that are mixed stay two.
//! Not here: who speaks when (`media`, `agent`).
mod ear;
mod mouth;
mod voice;

pub use ear::{Ear, Heard};
pub use mouth::{Speed, Utterance};

pub(crate) use ear::is_voice;

/// Samples of a telephone line per ms.
pub(crate) const PER_MS: usize = 8;
/// Mu-law silence.
pub(crate) const SILENCE: u8 = 0xFF;

/// The bits that open a cell. It begins with 0, because what is not a cell is a row of ones, and it does not look like
/// itself when it is moved by some bits.
const SYNC: u16 = 0b0001_1010_1100_1111;
/// Bits of a cell: [`SYNC`], sentence (32), place (16), head (8), text (32), check (16).
const CELL_BITS: usize = 120;
/// The most bytes of text in one cell.
const MOST_BYTES: usize = 4;
/// In the head: the sentence ends with this cell.
const LAST: u8 = 0x80;

/// A piece of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    /// The sentence.
    utterance: u32,
    /// Where in it, in bytes.
    place: u16,
    text: [u8; MOST_BYTES],
    length: u8,
    last: bool,
}

impl Cell {
    fn bits(self) -> u128 {
        let head = self.length | if self.last { LAST } else { 0 };
        let body = u128::from(self.utterance) << 56
            | u128::from(self.place) << 40
            | u128::from(head) << 32
            | u128::from(u32::from_be_bytes(self.text));
        u128::from(SYNC) << 104 | body << 16 | u128::from(check(body))
    }

    /// The cell that these bits are, if they are one.
    fn read(bits: u128) -> Option<Self> {
        if (bits >> 104) as u16 != SYNC {
            return None;
        }
        let body = bits >> 16 & ((1 << 88) - 1);
        let head = (body >> 32) as u8;
        let length = head & !LAST;
        let whole = bits as u16 == check(body) && (1..=4).contains(&length);
        whole.then(|| Self {
            utterance: (body >> 56) as u32,
            place: (body >> 40) as u16,
            text: (body as u32).to_be_bytes(),
            length,
            last: head & LAST != 0,
        })
    }

    fn words(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

/// Sixteen bits over the rest of a cell (Fibonacci hashing of both halves).
fn check(body: u128) -> u16 {
    let folded = (body as u64) ^ ((body >> 64) as u64).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as u16
}
