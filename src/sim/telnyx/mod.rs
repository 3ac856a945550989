//! Telnyx's side of the sandbox: dial, commands, reads, and webhooks signed with Ed25519 (Call Control v2).
//!
//! Invariant: the double of a dial within 60 s makes no second call; `client_state` comes back in every event and list.
//! Not here: how long a call rings and how it ends (`life`), counts (`figures`), and everything that Telnyx can do besides
//! placing calls, taking those that come in, speaking, streaming, sending tones, transferring and hanging up.
mod commands;
mod conversation;
mod create;
mod events;
mod incoming;
mod memory;
mod reads;
mod refusal;
mod request;
mod signature;
mod streaming;
mod webhook;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, header},
    routing::{get, post},
};

pub(crate) use conversation::converse;
pub use create::Double;
pub(crate) use events::{Event, announcement, event, forge};
pub(crate) use incoming::inbound;
pub(crate) use memory::Memory;
pub(crate) use refusal::Refusal;
pub(crate) use request::Order;
pub(crate) use signature::public_key;
pub use signature::sign;
pub(crate) use webhook::{Parcel, send};

use crate::sim::{Shared, faults::ApiFault};

/// Routes as at `https://api.telnyx.com`.
pub(crate) fn router() -> Router<Arc<Shared>> {
    let api = Router::new()
        .route("/calls", post(create::create))
        .route("/calls/{id}", get(reads::fetch))
        .route("/calls/{id}/actions/{command}", post(commands::command))
        .route("/connections/{connection}/active_calls", get(reads::active_calls))
        .route("/call_events", get(reads::call_events))
        .route("/recordings", get(reads::recordings))
        .route("/recordings/{id}", get(reads::recording).delete(reads::delete_recording))
        .fallback(async || Refusal::not_found());
    Router::new().nest("/v2", api)
}

/// The key of a request; without any, Telnyx answers as if there were nothing.
fn key(headers: &HeaderMap) -> Result<&str, Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|value| value.strip_prefix("Bearer ")) {
        None => Err(Refusal::not_found()),
        Some("") => Err(Refusal::credentials()),
        Some(key) => Ok(key),
    }
}

/// Whether a key may use a connection.
fn authenticate(shared: &Shared, connection: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let key = key(headers)?;
    if shared.world().lets_in(connection, key, &shared.config) { Ok(()) } else { Err(Refusal::credentials()) }
}

/// The fault that strikes a read or a command.
fn struck(fault: Option<(ApiFault, Option<u32>)>) -> Result<(), Refusal> {
    match fault {
        None => Ok(()),
        Some((ApiFault::Unavailable | ApiFault::LostAnswer, _)) => Err(Refusal::unavailable()),
        Some((ApiFault::Unauthorized, _)) => Err(Refusal::credentials()),
        Some((ApiFault::Http429, secs)) => Err(Refusal::too_many(secs)),
    }
}
