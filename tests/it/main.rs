//! The promises, each in the file named after it, against real stores.

mod scripted_carrier;
mod twilio_client;
