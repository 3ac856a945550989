//! The life of a call: its turn, dialing, ringing, an answer, the end. Timers only, no polling.
use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Shared,
    call::{CallId, Status},
    outcome::Outcome,
    telnyx, twilio,
};

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The time is over.
    Elapsed,
    /// Somebody moved the call meanwhile: it is in another state now, or has new orders.
    Moved,
}

/// The lengths of one call's steps, drawn when it is accepted.
#[derive(Debug, Clone, Copy)]
struct Plan {
    outcome: Outcome,
    turn: Instant,
    dial: Duration,
    ring: Duration,
    ring_limit: Duration,
    time_limit: Duration,
    /// It came in, and waits for a command.
    parked: bool,
}

/// Lives one call from the queue to its end.
pub(crate) async fn live(shared: Arc<Shared>, id: CallId) {
    let plan = plan(&shared, id);
    if wait(&shared, id, Status::Queued, Some(plan.turn)).await == Turn::Moved {
        return;
    }
    if plan.outcome == Outcome::StaysQueued {
        wait(&shared, id, Status::Queued, None).await;
        return;
    }
    if !shared.advance(id, Status::Initiated, None)
        || passed(&shared, id, Status::Initiated, plan.dial).await == Turn::Moved
    {
        return;
    }
    if ring(&shared, id, plan).await == Status::InProgress {
        converse(&shared, id, plan.time_limit).await;
    }
}

/// From dialing until answered or given up; the state that it came to.
async fn ring(shared: &Arc<Shared>, id: CallId, plan: Plan) -> Status {
    match plan.outcome {
        Outcome::Busy => shared.advance(id, Status::Busy, None),
        Outcome::Failed => shared.advance(id, Status::Failed, None),
        // Twilio refuses such a create; Telnyx ends the call by a 403 of its own.
        Outcome::Blocked => shared.advance(id, Status::Failed, Some(403)),
        _ => shared.advance(id, Status::Ringing, None),
    };
    let patience = match plan.outcome {
        Outcome::Held => plan.ring_limit,
        _ if plan.parked => plan.ring_limit,
        _ => plan.ring.min(plan.ring_limit),
    };
    if passed(shared, id, Status::Ringing, patience).await == Turn::Elapsed {
        let nobody = matches!(plan.outcome, Outcome::NoAnswer | Outcome::Held) || plan.ring >= plan.ring_limit;
        let then = match (plan.parked, nobody) {
            (true, _) => Status::Canceled,
            (false, true) => Status::NoAnswer,
            (false, false) => Status::InProgress,
        };
        shared.advance(id, then, None);
    }
    shared.status(id)
}

/// Talks until the script, the other side or the time limit ends the call.
async fn converse(shared: &Arc<Shared>, id: CallId, limit: Duration) {
    // An end from outside is seen by every wait inside; only the limit has to cut in.
    let talk = async {
        let twilio = shared.world().call(id).dial.twilio().is_some();
        if twilio { twilio::converse(shared, id).await } else { telnyx::converse(shared, id).await }
    };
    if tokio::time::timeout(limit, talk).await.is_err() {
        shared.note(id, "time limit");
    }
    shared.advance(id, Status::Completed, None);
}

fn plan(shared: &Shared, id: CallId) -> Plan {
    let mut world = shared.world();
    let world = &mut *world;
    let (dial, ring) = (shared.config.dial_ms.draw(&mut world.random), shared.config.ring_ms.draw(&mut world.random));
    let call = &world.calls[id.0];
    Plan {
        outcome: call.outcome,
        turn: call.turn.into(),
        dial: call.tempo.of(dial),
        ring: call.tempo.of(ring),
        ring_limit: call.dial.ring_limit,
        time_limit: call.dial.time_limit,
        parked: call.dial.inbound && call.dial.telnyx().is_some(),
    }
}

/// Waits for a time, unless the call is not, or does not stay, in a state.
pub(crate) async fn passed(shared: &Shared, id: CallId, state: Status, time: Duration) -> Turn {
    wait(shared, id, state, Some(Instant::now() + time)).await
}

/// Waits until a moment, or for ever, unless the call is not, or does not stay, in a state.
pub(crate) async fn wait(shared: &Shared, id: CallId, state: Status, until: Option<Instant>) -> Turn {
    let nudge = Arc::clone(&shared.world().call(id).nudge);
    let elapsed = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(elapsed);
    loop {
        // Made before the look, so that no move is missed between the two. A call may have several who wait: its life, its stream.
        let moved = nudge.notified();
        if !shared.world().call(id).stands(state) {
            return Turn::Moved;
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return Turn::Elapsed;
        }
        tokio::select! {
            () = moved => {}
            () = &mut elapsed => {}
        }
    }
}
