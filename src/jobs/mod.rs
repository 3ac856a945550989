//! Jobs: one number of a run each, and the bell that asks a worker to look.
//!
//! Invariant: a job is a row first; its state moves only by the functions of the schema, and a final state never changes.
//! Not here: dialing it (`dialing::next`), and its attempts (`attempts`).

pub mod claim;
pub mod queue;
