//! Events that come while others are being written are written together: one round trip and one commit for all of them.
//!
//! An event that comes alone is written at once. While a batch is under way the next one gathers, so that the wait is at most
//! one batch longer, and the busier it is, the less each event costs. Nobody is told of an event before its batch has
//! committed; a batch that fails is repeated event by event, so that one that cannot be written spoils no other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sqlx::PgPool;
use tokio::sync::oneshot;

use crate::{
    attempts::{
        events::{self, Answer, Event, Question},
        ledger::Change,
        state::AttemptState,
    },
    ids::AttemptId,
};

/// Most events of one batch: their attempts are locked until it commits.
const MOST: usize = 64;

/// The batches of a process. Ends are flushed to the disk, and what may be lost in a crash does not wait for them.
#[derive(Clone)]
pub struct Batches {
    passing: Lane<Event>,
    ends: Lane<Event>,
    answers: Lane<Question>,
}

impl Batches {
    /// Batches over this pool.
    #[must_use]
    pub fn new(pg: &PgPool) -> Self {
        Self { passing: Lane::new(pg), ends: Lane::new(pg), answers: Lane::new(pg) }
    }

    /// The same as [`events::apply`].
    ///
    /// # Errors
    /// Where Postgres does not answer: nothing is known then, and the same call may be made again.
    pub async fn apply(&self, event: Event) -> sqlx::Result<Option<Change>> {
        let lane = if event.state == AttemptState::Ended { &self.ends } else { &self.passing };
        lane.write(event).await
    }

    /// Applies an answer and says what the call may hear; `None` where it must hear nothing: its attempt is closed, cancelled,
    /// unknown, another call's, or was answered too long after its ringing should have ended.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn answer(&self, question: Question) -> sqlx::Result<Option<Answer>> {
        self.answers.write(question).await
    }
}

/// What can be written together with others of its kind.
trait Together: Send + Sync + Sized + 'static {
    /// What becomes of one.
    type Outcome: Send + 'static;

    /// Whose it is: attempts are locked in this order.
    fn attempt(&self) -> AttemptId;

    /// Writes them in one transaction; one outcome for each, in their order.
    fn write(pg: &PgPool, all: &[Self]) -> impl Future<Output = sqlx::Result<Vec<Self::Outcome>>> + Send;
}

impl Together for Event {
    type Outcome = Option<Change>;

    fn attempt(&self) -> AttemptId {
        self.attempt
    }

    async fn write(pg: &PgPool, all: &[Self]) -> sqlx::Result<Vec<Self::Outcome>> {
        events::apply_all(pg, all).await
    }
}

impl Together for Question {
    type Outcome = Option<Answer>;

    fn attempt(&self) -> AttemptId {
        self.attempt
    }

    async fn write(pg: &PgPool, all: &[Self]) -> sqlx::Result<Vec<Self::Outcome>> {
        events::answer_all(pg, all).await
    }
}

type Waiting<E> = (E, oneshot::Sender<sqlx::Result<<E as Together>::Outcome>>);

/// One batch at a time.
struct Lane<E: Together> {
    pg: PgPool,
    queue: Arc<Mutex<Queue<E>>>,
}

struct Queue<E: Together> {
    waiting: VecDeque<Waiting<E>>,
    under_way: bool,
}

impl<E: Together> Clone for Lane<E> {
    fn clone(&self) -> Self {
        Self { pg: self.pg.clone(), queue: self.queue.clone() }
    }
}

impl<E: Together> Lane<E> {
    fn new(pg: &PgPool) -> Self {
        let queue = Queue { waiting: VecDeque::new(), under_way: false };
        Self { pg: pg.clone(), queue: Arc::new(Mutex::new(queue)) }
    }

    async fn write(&self, one: E) -> sqlx::Result<E::Outcome> {
        let (told, outcome) = oneshot::channel();
        let first = {
            let mut queue = self.lock();
            queue.waiting.push_back((one, told));
            !std::mem::replace(&mut queue.under_way, true)
        };
        if first {
            // A task of its own: whoever asked may be gone before the batch is.
            tokio::spawn(self.clone().write_all());
        }
        outcome.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    async fn write_all(self) {
        // Also after a panic the next event must find somebody to write it.
        let under_way = UnderWay(&self);
        loop {
            let batch: Vec<Waiting<E>> = {
                let mut queue = self.lock();
                let most = queue.waiting.len().min(MOST);
                if most == 0 {
                    queue.under_way = false;
                    break;
                }
                queue.waiting.drain(..most).collect()
            };
            self.write_batch(batch).await;
        }
        std::mem::forget(under_way);
    }

    async fn write_batch(&self, mut batch: Vec<Waiting<E>>) {
        // One order for everybody, so that two batches never wait for each other. Events of one attempt keep theirs.
        batch.sort_by_key(|(one, _)| one.attempt());
        let (all, told): (Vec<E>, Vec<_>) = batch.into_iter().unzip();
        let outcomes = match E::write(&self.pg, &all).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if all.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::warn!(%error, events = all.len(), "a batch was not written; each of its events is tried alone");
                let mut outcomes = Vec::with_capacity(all.len());
                for one in &all {
                    let alone = E::write(&self.pg, std::slice::from_ref(one)).await;
                    outcomes.push(alone.and_then(|mut one| one.pop().ok_or(sqlx::Error::RowNotFound)));
                }
                outcomes
            }
        };
        for (told, outcome) in told.into_iter().zip(outcomes) {
            // Whoever is gone does not hear it; it is written all the same.
            drop(told.send(outcome));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<E>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the turn of a lane whose batch was dropped in the middle; whoever waited for it is told by the closed channel.
struct UnderWay<'a, E: Together>(&'a Lane<E>);

impl<E: Together> Drop for UnderWay<'_, E> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.under_way = false;
        queue.waiting.clear();
    }
}
