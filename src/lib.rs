//! Rollcall: an outbound dialer. The list of modules from the ground up; no code.

// ground
pub mod arenas;
pub mod clock;
pub mod config;
pub mod country;
pub mod error;
pub mod ids;
pub mod killpoints;
pub mod objects;
pub mod policy;
pub mod shutdown;
pub mod stores;
pub mod telemetry;

// facts: one store each
pub mod agents;
pub mod attempts;
pub mod businesses;
pub mod calls;
pub mod carriers;
pub mod heartbeats;
pub mod jobs;
pub mod leads;
pub mod models;
pub mod runs;
pub mod slots;

// one of each fact
pub mod context;

// flows: the only place where two facts meet
pub mod dialing;

// doors: they do not know each other
pub mod api;
pub mod ops;
pub mod voice;
pub mod webhooks;
pub mod worker;

// house
pub mod server;

// aside: the pretend carrier, which knows nothing of the rest
pub mod sim;
