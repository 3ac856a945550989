//! Commands that lead the sound of a call elsewhere: to a media stream of ours, or to another number.
//!
//! Source: Telnyx, "Streaming start" and "Transfer call"; "Media Streaming over WebSockets" for what the fields mean.

use serde_json::json;
use url::Url;

use super::client::Telnyx;
use super::codes;
use super::incoming::on_leg_of;
use crate::carriers::CarrierError;
use crate::carriers::call::HangUp;

impl Telnyx<'_> {
    /// Streams what the callee says to `url`, and plays to the callee what comes from there: mu-law, as it is.
    pub(in crate::carriers) async fn stream(
        &self,
        call_id: &str,
        url: &Url,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        let body = json!({
            "stream_url": url.as_str(),
            "stream_track": "inbound_track",
            // Without it the callee's sound comes in the codec of the call, whichever that is.
            "stream_codec": "PCMU",
            "stream_bidirectional_mode": "rtp",
            "stream_bidirectional_codec": "PCMU",
            "command_id": key,
        });
        match self.command(call_id, "streaming_start", &body).await {
            // The answer to an earlier one was lost, or its double was told of twice: one stream is enough.
            Err(CarrierError::Refused { code: codes::STREAMING_ALREADY, .. }) => Ok(HangUp::Done),
            done => done,
        }
    }

    /// Puts a live call through to `number`. Nobody picks up there: the call stays, and the other leg's end says whose it was.
    pub(in crate::carriers) async fn transfer(
        &self,
        call_id: &str,
        number: &str,
        caller_id: &str,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        let leg = on_leg_of(call_id);
        let body = json!({ "to": number, "from": caller_id, "command_id": key, "target_leg_client_state": leg });
        self.command(call_id, "transfer", &body).await
    }
}
