//! What can go wrong with a session of a provider, on demand: rules by share or for the next N.
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::Provider;
use crate::sim::{
    Millis,
    faults::{Strikes, pick},
};

/// What goes wrong with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderFault {
    /// Turned away with `status` (503).
    Refuse,
    /// Taken, read, and never answered.
    Silent,
    /// Every answer comes `ms` later (2000).
    Slow,
    /// Closed with `code` (1011) after `ms` (1000); 1006 is a connection that ends without a close.
    Close,
    /// Taken, and never read; the connection stays.
    HalfOpen,
    /// Sound is sent at 20 times the speed at which it plays.
    Burst,
    /// Sound is sent at half the speed at which it plays.
    Trickle,
    /// Sound goes on after its context was closed or its response cancelled.
    Late,
    /// Every message comes twice.
    Duplicate,
    /// The first message is preceded by one that is not JSON.
    InvalidJson,
    /// The first message is preceded by one of a MiB.
    Huge,
    /// Every message is preceded by one of a type that does not exist.
    UnknownType,
    /// Every message that names a context, response or request is preceded by one that names another.
    ForeignId,
    /// An error is told, and the session goes on.
    Error,
    /// The first message comes, and nothing after it.
    Stall,
    /// Each sentence is spoken again and again, as fast as it plays (speech).
    Endless,
    /// After each turn of the person a word is guessed that comes to nothing (transcription).
    Mumble,
    /// Events are split anywhere between two packets (chat).
    Split,
}

/// When a fault strikes a session. `next` counts down and goes before `share`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderRule {
    /// Only at this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// What goes wrong.
    pub kind: ProviderFault,
    /// Of all that match, 0 to 1.
    #[serde(default)]
    pub share: f64,
    /// The next N that match.
    #[serde(default)]
    pub next: u32,
    /// A length of time, ms or `"a..b"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<Millis>,
    /// The HTTP status, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `Retry-After` in s, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u32>,
    /// The close code, for `close`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

impl ProviderRule {
    /// Strikes the next `next` sessions of a provider.
    #[must_use]
    pub const fn next(provider: Provider, kind: ProviderFault, next: u32) -> Self {
        Self {
            provider: Some(provider),
            kind,
            share: 0.0,
            next,
            ms: None,
            status: None,
            retry_after_secs: None,
            code: None,
        }
    }
}

impl Strikes for ProviderRule {
    fn next(&mut self) -> &mut u32 {
        &mut self.next
    }

    fn share(&self) -> f64 {
        self.share
    }
}

/// Picks at most one rule for a session.
pub(super) fn draw(rules: &mut Vec<ProviderRule>, provider: Provider, random: &mut StdRng) -> Option<ProviderRule> {
    if rules.is_empty() {
        return None;
    }
    pick(rules, |rule| rule.provider.is_none_or(|only| only == provider), random)
}
