//! Waiting for something to happen in the sandbox, and driving a call by hand.
use std::{sync::Arc, time::Duration};

use super::{Shared, call::Status, world::World};

/// How often a waiter looks at most.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What [`Sim::wait`](crate::sim::Sim::wait) waits for. Counts run from the start or the last reset of the figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// So many creates were received.
    Requests(u64),
    /// So many creates were accepted.
    Created(u64),
    /// So many calls have ended.
    Ended(u64),
    /// No call is open, no create is being decided, and no callback is under way.
    Idle,
    /// So many media streams are open, neither more nor fewer.
    Streams(u64),
    /// So many sessions of voice providers are open, neither more nor fewer.
    Sessions(u64),
    /// A call, by its SID, came to this state or a later one.
    Reached(String, Status),
}

/// What was waited for did not happen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it did not happen in time")]
pub struct Late;

/// Why a call cannot be driven by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undrivable {
    /// No call has this SID.
    #[error("no call has this SID")]
    Unknown,
    /// The call is past this already, or did not ring in time.
    #[error("the call is not in a state for this")]
    State,
    /// The call has no status callback.
    #[error("the call has no status callback")]
    Silent,
}

impl Until {
    pub(crate) fn is_met(&self, world: &World, shared: &Shared) -> bool {
        match self {
            Self::Requests(count) => world.tally.requests() >= *count,
            Self::Created(count) => world.tally.created() >= *count,
            Self::Ended(count) => world.tally.ended() >= *count,
            Self::Idle => world.tally.live() == 0 && world.in_flight == 0,
            Self::Streams(count) => shared.media().live() == *count,
            Self::Sessions(count) => shared.switchboard().live() == *count,
            Self::Reached(sid, status) => {
                world.find(sid).is_some_and(|id| world.call(id).status().rank() >= status.rank())
            }
        }
    }
}

impl Shared {
    pub(crate) async fn until(&self, done: impl Fn(&World) -> bool, limit: Duration) -> Result<(), Late> {
        let mut changes = self.changed.subscribe();
        let watch = async {
            while !done(&self.world()) {
                // The sender lives as long as `self`, so that this cannot fail.
                changes.changed().await.ok();
                // Changes come in dozens to a call; whoever waits looks once at what a millisecond has brought.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, watch).await.map_err(|_| Late)
    }

    pub(crate) async fn answer(self: &Arc<Self>, sid: &str) -> Result<(), Undrivable> {
        let id = self.world().find(sid).ok_or(Undrivable::Unknown)?;
        let rings = |world: &World| world.call(id).status().rank() >= Status::Ringing.rank();
        self.until(rings, Duration::from_secs(5)).await.map_err(|_| Undrivable::State)?;
        if self.advance(id, Status::InProgress, None) { Ok(()) } else { Err(Undrivable::State) }
    }

    pub(crate) fn end(self: &Arc<Self>, sid: &str, status: Status) -> Result<(), Undrivable> {
        let id = self.world().find(sid).ok_or(Undrivable::Unknown)?;
        if status.is_final() && self.advance(id, status, None) { Ok(()) } else { Err(Undrivable::State) }
    }
}
