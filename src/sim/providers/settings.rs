//! How the voice providers behave, as flags.
use crate::sim::{config::Millis, sound::Speed};

/// Keys, limits and times of the voice providers.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(next_help_heading = "Voice providers")]
pub struct Providers {
    /// A key that the providers take; repeatable. Without any, every key is taken.
    #[arg(long = "provider-key", value_name = "KEY")]
    pub provider_keys: Vec<String>,
    /// Sessions of one key at one provider before the next is refused with 429.
    #[arg(long, value_name = "SESSIONS")]
    pub provider_limit: Option<u64>,
    /// From the sound to its transcript.
    #[arg(long, value_name = "MS", default_value_t = Providers::default().transcript_ms)]
    pub transcript_ms: Millis,
    /// From the request to the first word of a chat answer.
    #[arg(long, value_name = "MS", default_value_t = Providers::default().chat_first_ms)]
    pub chat_first_ms: Millis,
    /// From word to word of a chat answer.
    #[arg(long, value_name = "MS", default_value_t = Providers::default().chat_word_ms)]
    pub chat_word_ms: Millis,
    /// From a text to the first of its sound.
    #[arg(long, value_name = "MS", default_value_t = Providers::default().speech_first_ms)]
    pub speech_first_ms: Millis,
    /// How fast the providers' voices speak: 1 is 16.7 characters a second, 12 is 200.
    #[arg(long, value_name = "FACTOR", default_value_t = Providers::default().speech_speed)]
    pub speech_speed: Speed,
    /// How much faster than it plays sound is sent; 0 is as fast as it goes.
    #[arg(long, value_name = "FACTOR", default_value_t = Providers::default().speech_pace)]
    pub speech_pace: f64,
    /// How long a transcription may go without sound or `KeepAlive` before it is closed with 1011.
    #[arg(long, value_name = "MS", default_value_t = Providers::default().transcript_idle_ms)]
    pub transcript_idle_ms: u64,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            provider_keys: Vec::new(),
            provider_limit: None,
            transcript_ms: Millis::between(80, 150),
            chat_first_ms: Millis::between(150, 350),
            chat_word_ms: Millis::between(5, 15),
            speech_first_ms: Millis::between(75, 150),
            speech_speed: Speed::HUMAN,
            speech_pace: 8.0,
            transcript_idle_ms: 10_000,
        }
    }
}

impl Providers {
    /// For tests: no delays, and the fastest speech.
    #[must_use]
    pub fn quick() -> Self {
        let at_once = Millis::exactly(0);
        Self {
            transcript_ms: at_once,
            chat_first_ms: at_once,
            chat_word_ms: at_once,
            speech_first_ms: at_once,
            speech_speed: Speed::FASTEST,
            speech_pace: 0.0,
            ..Self::default()
        }
    }
}
