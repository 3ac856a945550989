//! Calls: what any replica needs to know of a live conversation, who has it, and what was said in it.
//!
//! Invariant: everything here is text that any replica can read; a handle, a socket or a secret is never part of it. Whoever
//! has lost a call's lease can no longer write its state.
//! Not here: the conversation (`voice`), and the carrier's call (`attempts`).

pub mod conversation;
pub mod state;
pub mod store;
pub mod waiting;

pub use state::{AT_WORK, CallState, Memory, Phase, Spoken, Text, Who};
pub use store::{Calls, Claim, Ticket};
