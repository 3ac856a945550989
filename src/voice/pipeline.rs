//! What hears, thinks and speaks for a call: the words between a session and its providers.
//!
//! A pipeline works in tasks of its own and never makes the session wait: what it is told is taken or dropped at once, by the
//! policy of the channel; what it has to say comes over two bounded channels, one for words and one for sound, so that sound
//! that the caller is far from hearing holds up nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use axum::body::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{calls::Memory, models::Provider};

/// Events of a pipeline that may wait for the session.
pub(super) const MOST_EVENTS: usize = 64;
/// Pieces of its sound that may: each may be a second of it.
pub(super) const MOST_SOUND: usize = 1;

/// What a pipeline has to say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The provider hears the caller begin to speak.
    SpeechStarted,
    /// The provider hears the caller stop.
    SpeechStopped,
    /// Words of the caller that may still change.
    Guess(String),
    /// Words of the caller; with `end`, their turn is over.
    Heard { text: String, end: bool },
    /// Words of the caller that a model has heard by itself, and when they were over. It may have answered them long since.
    Transcribed { text: String, spoken: Instant },
    /// The caller's turn is over, whatever was heard of it.
    TurnOver,
    /// The provider began an answer by itself.
    Began { turn: u32 },
    /// The model gave its first word of this turn.
    FirstWord { turn: u32 },
    /// Text of this turn that will be spoken.
    Text { turn: u32, text: String },
    /// The model wants a tool.
    Called { turn: u32, id: String, name: String, arguments: String },
    /// The model has said all of this turn; with `tools`, it waits for their results.
    Answered { turn: u32, tools: bool },
    /// So much was used.
    Used { what: &'static str, amount: f64 },
    /// A provider has failed for good.
    Failed { provider: Provider, why: String },
}

/// What is to be heard.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sound {
    /// Sound of a turn.
    Audio { turn: u32, sound: Bytes },
    /// This part of a turn's text begins so many bytes into its sound.
    Words { turn: u32, text: String, at: usize },
    /// Nothing more comes of this turn.
    Done { turn: u32 },
    /// Nothing more comes of this turn, and some of it is missing: its provider was lost.
    BrokeOff { turn: u32 },
    /// Nothing more comes of this turn until the tools that the model asked for have come to their end.
    Waits { turn: u32 },
}

/// Where a pipeline says it.
#[derive(Clone)]
pub(super) struct Ears {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) sound: mpsc::Sender<Sound>,
}

/// The number of the next turn; a pipeline that answers by itself takes one, too.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<AtomicU32>);

impl Turns {
    /// The next one is that after `last`.
    pub(super) fn after(last: u32) -> Self {
        Self(Arc::new(AtomicU32::new(last)))
    }

    pub(super) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What hears, thinks and speaks. Nothing here waits.
pub(super) trait Pipeline: Send {
    /// Sound of the caller, some 100 ms. What a provider does not take in time is dropped, the oldest first.
    fn hear(&mut self, sound: Bytes);

    /// Says a text as it is.
    fn say(&mut self, turn: u32, text: &str);

    /// Answers the caller, from what was said so far: `so_far` in this very turn, before the tools that it used.
    fn answer(&mut self, turn: u32, memory: &Memory, so_far: &str);

    /// The caller said this in another way than by voice, or it was put together here. Does nothing where the memory that answers are
    /// made of holds it.
    fn told(&mut self, text: &str);

    /// Tells the model what a tool came to. The answer goes on by [`Pipeline::answer`].
    fn tool(&mut self, id: &str, output: &Value);

    /// The turn has no more text: what is spoken of it is all. Does nothing where the provider knows by itself.
    fn finish(&mut self, turn: u32);

    /// The caller broke in after `heard_ms` of this turn, and has heard these words of it: nothing more of it, please.
    fn stop(&mut self, turn: u32, heard_ms: u64, heard: &str);

    /// True where the provider begins an answer by itself when the caller has spoken.
    fn answers_by_itself(&self) -> bool;

    /// Bytes of sound that may wait before no more is taken from it.
    fn most_ahead(&self) -> usize;
}
