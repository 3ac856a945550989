//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod config;
pub mod error;
pub mod ids;
pub mod killpoints;
pub mod shutdown;
pub mod stores;
pub mod telemetry;

// facts
pub mod attempts;
pub mod businesses;
pub mod carriers;
pub mod jobs;
pub mod leads;
pub mod runs;
pub mod slots;

// one of each fact
pub mod context;

// flows
pub mod dialing;

// doors
pub mod webhooks;
pub mod worker;

// aside: the pretend carrier, which knows nothing of the rest
pub mod sim;
