<<<<<<< HEAD
//! Promises across modules, one file each.

mod scripted_carrier;
mod twilio_client;
=======
fn main() {}
>>>>>>> 8c7b655
