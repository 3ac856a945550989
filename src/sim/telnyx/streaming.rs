//! A media stream of an answered call: by `stream_url` of the dial, or by command (Telnyx, media streaming).
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::{Refusal, events::event};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    media::{self, Dialect, End},
};

/// What a dial or a `streaming_start` asks for.
#[derive(Debug, Clone)]
pub(crate) struct Streaming {
    url: String,
    /// The payload is sound as it is, not MP3.
    rtp: bool,
}

impl Streaming {
    /// Reads the stream of a request; none where it names no `stream_url`.
    pub(super) fn read(body: &Map<String, Value>) -> Result<Option<Self>, Refusal> {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let Some(url) = text("stream_url") else { return Ok(None) };
        if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss")) {
            return Err(Refusal::field(10015, "/stream_url", "stream_url is no WebSocket address"));
        }
        if text("stream_track").is_some_and(|track| track != "inbound_track") {
            return Err(Refusal::field(10015, "/stream_track", "The sandbox streams the inbound track"));
        }
        let codec = text("stream_bidirectional_codec").unwrap_or("PCMU");
        if codec != "PCMU" || text("stream_codec").is_some_and(|codec| !matches!(codec, "PCMU" | "default")) {
            return Err(Refusal::field(10015, "/stream_bidirectional_codec", "The sandbox knows PCMU"));
        }
        Ok(Some(Self { url: url.to_owned(), rtp: text("stream_bidirectional_mode") == Some("rtp") }))
    }
}

/// Streams until the call ends, somebody stops it, or the server leaves. A callee who hangs up ends the call.
pub(super) fn start(shared: &Arc<Shared>, id: CallId, streaming: Streaming) -> Result<(), Refusal> {
    let stop = CancellationToken::new();
    let stream = Uuid::new_v4().to_string();
    let start = {
        let mut world = shared.world();
        let call = world.call_mut(id);
        if call.streaming.is_some() {
            return Err(Refusal::new(422, 90045, "Streaming is in use"));
        }
        call.streaming = Some(stop.clone());
        let order = call.dial.telnyx();
        json!({
            "user_id": Uuid::nil(), "call_control_id": call.sid, "call_session_id": order.map(|order| order.session),
            "from": call.dial.from, "to": call.dial.to, "tags": [],
            "client_state": order.and_then(|order| order.client_state.clone()),
        })
    };
    let here = Arc::clone(shared);
    shared.spawn(async move {
        let url = streaming.url.clone();
        let opened = {
            let (here, url, stream) = (Arc::clone(&here), url.clone(), stream.clone());
            move || tell(&here, id, "streaming.started", &[("stream_url", json!(url)), ("stream_id", json!(stream))])
        };
        let dialect = Dialect::Telnyx { stream: stream.clone(), start, rtp: streaming.rtp };
        let order = media::Order { url: url.clone(), signature: None, dialect, stop };
        let end = media::run(&here, id, order, opened).await;
        here.world().call_mut(id).streaming = None;
        match &end {
            End::Broken(why) => {
                here.note(id, format!("90046: {why}"));
                let params = json!({"stream_url": url, "track": "inbound_track"});
                let more = [
                    ("failure_reason", json!("connection_failed")),
                    ("stream_id", json!(stream)),
                    ("stream_params", params),
                    ("stream_type", json!("websocket")),
                ];
                tell(&here, id, "streaming.failed", &more);
            }
            _ => tell(&here, id, "streaming.stopped", &[("stream_url", json!(url)), ("stream_id", json!(stream))]),
        }
        if end == End::HungUp {
            here.advance(id, Status::Completed, None);
        }
    });
    Ok(())
}

/// Ends the stream of a call.
pub(super) fn stop(shared: &Shared, id: CallId) -> Result<(), Refusal> {
    let stop = shared.world().call(id).streaming.clone();
    stop.ok_or_else(|| Refusal::new(422, 90048, "Streaming is not in use")).map(|stop| stop.cancel())
}

fn tell(shared: &Arc<Shared>, id: CallId, name: &'static str, more: &[(&str, Value)]) {
    let more = Map::from_iter(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    shared.tell(id, Status::InProgress, |call, _| event(call, Status::InProgress, name, more));
}
