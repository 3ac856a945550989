//! The carriers' door: verify, apply in one round trip, answer.
//!
//! Invariant: an unauthentic request changes nothing; an authentic event is applied before it is answered 2xx, or it is not
//! answered 2xx. There is no inbox and no work after the answer.
//! Not here: what an event does (`dialing::finish`), and the carriers' formats (`carriers`).

mod answer;
mod twilio;

use axum::Router;

use crate::context::Context;

/// The routes that carriers call.
pub fn router() -> Router<Context> {
    twilio::router()
}
