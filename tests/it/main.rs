//! Promises across modules, one file each.

mod scripted_carrier;
mod twilio_client;
