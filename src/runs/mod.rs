//! Runs.
//!
//! Invariant: x
//! Not here: x
pub mod refusal;
pub mod ending;
