//! One webhook: signed anew at each try, and tried again as the dial asked for (Telnyx, Voice API webhooks).
use std::time::Duration;

use axum::http::header;
use serde_json::{Value, json};

use super::signature::sign;
use crate::sim::{Shared, clock::Stamp};

/// Telnyx waits so long for an answer by default.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses where the dial asks for none: how many Telnyx makes of itself is not documented.
const PAUSES_MS: [u64; 2] = [200, 400];

/// An event on its way.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(super) url: String,
    /// Before each repeat; none where the dial says nothing.
    pub(super) pauses_ms: Option<Vec<u64>>,
    /// The event without `meta`.
    pub(super) body: Value,
}

/// Sends an event with its repeats: tries, and the last HTTP status or why there was none. Only exactly 200 is a success; what is
/// refused with another 4xx than 408 and 429 is not sent again.
pub(crate) async fn send(shared: &Shared, parcel: &Parcel) -> (u32, Result<u16, String>) {
    let client = match shared.post.client(u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX)) {
        Ok(client) => client,
        Err(error) => return (0, Err(error)),
    };
    let pauses = parcel.pauses_ms.as_deref().unwrap_or(&PAUSES_MS);
    let mut tries = 0;
    loop {
        tries += 1;
        let body = json!({ "data": parcel.body, "meta": { "attempt": tries, "delivered_to": parcel.url } }).to_string();
        let timestamp = (Stamp::now().unix_ms() / 1000).to_string();
        let signature = sign(shared.world().telnyx.seed(), &timestamp, body.as_bytes());
        let request = client
            .post(&parcel.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "telnyx-webhooks")
            .header("Telnyx-Signature-Ed25519", signature)
            .header("Telnyx-Timestamp", timestamp)
            .timeout(TIMEOUT)
            .body(body);
        let outcome = match request.send().await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(error.without_url().to_string()),
        };
        let again = match outcome {
            Ok(200 | 300..=399) => false,
            Ok(400..=499) => matches!(outcome, Ok(408 | 429)),
            _ => true,
        };
        let pause = pauses.get(usize::try_from(tries - 1).unwrap_or(usize::MAX)).filter(|_| again);
        let Some(pause) = pause else { return (tries, outcome) };
        tokio::time::sleep(Duration::from_millis(*pause)).await;
    }
}
