//! Promises of the whole, each on real stores.

mod api_auth;
mod api_businesses;
mod api_frame;
mod api_harness;
mod api_idempotency;
mod api_suppressions;
