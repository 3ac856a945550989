//! The media door: where a carrier opens the WebSocket that carries the sound of an answered call, and what talks there.
//!
//! Invariant: one task owns one call, with everything it opened, and ends with it; a stream without a ticket of its own learns
//! nothing. Nothing of one call is ever reachable from another's task.
//! Not here: whether a call may be talked in and how it is ended (`dialing::conversation`), and what any replica must know of it
//! (`calls`).

mod caller;
mod cascade;
mod chat;
mod deadlines;
mod deepgram;
mod door;
mod elevenlabs;
mod ending;
mod event_lines;
mod link;
mod mulaw;
mod now;
mod opening;
mod pipeline;
mod playout;
mod realtime;
mod registry;
mod sentences;
mod session;
mod speech_to_speech;
mod tls;
mod tool_http;
mod tools;
mod turn;
mod turn_tools;
mod vad;
mod waiting;
mod wire;

pub use door::router;
pub use registry::Sessions;
