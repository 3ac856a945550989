//! May this number ring now, and if not, when and why: rules without a store.
//!
//! Invariant: nothing here reads a clock or a store; the same question has the same answer.
//! Not here: who asks, and what is done with the answer (`dialing`, and the claim in Postgres).

pub mod zones;
