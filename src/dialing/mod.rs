//! Flows: where the facts meet.
//!
//! Invariant: each flow may run twice with the same result, and takes its locks in one order: business, run, attempts, jobs,
//! tally.
//! Not here: SQL of one fact alone, HTTP, carrier words.

pub mod cancel;
pub mod create;
pub mod import;
pub mod moves;
pub mod why;
