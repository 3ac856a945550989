//! Models: the providers that hear, think and speak for the agents, behind permits.
//!
//! Invariant: an account at a provider never has more requests of this process at once than its limit; who finds none free is
//! told at once, before the provider says so.
//! Not here: what is said to a provider (`voice`), and who opens a sealed key (`context`).

pub mod accounts;
pub mod permits;

pub use accounts::{Login, Provider};
pub use permits::{Permit, Permits};
