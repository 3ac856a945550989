//! What comes while others of its kind are being written is written together with them: one round trip and one commit for all.
//!
//! What comes alone is written at once. While a batch is under way, and for a moment after one of several began, the next one gathers:
//! the wait is a few milliseconds at most, and the busier it is, the less each costs. Nobody is told before the batch has committed;
//! a batch that surely was not written is repeated one by one, so that what cannot be written spoils no other.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{PgConnection, PgPool};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::kept::Kept;

/// The next batch begins so much later for each that was in the one before it beside the first: what a batch costs is mostly itself, not
/// what is in it, so the more there is to write, the more it is worth to wait for. Behind what came alone nothing waits.
const APART_FOR_EACH: Duration = Duration::from_millis(3);
/// But no more than this: somebody's next call waits for it.
const MOST_APART: Duration = Duration::from_millis(8);
/// What came alone and is to be flushed apart waits so long for the commit of whoever acts upon it: two at once would wait for one
/// another at the disk, and the one that a number waits for goes first. Where much is written the disk is never idle.
const FLUSHED_AFTER: Duration = Duration::from_millis(5);
/// Postgres lets no statement take this long (`statement_timeout`): a connection that is silent for so long is left for another.
const SILENT: Duration = Duration::from_secs(5);

/// What can be written together with others of its kind.
pub trait Together: Send + Sync + Sized + 'static {
    /// What becomes of one.
    type Outcome: Send + 'static;
    /// What rows are locked by, in this order; only one of each key is in a batch.
    type Key: Ord + Clone + Send;
    /// Most in one batch: their rows are locked until it commits.
    const MOST: usize;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// Writes them in one transaction; one outcome for each, in their order.
    fn write(db: &mut PgConnection, all: &[Self]) -> impl Future<Output = sqlx::Result<Vec<Self::Outcome>>> + Send;

    /// True where what failed so may be written once more.
    fn repeatable(error: &sqlx::Error) -> bool;

    /// True where nothing was done for it, so that it goes into the next batch: what it is about was locked by somebody else, whom this
    /// batch must not wait for.
    fn is_to_be_written_again(_: &Self::Outcome) -> bool {
        false
    }

    /// True where it is committed without a flush and somebody must not be told of it before it is on the disk.
    fn is_flushed_apart(&self) -> bool;
}

/// Something that was written, seen by every transaction from now on, and flushed by the commit of each that has seen it.
#[derive(Debug)]
pub struct Written<T> {
    /// What became of it.
    pub outcome: T,
    /// Its own way to the disk.
    pub flush: Flush,
}

/// What is on its way to the disk.
#[derive(Debug)]
pub struct Flush(oneshot::Receiver<sqlx::Result<()>>);

