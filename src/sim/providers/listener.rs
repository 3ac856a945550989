//! Listening to a person: when they speak, and the words.
use crate::sim::sound::{Ear, PER_MS, is_voice};

/// What a provider knows of the sound that it was sent. Time is the sound's own: 8 bytes are a millisecond.
#[derive(Debug, Default)]
pub(super) struct Listener {
    ear: Ear,
    bytes: u64,
    /// Words of sentences that have ended, and not yet been taken.
    words: String,
    /// Bytes of the present sentence that have been taken.
    taken: usize,
    /// Somebody is speaking, or was a moment ago.
    pub(super) is_speaking: bool,
    /// Since the last voice.
    pub(super) silent_ms: u64,
    /// When the last voice ended.
    pub(super) voice_ms: u64,
}

impl Listener {
    /// Takes 20 ms or less. True when somebody begins to speak.
    pub(super) fn listen(&mut self, block: &[u8]) -> bool {
        for heard in self.ear.listen(block) {
            if !self.words.is_empty() {
                self.words.push(' ');
            }
            self.words.push_str(heard.text.get(self.taken..).unwrap_or_default().trim());
            self.taken = 0;
        }
        self.bytes += block.len() as u64;
        if is_voice(block) {
            (self.silent_ms, self.voice_ms) = (0, self.at_ms());
            return !std::mem::replace(&mut self.is_speaking, true);
        }
        self.silent_ms = self.at_ms() - self.voice_ms;
        false
    }

    /// How much sound has come, ms.
    pub(super) const fn at_ms(&self) -> u64 {
        self.bytes / PER_MS as u64
    }

    /// Words that have not been taken, with those of a sentence that goes on.
    pub(super) fn words(&self) -> String {
        let present = self.ear.present().map(|(_, words)| String::from_utf8_lossy(words));
        let present = present.as_ref().and_then(|words| words.get(self.taken..)).unwrap_or_default().trim();
        match (self.words.is_empty(), present.is_empty()) {
            (true, _) => present.to_owned(),
            (false, true) => self.words.clone(),
            (false, false) => format!("{} {present}", self.words),
        }
    }

    /// Takes the words up to the last whole one, or all of them.
    pub(super) fn take(&mut self, all: bool) -> String {
        let present = self.ear.present().map(|(_, words)| words.len());
        let words = self.words();
        let end = match present {
            Some(_) if !all => words.rfind(' ').map_or(0, |at| at + 1),
            _ => words.len(),
        };
        if end == 0 {
            return String::new();
        }
        self.taken = present.map_or(0, |length| length - (words.len() - end));
        self.words.clear();
        words[..end].trim_end().to_owned()
    }
}
