//! Tests across modules, one file per promise, in one program so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod a_run_dials_every_number_once;
mod api_auth;
mod api_businesses;
mod api_frame;
mod api_harness;
mod api_idempotency;
mod api_suppressions;
mod by_hand;
mod doubt_is_resolved_by_asking;
mod events_in_any_order;
mod house;
mod leads_check;
mod leads_csv;
mod leads_example;
mod leads_message;
mod leaves_nothing;
mod runs_bad_input;
mod runs_document;
mod runs_harness;
mod runs_import;
mod runs_moves;
mod runs_outcomes;
mod runs_progress;
mod sandbox_carrier;
mod sandbox_carrier_desk;
mod sandbox_carrier_faults;
mod sandbox_carrier_figures;
mod sandbox_carrier_lists;
mod sandbox_carrier_signature;
mod scripted_carrier;
mod states_in_two_languages;
mod the_gate_heals;
mod the_limit_holds;
mod twilio_client;