impl Flush {
    /// Waits until it would survive a crash of Postgres.
    ///
    /// # Errors
    /// Where Postgres did not say so: nobody may be told of it then.
    pub async fn done(self) -> sqlx::Result<()> {
        self.0.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

/// Whom to tell of the outcome and of the flush.
type Told<T> = (oneshot::Sender<sqlx::Result<T>>, oneshot::Sender<sqlx::Result<()>>);
type Waiting<E> = (E, Told<<E as Together>::Outcome>);

/// One batch at a time: two at once would be smaller ones, and cost more than they save.
pub struct Lane<E: Together> {
    connection: Arc<Kept>,
    queue: Arc<Mutex<Queue<E>>>,
    came: Arc<Notify>,
}

struct Queue<E: Together> {
    waiting: VecDeque<Waiting<E>>,
    under_way: bool,
    /// The next batch does not begin before this.
    next_at: Option<Instant>,
}

impl<E: Together> Clone for Lane<E> {
    fn clone(&self) -> Self {
        Self { connection: self.connection.clone(), queue: self.queue.clone(), came: self.came.clone() }
    }
}

impl<E: Together> Lane<E> {
    /// A lane into the database of this pool, over a connection of its own.
    #[must_use]
    pub fn new(pg: &PgPool) -> Self {
        let queue = Queue { waiting: VecDeque::new(), under_way: false, next_at: None };
        Self { connection: Arc::new(Kept::like(pg)), queue: Arc::new(Mutex::new(queue)), came: Arc::default() }
    }

    /// Writes nothing, so that Postgres has made its plans before there is anything to write: that takes a tenth of a second.
    pub async fn warm(&self) {
        let (written, db) = self.written(None, &[]).await;
        if let Err(error) = written {
            tracing::debug!(%error, "nothing could be written yet");
        }
        self.keep(db);
    }

    /// Ends its connection: what is written from now on fails.
    pub async fn close(&self) {
        self.connection.close().await;
    }

    /// Writes one with whatever else there is; it is written even where the caller does not wait for the outcome.
    ///
    /// # Errors
    /// Where Postgres does not answer: nothing is known then.
    pub async fn write(&self, one: E) -> sqlx::Result<Written<E::Outcome>> {
        let (told, outcome) = oneshot::channel();
        let (flushed, flush) = oneshot::channel();
        let first = {
            let mut queue = self.lock();
            queue.waiting.push_back((one, (told, flushed)));
            !std::mem::replace(&mut queue.under_way, true)
        };
        if first {
            // A task of its own: whoever asked may be gone before the batch is.
            tokio::spawn(self.clone().write_all());
        } else {
            self.came.notify_one();
        }
        let outcome = outcome.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?;
        Ok(Written { outcome, flush: Flush(flush) })
    }

    async fn write_all(self) {
        // Also after a panic the next one must find somebody to write it.
        let under_way = UnderWay(&self);
        let mut unflushed: Option<Unflushed> = None;
        loop {
            let next_at = self.lock().next_at.unwrap_or_else(Instant::now);
            if let Some(due) = unflushed.take_if(|waits| waits.until <= next_at.max(Instant::now())) {
                sleep_until(due.until).await;
                self.keep(due.flush().await);
            }
            sleep_until(next_at).await;
            if let Some(batch) = self.next_batch(unflushed.is_some()) {
                unflushed = self.write_batch(batch, unflushed).await;
            } else if let Some(waits) = &unflushed {
                let _ = timeout_at(waits.until, self.came.notified()).await;
            } else {
                break;
            }
        }
        std::mem::forget(under_way);
    }

    /// The first of each key that waits, sorted; the others keep their place. The turn goes on without any where something is
    /// `unflushed`.
    fn next_batch(&self, unflushed: bool) -> Option<Vec<Waiting<E>>> {
        let mut queue = self.lock();
        if queue.waiting.is_empty() {
            queue.under_way = unflushed;
            return None;
        }
        let mut taken = std::collections::BTreeMap::new();
        let mut later = VecDeque::new();
        for one in queue.waiting.drain(..) {
            let key = one.0.key();
            if taken.len() == E::MOST || taken.contains_key(&key) {
                later.push_back(one);
            } else {
                taken.insert(key, one);
            }
        }
        queue.waiting = later;
        let batch: Vec<Waiting<E>> = taken.into_values().collect();
        let others = u32::try_from(batch.len().saturating_sub(1)).unwrap_or(u32::MAX);
        queue.next_at = Some(Instant::now() + APART_FOR_EACH.saturating_mul(others).min(MOST_APART));
        Some(batch)
    }

    /// Writes a batch over the connection that made what is not flushed yet, which is given back with it and with what joins it.
    async fn write_batch(&self, batch: Vec<Waiting<E>>, unflushed: Option<Unflushed>) -> Option<Unflushed> {
        let (all, told): (Vec<E>, Vec<_>) = batch.into_iter().unzip();
        let (db, until, mut waiting) =
            unflushed.map_or_else(Default::default, |before| (Some(before.db), Some(before.until), before.waiting));
        let (outcomes, db) = self.outcomes(db, &all, &mut waiting).await;
        let alone = if all.len() == 1 { FLUSHED_AFTER } else { Duration::ZERO };
        for ((one, (told, flushed)), outcome) in all.into_iter().zip(told).zip(outcomes) {
            if outcome.as_ref().is_ok_and(E::is_to_be_written_again) {
                self.lock().waiting.push_back((one, (told, flushed)));
                continue;
            }
            // Whoever is gone does not hear it; it is written all the same.
            drop(told.send(outcome));
            if one.is_flushed_apart() {
                waiting.push(flushed);
            } else {
                drop(flushed.send(Ok(())));
            }
        }
        // What a broken connection wrote, nobody calls flushed.
        let db = db?;
        if waiting.is_empty() {
            self.keep(Some(db));
            return None;
        }
        Some(Unflushed { db, until: until.unwrap_or_else(|| Instant::now() + alone), waiting })
    }

    /// What became of each, and the connection over which all of it was written. Where that is not the one that it was given, those who
    /// wait for what went over it before are told that nobody knows.
    async fn outcomes(
        &self,
        db: Option<PgConnection>,
        all: &[E],
        before: &mut Vec<oneshot::Sender<sqlx::Result<()>>>,
    ) -> (Vec<sqlx::Result<E::Outcome>>, Option<PgConnection>) {
        let (written, db) = self.written(db, all).await;
        if db.is_none() {
            before.clear();
        }
        let error = match written {
            Ok(outcomes) => return (outcomes.into_iter().map(Ok).collect(), db),
            Err(error) if all.len() == 1 => return (vec![Err(error)], db),
            Err(error) => error,
        };
        let lost = || all.iter().map(|_| Err(sqlx::Error::WorkerCrashed)).collect();
        if !E::repeatable(&error) {
            tracing::warn!(%error, batch = all.len(), "nobody knows whether a batch was written");
            return (lost(), db);
        }
        tracing::warn!(%error, batch = all.len(), "a batch was not written; each of it is tried alone");
        let Ok(mut db) = self.connection.again(db).await.map(Some) else { return (lost(), None) };
        let mut outcomes = Vec::with_capacity(all.len());
        for one in all {
            let Some(open) = db.take() else {
                outcomes.push(Err(sqlx::Error::WorkerCrashed));
                continue;
            };
            let (alone, still_open) = written_over::<E>(open, std::slice::from_ref(one)).await;
            outcomes.push(alone.and_then(|mut one| one.pop().ok_or(sqlx::Error::RowNotFound)));
            db = still_open;
        }
        (outcomes, db)
    }

    async fn written(
        &self,
        db: Option<PgConnection>,
        all: &[E],
    ) -> (sqlx::Result<Vec<E::Outcome>>, Option<PgConnection>) {
        match self.connection.again(db).await {
            Ok(db) => written_over(db, all).await,
            Err(error) => (Err(error), None),
        }
    }

    fn keep(&self, db: Option<PgConnection>) {
        if let Some(db) = db {
            self.connection.put_back(db);
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

/// Writes all, over a connection that is not given back where it broke.
async fn written_over<E: Together>(
    mut db: PgConnection,
    all: &[E],
) -> (sqlx::Result<Vec<E::Outcome>>, Option<PgConnection>) {
    let written = timeout(SILENT, E::write(&mut db, all)).await.unwrap_or_else(|_| Err(silent()));
    // 57P: Postgres says itself that it ends the connection. 25006: it is a standby, and the next connection may find the primary
    // (PostgreSQL manual, appendix A).
    let of_another = |code: &str| code.starts_with("57P") || code == "25006";
    let ended =
        |error: &sqlx::Error| error.as_database_error().is_none_or(|e| e.code().is_some_and(|code| of_another(&code)));
    let broken = written.as_ref().is_err_and(ended);
    (written, (!broken).then_some(db))
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "Postgres is silent on this connection"))
}

/// What is committed, and not on the disk yet: over which connection, until when that waits, and who is to be told.
struct Unflushed {
    db: PgConnection,
    until: Instant,
    waiting: Vec<oneshot::Sender<sqlx::Result<()>>>,
}

impl Unflushed {
    /// A commit that waits for the disk takes every commit before it along. Over the connection that made them: were Postgres to
    /// crash in between, it would be broken. Returns the connection where it is not.
    async fn flush(mut self) -> Option<PgConnection> {
        let commit = sqlx::query_scalar!("SELECT pg_logical_emit_message(true, 'rollcall', '')::text");
        let committed = timeout(SILENT, commit.fetch_one(&mut self.db)).await.unwrap_or_else(|_| Err(silent()));
        if let Err(error) = &committed {
            tracing::warn!(%error, batch = self.waiting.len(), "nobody knows whether a batch is on the disk");
        }
        for flushed in self.waiting {
            drop(flushed.send(committed.as_ref().map(|_| ()).map_err(|_| sqlx::Error::WorkerCrashed)));
        }
        committed.is_ok().then_some(self.db)
    }
}
