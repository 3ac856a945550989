//! An answered call: it listens to whatever the caller commands, until somebody hangs up.
use std::{sync::Arc, time::Instant};

use serde_json::{Map, json};

use super::{events::event, request::Detects, streaming};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    life::{Turn, passed, wait},
    outcome::Outcome,
};

/// Says who answered where that was asked for, opens the stream that the dial names, and waits for
/// commands: without a stream the far end never hangs up by itself.
pub(crate) async fn converse(shared: &Arc<Shared>, id: CallId) {
    let listening = shared.picked_up(id);
    let (detects, streaming) = {
        let world = shared.world();
        let order = world.call(id).dial.telnyx();
        (order.map_or(Detects::Nothing, |order| order.detects), order.and_then(|order| order.streaming.clone()))
    };
    if let Some(streaming) = streaming {
        // Nobody has streamed this call before, so that it is not refused.
        streaming::start(shared, id, streaming).ok();
    }
    if detects != Detects::Nothing && passed(shared, id, Status::InProgress, listening.verdict).await == Turn::Elapsed {
        let result = if matches!(listening.outcome, Outcome::Machine | Outcome::Fax) { "machine" } else { "human" };
        tell(shared, id, "call.machine.detection.ended", ("result", result), None);
        let greeting = listening.beep.filter(|_| detects == Detects::Greeting);
        if let Some(greeting) = greeting.map(|beep| beep.saturating_sub(listening.verdict))
            && passed(shared, id, Status::InProgress, greeting).await == Turn::Elapsed
        {
            tell(shared, id, "call.machine.greeting.ended", ("result", "beep_detected"), None);
        }
    }
    wait(shared, id, Status::InProgress, None).await;
}

/// Speaks in an answered call, in place of what was being said, where that is wished; the end of it is an event of its own, with
/// the state that the command gave.
pub(super) fn speak(shared: &Arc<Shared>, id: CallId, words: String, stops: bool, state: Option<String>) {
    let (length, number, begun) = {
        let mut world = shared.world();
        let world = &mut *world;
        let length = shared.config.talk_ms.draw(&mut world.random);
        let call = &mut world.calls[id.0];
        call.heard.push(words.clone());
        call.speeches += u32::from(stops);
        let length = (call.outcome != Outcome::NeverEnds).then(|| call.tempo.of(length));
        (length, call.speeches, Instant::now())
    };
    tell(shared, id, "call.speak.started", ("status", "started"), state.clone());
    let Some(length) = length else { return };
    let here = Arc::clone(shared);
    shared.spawn(async move {
        if passed(&here, id, Status::InProgress, length).await == Turn::Elapsed {
            if here.world().call(id).speeches == number {
                here.said_to(id, begun, &words);
            }
            // Telnyx has no word of its own for a speech that another one stopped.
            tell(&here, id, "call.speak.ended", ("status", "completed"), state);
        }
    });
}

/// Puts the call through to another number, where they talk for as long as a message takes; then it is over.
pub(super) fn put_through(shared: &Arc<Shared>, id: CallId, number: &str) {
    let length = {
        let mut world = shared.world();
        world.redirected(id, number);
        let length = shared.config.talk_ms.draw(&mut world.random);
        world.call(id).tempo.of(length)
    };
    shared.touch();
    let here = Arc::clone(shared);
    shared.spawn(async move {
        if passed(&here, id, Status::InProgress, length).await == Turn::Elapsed {
            here.advance(id, Status::Completed, None);
        }
    });
}

fn tell(shared: &Arc<Shared>, id: CallId, name: &'static str, (field, value): (&str, &str), state: Option<String>) {
    let mut more = Map::from_iter([(field.to_owned(), json!(value))]);
    more.extend(state.map(|state| ("client_state".to_owned(), json!(state))));
    shared.tell(id, Status::InProgress, |call, _| event(call, Status::InProgress, name, more));
}
