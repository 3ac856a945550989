//! The REST door: requests in, one call of a fact or a flow, problems or answers out.
//!
//! Invariant: every route under `/v1` names who may use it in its first extractor.
//! Not here: SQL, carrier words and rules; webhooks and pages, which are doors of their own.

pub mod auth;
pub mod body;
pub mod page;
pub mod pointer;
pub mod time;
