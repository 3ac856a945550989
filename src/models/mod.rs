//! Models: the providers that hear, think and speak for the agents, and the model that tells voices from noise, behind permits.
//!
//! Invariant: an account at a provider never has more requests of this process at once than its limit; who finds none free is
//! told so, at once or after the time that it would wait, before the provider says it.
//! Not here: what is said to a provider (`voice`), and who opens a sealed key (`context`).

pub mod accounts;
pub mod hearing;
pub mod permits;
mod shared;
#[cfg(feature = "silero")]
pub mod silero;

pub use accounts::{Login, Provider};
pub use hearing::{Ear, Hearing};
pub use permits::{ModelStatus, Permit, Permits};
pub use shared::RENEW;
