//! An event of the model, as far as it is read, and what is remembered of turns.

use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Raw {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) response_id: Option<String>,
    #[serde(default)]
    pub(super) item_id: Option<String>,
    #[serde(default)]
    pub(super) call_id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: Option<String>,
    #[serde(default)]
    pub(super) delta: Option<String>,
    #[serde(default)]
    pub(super) transcript: Option<String>,
    #[serde(default)]
    pub(super) response: Option<Value>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

/// A turn that was asked for and has no response yet.
pub(super) struct Asked {
    pub(super) turn: u32,
    /// What is to be said as it is.
    pub(super) text: Option<String>,
    /// When it was sent to the model.
    pub(super) sent: Option<Instant>,
}

/// A response that is under way.
pub(super) struct Begun {
    pub(super) turn: u32,
    pub(super) text: Option<String>,
    /// As far as it was told.
    pub(super) spoken: String,
    /// It uses a tool.
    pub(super) called: bool,
}
