//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod config;
pub mod error;
pub mod ids;
pub mod shutdown;
pub mod stores;
pub mod telemetry;

// facts: one store each
pub mod businesses;

// flows
pub mod context;

// doors
pub mod api;

// house
pub mod server;
