//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod error;
pub mod ids;

// aside: the pretend carrier, which knows nothing of the rest
pub mod sim;
