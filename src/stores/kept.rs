//! A connection that is kept for as long as the process: the plans of a large function cost more than hundred executions, and
//! belong to a connection. A pool would also ask it at every turn whether it is still there.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

/// Longest time to connect, and to answer whether one is still there.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// One that was used this lately is surely there, or says otherwise at its next use.
const FRESH: Duration = Duration::from_secs(1);

/// The connection of one kind of work, for one at a time.
pub(super) struct Kept {
    options: PgConnectOptions,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    one: Option<(PgConnection, Instant)>,
    closed: bool,
}

impl Kept {
    /// A connection like those of a pool, made at its first use.
    pub(super) fn like(pool: &PgPool) -> Self {
        Self { options: pool.connect_options().as_ref().clone(), idle: Mutex::default() }
    }

    /// The connection, or this one where there is one already. Whoever does not [put it back](Self::put_back) ends it.
    ///
    /// # Errors
    /// Where Postgres does not let us in, within 2 s; `PoolClosed` after [`Kept::close`].
    pub(super) async fn again(&self, had: Option<PgConnection>) -> sqlx::Result<PgConnection> {
        if let Some(had) = had {
            return Ok(had);
        }
        let kept = {
            let mut idle = self.lock();
            if idle.closed {
                return Err(sqlx::Error::PoolClosed);
            }
            idle.one.take()
        };
        if let Some((mut connection, used)) = kept
            && (used.elapsed() < FRESH || answers(&mut connection).await)
        {
            return Ok(connection);
        }
        timeout(CONNECT_LIMIT, PgConnection::connect_with(&self.options))
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// Keeps it for the next use, unless it is closed: then it ends.
    pub(super) fn put_back(&self, connection: PgConnection) {
        let mut idle = self.lock();
        if !idle.closed {
            idle.one = Some((connection, Instant::now()));
        }
    }

    /// Ends it, or lets its use be the last.
    pub(super) async fn close(&self) {
        let one = {
            let mut idle = self.lock();
            idle.closed = true;
            idle.one.take()
        };
        if let Some((connection, _)) = one {
            // It ends either way.
            drop(connection.close().await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    timeout(CONNECT_LIMIT, connection.ping()).await.is_ok_and(|pong| pong.is_ok())
}
