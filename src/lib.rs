//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod config;
pub mod error;
pub mod ids;
pub mod shutdown;
pub mod stores;
pub mod telemetry;

// doors
pub mod ops;
