//! An answered call: it listens to whatever the caller commands, until somebody hangs up.
use std::sync::Arc;

use serde_json::{Map, json};

use super::{events::event, streaming};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    life::{Turn, passed, wait},
    outcome::Outcome,
};

/// Says who answered where that was asked for, opens the stream that the dial names, and waits for
/// commands: without a stream the far end never hangs up by itself.
pub(crate) async fn converse(shared: &Arc<Shared>, id: CallId) {
    let (result, streaming) = {
        let world = shared.world();
        let call = world.call(id);
        let order = call.dial.telnyx();
        let detects = order.is_some_and(|order| order.detects);
        let result = detects.then_some(if call.outcome == Outcome::Machine { "machine" } else { "human" });
        (result, order.and_then(|order| order.streaming.clone()))
    };
    if let Some(streaming) = streaming {
        // Nobody has streamed this call before, so that it is not refused.
        streaming::start(shared, id, streaming).ok();
    }
    if let Some(result) = result {
        let more = Map::from_iter([("result".to_owned(), json!(result))]);
        shared.tell(id, Status::InProgress, |call, _| {
            event(call, Status::InProgress, "call.machine.detection.ended", more)
        });
    }
    wait(shared, id, Status::InProgress, None).await;
}

/// Speaks in an answered call; the end of it is an event of its own.
pub(super) fn speak(shared: &Arc<Shared>, id: CallId, words: String) {
    let length = {
        let mut world = shared.world();
        let world = &mut *world;
        let length = shared.config.talk_ms.draw(&mut world.random);
        let call = &mut world.calls[id.0];
        call.heard.push(words);
        (call.outcome != Outcome::NeverEnds).then(|| call.tempo.of(length))
    };
    tell(shared, id, "call.speak.started", "started");
    let Some(length) = length else { return };
    let here = Arc::clone(shared);
    shared.spawn(async move {
        if passed(&here, id, Status::InProgress, length).await == Turn::Elapsed {
            tell(&here, id, "call.speak.ended", "completed");
        }
    });
}

fn tell(shared: &Arc<Shared>, id: CallId, name: &'static str, status: &str) {
    let more = Map::from_iter([("status".to_owned(), json!(status))]);
    shared.tell(id, Status::InProgress, |call, _| event(call, Status::InProgress, name, more));
}
