//! Agents: what a voice agent says, how it listens, and what it may do.
//!
//! Invariant: a version of an agent is never changed; a run and a call keep to the one that they began with.
//! Not here: texts as templates over a callee's variables (`dialing::agents`), and the conversation itself (`voice`).

pub mod addresses;
pub mod definition;
pub mod rules;
pub mod store;
pub mod tools;

pub use definition::{Definition, PipelineKind};
pub use store::{Agent, Pinned};
pub use tools::Tool;
