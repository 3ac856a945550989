//! Twilio's side of the sandbox: the Call resource over REST, webhooks, signatures, TwiML.
//!
//! Invariant: nothing that a client sent in a URL comes back in a Call row; only Events shows it.
//! Not here: how long a call rings and how it ends (`life`), counts (`figures`), and everything that
//! Twilio can do besides placing calls. An API key in place of the account SID is refused.
mod conversation;
mod create;
mod dial;
mod filter;
mod reads;
mod refusal;
mod rows;
mod signature;
mod status;
mod twiml;
mod webhook;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, header},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};

pub(crate) use conversation::converse;
pub(crate) use dial::{Event, Order, Script, inbound, token_of};
pub(crate) use refusal::Refusal;
pub use signature::{sign, signed_url};
pub use status::Forged;
pub(crate) use status::{announcement, forge, recording_callback};
pub(crate) use webhook::{Parcel, Post};

use crate::sim::Shared;

/// The version of Twilio's REST interface that the sandbox speaks.
pub(crate) const API_VERSION: &str = "2010-04-01";

/// Routes as at `https://api.twilio.com`.
pub(crate) fn router() -> Router<Arc<Shared>> {
    let accounts = Router::new()
        .route("/{account}/Calls.json", post(create::create).get(reads::list))
        .route("/{account}/Calls/{file}", get(reads::fetch).post(reads::update))
        .route("/{account}/Calls/{sid}/Events.json", get(reads::events))
        .route("/{account}/Calls/{sid}/Recordings.json", get(reads::recordings))
        .route("/{account}/Recordings/{file}", get(reads::recording).delete(reads::delete_recording))
        .fallback(async |uri: axum::http::Uri| Refusal::not_found(uri.path()));
    Router::new().nest(&format!("/{API_VERSION}/Accounts"), accounts)
}

/// Twilio's ids: a prefix and 32 hex digits.
pub(crate) fn is_sid(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// HTTP Basic: the account of the path and its auth token.
fn authenticate(shared: &Shared, account: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let decoded = given.and_then(|value| value.strip_prefix("Basic ")).and_then(|text| STANDARD.decode(text).ok());
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
        return Err(Refusal::credentials());
    };
    let plausible = user == account && is_sid("AC", account) && !password.is_empty();
    if plausible && shared.world().lets_in(account, password, &shared.config) {
        Ok(())
    } else {
        Err(Refusal::credentials())
    }
}
