//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod clock;
pub mod config;
pub mod error;
pub mod ids;
pub mod shutdown;
pub mod stores;
pub mod telemetry;

// facts: one store each
pub mod attempts;
pub mod businesses;
pub mod jobs;
pub mod leads;
pub mod runs;

// flows
pub mod context;
pub mod dialing;

// doors
pub mod api;

// house
pub mod server;
