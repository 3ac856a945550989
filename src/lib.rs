//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod error;
pub mod ids;

// facts
pub mod leads;
