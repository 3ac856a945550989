//! Tests across modules, one file per promise, in one program so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

#[cfg(test)]
mod api_auth;
#[cfg(test)]
mod api_businesses;
#[cfg(test)]
mod api_frame;
#[cfg(test)]
mod api_harness;
#[cfg(test)]
mod api_idempotency;
#[cfg(test)]
mod api_suppressions;
mod leads_check;
mod leads_csv;
mod leads_example;
mod leads_message;
mod runs_bad_input;
mod runs_document;
mod runs_harness;
mod runs_import;
mod runs_moves;
mod runs_outcomes;
mod runs_progress;
