//! Attempts: the dial ledger, one row per dial, written before the carrier hears of it.
//!
//! Invariant: the rank of an attempt only grows, its first final state never changes, and while it is open it holds one slot
//! and one line that no other open attempt has.
//! Not here: what follows from a change (`dialing::finish`), and asking the carrier (`dialing::doubt`, `dialing::live`).

pub mod batch;
pub mod detection;
pub mod erase;
pub mod events;
pub mod export;
pub mod figures;
pub mod history;
pub mod inbound;
pub mod ledger;
pub mod looks;
pub mod open;
pub mod queued;
pub mod recordings;
pub mod speech;
pub mod state;
pub mod store;
pub mod strays;
pub mod token;
pub mod untaken;
pub mod view;

pub use state::{AttemptState, Disposition};
pub use view::{Attempt, Call, CallState, InFlight};
