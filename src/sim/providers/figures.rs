//! What the sandbox counts of the voice providers.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Provider;

/// Counts of one provider since the start or the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderFigures {
    /// Sessions that were opened: sockets, or chat completions.
    pub opened: u64,
    /// Sessions that were turned away.
    pub refused: u64,
    /// Sessions open now.
    pub live: u64,
    /// The most of them at once.
    pub most_live: u64,
    /// Transcripts, questions or texts that came in, in words.
    pub heard: u64,
    /// Answers or sentences that went out, in words.
    pub said: u64,
}

/// The counting behind it.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Provider, ProviderFigures>);

impl Tally {
    fn of(&mut self, provider: Provider) -> &mut ProviderFigures {
        self.0.entry(provider).or_default()
    }

    pub(super) fn opened(&mut self, provider: Provider) {
        let counts = self.of(provider);
        counts.opened += 1;
        counts.live += 1;
        counts.most_live = counts.most_live.max(counts.live);
    }

    pub(super) fn refused(&mut self, provider: Provider) {
        self.of(provider).refused += 1;
    }

    pub(super) fn closed(&mut self, provider: Provider) {
        let counts = self.of(provider);
        counts.live = counts.live.saturating_sub(1);
    }

    pub(super) fn heard(&mut self, provider: Provider) {
        self.of(provider).heard += 1;
    }

    pub(super) fn said(&mut self, provider: Provider) {
        self.of(provider).said += 1;
    }

    pub(super) fn live(&self) -> u64 {
        self.0.values().map(|counts| counts.live).sum()
    }

    pub(super) fn reset(&mut self) {
        for counts in self.0.values_mut() {
            *counts = ProviderFigures { live: counts.live, most_live: counts.live, ..ProviderFigures::default() };
        }
    }

    pub(super) fn figures(&self) -> BTreeMap<Provider, ProviderFigures> {
        self.0.clone()
    }
}
