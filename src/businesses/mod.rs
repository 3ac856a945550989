//! Businesses: limits, keys, suppressed numbers and sealed carrier credentials.
//!
//! Invariant: what may change the verdict of a claim (limit, state, suppression, account) is written under the lock of
//! the business row; a secret leaves this module only as [`secrecy::SecretString`].
//! Not here: who may ask (`api::auth`), and what is done with an account (`carriers`, `dialing`).

pub mod accounts;
pub mod answering;
pub mod answers;
pub mod audit;
pub mod caller_ids;
pub mod calling_rules;
pub mod health;
pub mod keys;
pub mod profile;
pub mod profiles;
pub mod resealing;
pub mod retention;
pub mod rules;
pub mod standing;
pub mod store;
pub mod suppressions;
pub mod vault;
