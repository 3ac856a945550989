//! Events of a process, written together: see `stores::together`.

use sqlx::{PgConnection, PgPool};

use crate::{
    attempts::{
        events::{self, Answer, Event, Outcome},
        ledger::Change,
        state::AttemptState,
    },
    ids::AttemptId,
    stores::together::{Flush, Lane, Together, Written},
};

impl Together for Event {
    type Outcome = Outcome;
    type Key = AttemptId;
    const MOST: usize = 64;

    fn key(&self) -> AttemptId {
        self.attempt
    }

    async fn write(db: &mut PgConnection, all: &[Self]) -> sqlx::Result<Vec<Self::Outcome>> {
        if all.is_empty() {
            events::plan(db).await?;
        }
        events::apply_all(db, all).await
    }

    /// The rank only grows: an event that was applied already moves nothing.
    fn repeatable(_: &sqlx::Error) -> bool {
        true
    }

    fn is_to_be_written_again(outcome: &Outcome) -> bool {
        outcome.again
    }

    /// An end frees a slot, and the next claim, which is flushed, takes the end along. Only the carrier must wait for it. What
    /// else is lost in a crash of Postgres costs a look at the carrier.
    fn is_flushed_apart(&self) -> bool {
        self.state == AttemptState::Ended
    }
}

/// The events of a process on their way into the ledger.
#[derive(Clone)]
pub struct Batches(Lane<Event>);

impl Batches {
    /// Batches over this pool.
    #[must_use]
    pub fn new(pg: &PgPool) -> Self {
        Self(Lane::new(pg))
    }

    /// Makes the plans of the first event.
    pub async fn warm(&self) {
        self.0.warm().await;
    }

    /// Ends their connection.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// The same as [`events::apply`]. The change may be acted upon at once; a carrier may be told only after the flush.
    ///
    /// # Errors
    /// Where Postgres does not answer: nothing is known then, and the same call may be made again.
    pub async fn apply(&self, event: Event) -> sqlx::Result<(Option<Change>, Flush)> {
        let Written { outcome, flush } = self.0.write(event).await?;
        Ok((outcome.change, flush))
    }

    /// Applies an answer that asks what its call may hear; `None` where it must hear nothing: its attempt is closed, cancelled,
    /// unknown, another call's, or was answered too long after its ringing should have ended.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn answer(&self, question: Event) -> sqlx::Result<Option<Answer>> {
        Ok(self.0.write(question).await?.outcome.answer)
    }
}
