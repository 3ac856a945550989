//! Claims of a process, written together: see `stores::together`.

use sqlx::{PgConnection, PgPool};

use crate::{
    config::Times,
    ids::BusinessId,
    jobs::claim::{self, Claimed, Got, Wanted, surely_not_committed},
    stores::together::{Lane, Together},
};

/// Claims of one look that take jobs which may not be dialed out of the way; the sweep rings for what is left.
const MOST_LOOKS: usize = 16;

struct One {
    wanted: Wanted,
    times: Times,
}

impl Together for One {
    type Outcome = Got;
    type Key = BusinessId;
    const MOST: usize = 16;

    fn key(&self) -> BusinessId {
        self.wanted.business
    }

    async fn write(db: &mut PgConnection, all: &[Self]) -> sqlx::Result<Vec<Self::Outcome>> {
        let wanted: Vec<&Wanted> = all.iter().map(|one| &one.wanted).collect();
        let (grace_ms, retry_ms) =
            all.first().map_or((0, 0), |one| (one.times.intent_grace_ms, one.times.refused_retry_ms));
        claim::claim_all(db, &wanted, (grace_ms, retry_ms)).await
    }

    /// A claim that may have been committed is never made again: whoever asked looks for its intents.
    fn repeatable(error: &sqlx::Error) -> bool {
        surely_not_committed(error)
    }

    fn is_flushed_apart(&self) -> bool {
        false
    }
}

/// The claims of a process on their way into the ledger.
#[derive(Clone)]
pub struct Claims {
    lane: Lane<One>,
    pg: PgPool,
}

impl Claims {
    /// Claims in this pool.
    #[must_use]
    pub fn new(pg: &PgPool) -> Self {
        Self { lane: Lane::new(pg), pg: pg.clone() }
    }

    /// Makes the plans of the first claim.
    pub async fn warm(&self) {
        self.lane.warm().await;
    }

    /// Ends their connection.
    pub async fn close(&self) {
        self.lane.close().await;
    }

    /// The same as [`claim::claim`], together with other businesses' claims where there are any.
    ///
    /// # Errors
    /// Where Postgres does not answer: unless [`surely_not_committed`], the commit may have happened all the same.
    pub async fn claim(&self, wanted: Wanted, times: &Times) -> sqlx::Result<Vec<Claimed>> {
        let Got { mut claimed, mut again, mut blocked } =
            self.lane.write(One { wanted: wanted.clone(), times: times.clone() }).await?.outcome;
        let mut wanted = wanted;
        for _ in 0..MOST_LOOKS {
            wanted.held.retain(|held| !claimed.iter().any(|one| one.attempt == held.attempt));
            if !blocked.is_empty() {
                // Also where nothing is held any more: the next claim is to find what comes behind them.
                match claim::make_way(&self.pg, &wanted, &blocked).await {
                    Ok(any) => again |= any,
                    Err(error) => {
                        tracing::warn!(business.id = %wanted.business, %error, "jobs that may not be dialed stay in the way of others");
                    }
                }
            }
            if !again || wanted.held.is_empty() {
                break;
            }
            match claim::claim_alone(&self.pg, &wanted, times).await {
                Ok(got) => {
                    claimed.extend(got.claimed);
                    (again, blocked) = (got.again, got.blocked);
                }
                // What was claimed is sent; the sweep rings for the rest.
                Err(error) if !claimed.is_empty() && surely_not_committed(&error) => {
                    tracing::warn!(business.id = %wanted.business, %error, "the rest of a claim failed");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(claimed)
    }
}
