//! Tests across modules, one file per promise, in one program so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod leads_check;
mod leads_csv;
mod leads_example;
mod leads_message;
