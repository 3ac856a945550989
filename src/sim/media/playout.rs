//! What the far end has yet to hear: sound in its order, and the marks between it.
use std::collections::VecDeque;

/// Sound waiting to be played, and marks waiting for it.
#[derive(Debug, Default)]
pub(super) struct Playout {
    sound: VecDeque<u8>,
    /// Marks by the place of the sound, in bytes since the beginning, after which they come back.
    marks: VecDeque<(u64, String)>,
    /// Bytes played or dropped.
    done: u64,
}

impl Playout {
    /// The most sound that waits, bytes: ten minutes (Twilio, error 31931).
    pub(super) const MOST: usize = 10 * 60 * 8_000;

    /// Adds sound. False, and nothing is added, where too much waits already.
    pub(super) fn add(&mut self, sound: &[u8]) -> bool {
        let fits = self.sound.len() + sound.len() <= Self::MOST;
        if fits {
            self.sound.extend(sound);
        }
        fits
    }

    /// Sets a mark behind what waits now.
    pub(super) fn mark(&mut self, name: String) {
        self.marks.push_back((self.done + self.sound.len() as u64, name));
    }

    /// Drops what waits; the marks come back all the same.
    pub(super) fn clear(&mut self) {
        self.done += self.sound.len() as u64;
        self.sound.clear();
    }

    /// Plays as much as there is room for, and returns how much that was.
    pub(super) fn play(&mut self, room: &mut [u8]) -> usize {
        let length = room.len().min(self.sound.len());
        for (place, sample) in room.iter_mut().zip(self.sound.drain(..length)) {
            *place = sample;
        }
        self.done += length as u64;
        length
    }

    /// The next mark whose sound has been played or dropped.
    pub(super) fn reached(&mut self) -> Option<String> {
        let due = self.marks.front().is_some_and(|(place, _)| *place <= self.done);
        due.then(|| self.marks.pop_front().map(|(_, name)| name)).flatten()
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.sound.len()
    }
}
