//! What the sandbox counts of media streams.
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Conversation;
use crate::sim::figures::{Quantiles, quantiles};

/// Counts of all media streams since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MediaFigures {
    /// Streams that were opened.
    pub opened: u64,
    /// Streams that the server did not take.
    pub refused: u64,
    /// Streams open now, and the most of them at once.
    pub live: u64,
    /// The most of them at once.
    pub most_live: u64,
    /// Streams on which the server sent what the carrier does not take.
    pub malformed: u64,
    /// Frames of 20 ms that were sent.
    pub frames_sent: u64,
    /// Media messages that were received.
    pub frames_received: u64,
    /// Times that an agent began to speak.
    pub turns: u64,
    /// Times that a callee interrupted.
    pub interruptions: u64,
    /// `clear` messages.
    pub clears: u64,
    /// Marks that came back.
    pub marks: u64,
    /// Sentences that were heard from their first to their last word, and others.
    pub heard_whole: u64,
    /// Sentences that were cut, or of which a part is missing.
    pub heard_in_part: u64,
    /// Words of other calls that were heard. Must be 0.
    pub foreign: u64,
    /// From the opened socket to the first sound, ms.
    pub first_sound_ms: Quantiles,
    /// From the end of a callee's line to the agent's first sound, ms.
    pub answer_ms: Quantiles,
    /// From an interruption to the last sound of the agent, ms.
    pub clear_ms: Quantiles,
    /// How far the gap between two media messages was from the length of the first, ms, while sound waited.
    pub jitter_ms: Quantiles,
    /// How long the sound had run out in the middle of a sentence, ms.
    pub ran_out_ms: Quantiles,
}

/// A length of time that a stream has measured.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lapse {
    FirstSound(Duration),
    Answer(Duration),
    Clear(Duration),
    Jitter(Duration),
    RanOut(Duration),
}

impl Lapse {
    /// How many a stream keeps until it hands them in.
    pub(super) const BATCH: usize = 64;
}

/// The counting behind [`MediaFigures`].
#[derive(Debug, Default)]
pub(crate) struct MediaTally {
    counts: MediaFigures,
    lapses: [Option<Histogram<u64>>; 5],
}

impl MediaTally {
    pub(super) fn opened(&mut self) {
        self.counts.opened += 1;
        self.counts.live += 1;
        self.counts.most_live = self.counts.most_live.max(self.counts.live);
    }

    pub(super) fn closed(&mut self) {
        self.counts.live = self.counts.live.saturating_sub(1);
    }

    pub(crate) fn live(&self) -> u64 {
        self.counts.live
    }

    pub(super) fn refused(&mut self) {
        self.counts.refused += 1;
    }

    pub(super) fn malformed(&mut self) {
        self.counts.malformed += 1;
    }

    pub(super) fn keep(&mut self, lapses: &mut Vec<Lapse>) {
        for lapse in lapses.drain(..) {
            let (at, length) = match lapse {
                Lapse::FirstSound(length) => (0, length),
                Lapse::Answer(length) => (1, length),
                Lapse::Clear(length) => (2, length),
                Lapse::Jitter(length) => (3, length),
                Lapse::RanOut(length) => (4, length),
            };
            if self.lapses[at].is_none() {
                // 1 µs to 1 h at three digits are legal bounds, so that this cannot fail.
                self.lapses[at] = Histogram::new_with_bounds(1, 3_600_000_000, 3).ok();
            }
            if let Some(histogram) = &mut self.lapses[at] {
                histogram.saturating_record(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
            }
        }
    }

    pub(super) fn add(&mut self, talk: &Conversation) {
        let counts = &mut self.counts;
        let whole = talk.heard.iter().filter(|heard| heard.whole).count() as u64;
        counts.frames_sent += talk.frames.0;
        counts.frames_received += talk.frames.1;
        counts.turns += u64::from(talk.turns);
        counts.interruptions += u64::from(talk.interruptions);
        counts.clears += u64::from(talk.clears);
        counts.marks += u64::from(talk.marks);
        counts.heard_whole += whole;
        counts.heard_in_part += talk.heard.len() as u64 - whole;
        counts.foreign += talk.foreign.len() as u64;
    }

    /// Starts again from zero, but streams that are open stay open.
    pub(crate) fn reset(&mut self) {
        let live = self.counts.live;
        *self = Self { counts: MediaFigures { live, most_live: live, ..MediaFigures::default() }, ..Self::default() };
    }

    pub(crate) fn figures(&self) -> MediaFigures {
        let read = |at: usize| self.lapses[at].as_ref().map(quantiles).unwrap_or_default();
        MediaFigures {
            first_sound_ms: read(0),
            answer_ms: read(1),
            clear_ms: read(2),
            jitter_ms: read(3),
            ran_out_ms: read(4),
            ..self.counts.clone()
        }
    }
}
